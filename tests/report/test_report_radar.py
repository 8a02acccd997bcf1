"""The radar's report: text and picture of given results, the whole script, and bad input."""

from pathlib import Path

import jax
import numpy as np
import pytest
import script
from PIL import Image

from diffsim.physics import BallState
from diffsim.tasks import RadarTracking
from diffsim.tasks.radar import Landing, Located
from reports import radar

ROOT = Path(__file__).parents[2]


def run(*arguments):
    return script.run("radar", *arguments)


def test_text_and_picture(tmp_path):
    """Two noises with errors of ±3 and ±1 mm, twice as far as the covariance says."""
    tracking = RadarTracking.create(pulses=2)
    state = BallState.create([1.2, 0.0, 1.1], [-5.0, 0.0, 1.0])
    states = jax.tree.map(lambda leaf: np.tile(leaf, (3, 1)), state)
    ball = Located(states, np.tile(1e-6 * np.eye(6), (3, 1, 1)), np.full(3, 2.0))
    point = np.array([[-0.5, 0.1], [-0.497, 0.101], [-0.503, 0.099]])
    covariance = np.tile(np.diag([1.5e-3**2, 0.5e-3**2]), (3, 1, 1))
    landing = Landing(point, covariance, np.ones(3, bool))
    text = radar._text(radar._numbers(ball, landing, np.arange(24.0).reshape(2, 4, 3)))
    assert "over 2 noises, x and y: 3.00, 1.00 mm; by the Cramér–Rao bound 1.50, 0.50 mm" in text
    assert "position (1.2000 ± 0.0010, " in text
    last = text.splitlines()[-1]
    assert "landing x   9.000  10.000  11.000   landing y  21.000  22.000  23.000" in last
    file = tmp_path / "radar.png"
    radar._draw(file, tracking, tracking.listen(state), ball, landing)
    with Image.open(file) as image:
        assert image.size == (2100, 640)
        assert len(np.unique(np.asarray(image.convert("L")))) > 50
    assert [one.name for one in tmp_path.iterdir()] == ["radar.png"]


def test_bad_input_is_one_line(capsys):
    for arguments, message in (
        (("--trials", "1"), "error: trials: expected at least 2, got 1\n"),
        (("--plot", "x.bmp"), "error: path: expected a name ending in .png or .pdf or .svg"),
        (("--pulses", "1"), "error: pulses: expected at least 2"),
        (("--interval", "-1"), "error: interval: expected a positive number of s, got -1.0\n"),
    ):
        assert run(*arguments) == 2
        assert capsys.readouterr().err.startswith(message)


@pytest.mark.slow
def test_script(tmp_path, capsys):
    file = tmp_path / "radar.svg"
    assert run("--trials", "100", "--plot", str(file)) == 0
    line = next(row for row in capsys.readouterr().out.splitlines() if row.startswith("error of"))
    found, bound = (
        np.array([float(x) for x in part.split(" mm")[0].split()[-2:]])
        for part in line.replace(",", "").split(";")
    )
    # The error of a deviation over 100 trials is 7 %.
    np.testing.assert_allclose(found, bound, rtol=0.25)
    assert file.exists()
