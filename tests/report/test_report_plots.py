"""Figures: files of the right size, with the rally where it should be, or no file at all."""

import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from diffsim.report import learning_curves, rallies, scene
from diffsim.report.plots import run_quantiles
from diffsim.report.stage import VIEWS, Stage, ball_points, hues, outline, paths_of
from diffsim.report.track import Track, tracks


def pixels(path) -> np.ndarray:
    with Image.open(path) as image:
        image.verify()
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB")).astype(int)


@pytest.fixture
def stages(monkeypatch):
    """The stages drawn in this test."""
    made, create = [], Stage.create

    def spy(*args, **options):
        made.append(create(*args, **options))
        return made[-1]

    monkeypatch.setattr(Stage, "create", spy)
    return made


def around(stage, picture, point, view):
    """Colours (25, 3) of the 5 × 5 pixels around a point of the world."""
    x, y = stage.panels[view].transData.transform(point[list(VIEWS[view])])
    row, column = round(picture.shape[0] - y), round(x)
    return picture[row - 2 : row + 3, column - 2 : column + 3].reshape(-1, 3)


AWAY = np.linspace(0.05, 0.3, 7)  # s, clear of start and impacts


def test_rallies_are_drawn_where_the_balls_fly(rally, stages, tmp_path):
    targets, path = np.array([0.9, -0.1, 0.76]), tmp_path / "new" / "folder" / "rally.png"
    one = rally.one()
    written = rallies(rally.world, one, rally.path, path=path, targets=targets, title="A")
    assert written == path
    assert [p.name for p in path.parent.iterdir()] == ["rally.png"]  # no temporary file left
    (stage,), picture = stages, pixels(path)
    box = stage.figure.bbox
    assert picture.shape[:2] == (round(box.height), round(box.width))
    track = Track.of(one)
    for view in VIEWS:
        for point in [*track(AWAY)[0], targets]:
            assert around(stage, picture, point, view).max(axis=1).min() < 80, "no dark ink there"
        for point, surface in zip(track.hit_positions, track.hit_surfaces):
            hue = np.array([int(hues(rally.world)[surface][i : i + 2], 16) for i in (1, 3, 5)])
            off = np.abs(around(stage, picture, point, view) - hue).sum(axis=1)
            assert off.min() < 12, "impact not marked"
        (x, y), *_ = np.diff(stage.panels[view].transData.transform([(0, 0), (1, 1)]), axis=0)
        assert x == pytest.approx(y, rel=1e-3)  # to scale


def test_a_second_rally_is_drawn_too(rally, stages, tmp_path):
    other = Track.of(jax.tree.map(lambda leaf: leaf[1], rally.rollouts))(AWAY)[0]
    contrast = []
    for rollouts in (rally.one(), rally.rollouts):
        picture = pixels(rallies(rally.world, rollouts, rally.path, path=tmp_path / "a.png"))
        patches = [around(stages[-1], picture, point, "above") for point in other]
        contrast.append([np.ptp(patch, axis=0).max() for patch in patches])
    assert np.max(contrast[0]) < 20 < 60 < np.min(contrast[1])


def test_the_outline_of_a_patch_has_its_corners_and_its_rim(rally):
    top, _, _, paddle = rally.world.surfaces
    rim = outline(paddle, np.ones(3), np.eye(3)) - 1
    np.testing.assert_allclose(np.linalg.norm(rim, axis=1), 0.08, rtol=1e-6)
    edge = outline(top, np.zeros(3), np.eye(3))
    corners = np.abs(edge[np.argsort(-np.linalg.norm(edge, axis=1))[:4], :2])
    np.testing.assert_allclose(corners, [[1.37, 0.7625]] * 4, rtol=1e-6)
    np.testing.assert_allclose(np.abs(edge).max(axis=0), [1.37, 0.7625, 0], rtol=1e-6)


def test_everything_drawn_is_in_view(rally):
    found = tracks(rally.rollouts)
    stage = Stage.create(rally.world, ball_points(found), dpi=50)
    for view, axes in (("side", stage.panels["side"]), ("above", stage.panels["above"])):
        points = np.concatenate([t.positions for t in found])[:, VIEWS[view]]
        (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
        assert left < points[:, 0].min() < points[:, 0].max() < right
        assert low < points[:, 1].min() < points[:, 1].max() < high
        assert left < -1.37 < 1.37 < right
    assert stage.panels["side"].get_ylim()[0] < 0  # the floor


def test_a_scene_has_height_and_speed_over_time(rally, tmp_path):
    path = scene(rally.world, rally.one(), rally.path, path=tmp_path / "scene.png")
    picture = pixels(path)
    assert picture.shape[0] > picture.shape[1] > 800
    assert (picture < 250).any(axis=2).mean() > 0.05
    assert scene(rally.world, rally.one(), path=tmp_path / "s.svg").read_text().startswith("<?xml")
    with pytest.raises(ValueError, match="expected one, got a batch"):
        scene(rally.world, rally.rollouts, rally.path, path=tmp_path / "batch.png")


def test_bad_arguments_raise_and_leave_nothing(rally, tmp_path):
    one, path = rally.one(), tmp_path / "out" / "a.png"
    for options, message in (
        ({"path": tmp_path / "a.bmp"}, r"ending in .png or .pdf or .svg or .jpg, got 'a"),
        ({"path": path, "targets": [1.0, 2.0]}, r"targets: expected shape \(3,\) or \(k, 3\)"),
        ({"path": path, "paths": [rally.path, rally.path]}, "one for each of 1 rollouts, got a li"),
        ({"path": path, "paths": (rally.path, rally.path)}, "one for each of 1 driven surfaces"),
    ):
        with pytest.raises(ValueError, match=message):
            rallies(rally.world, one, **options)
    assert list(tmp_path.iterdir()) == []
    assert paths_of(rally.world, None, 2) == [(), ()]


def test_a_failed_write_keeps_the_old_file(rally, tmp_path, monkeypatch):
    from matplotlib.figure import Figure

    path = tmp_path / "rally.png"
    path.write_bytes(b"old")

    def fails(self, target, **_):
        Path(target).write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(Figure, "savefig", fails)
    with pytest.raises(OSError, match="disk full"):
        rallies(rally.world, rally.one(), path=path)
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("rally.png", b"old")]


def runs(rate, seeds=3):
    step = np.arange(0, 200, 10)
    return [
        {
            "step": step,
            "evaluations": 64 * step,
            "seconds": 0.1 * step * (1 + seed),
            "loss": np.exp(-rate * step) + 0.1 * seed,
            "hit_rate": 1 - np.exp(-rate * step),
            "legal_rate": 1 - np.exp(-rate * step / 2),
            "landing_error_cm": [None if i == 3 else 50 * np.exp(-rate * s) for i, s in
                                 enumerate(step)],
        }
        for seed in range(seeds)
    ]  # fmt: skip


def test_learning_curves_overlay_labels(tmp_path):
    both = {"analytic": runs(0.03), "score function": runs(0.01)}
    picture = pixels(learning_curves(both, path=tmp_path / "both.png", x="seconds"))
    assert picture.shape == (520, 1640, 3)
    second_hue = np.array([0xD5, 0x5E, 0x00])
    assert (np.abs(picture - second_hue).sum(axis=2) < 12).sum() > 500
    run = {"step": [0, 10], "loss": [2.0, 1.0], "landing_error_cm": [0.0, 0.0]}
    picture = pixels(learning_curves({"analytic": run}, path=tmp_path / "one.png"))
    assert picture.shape == (520, 1120, 3)  # two panels, one of them without a curve
    assert (np.abs(picture - second_hue).sum(axis=2) < 12).sum() == 0


def test_bands_are_quantiles_on_the_shared_range():
    seeds = [
        {"seconds": [0.0, 2.0, 4.0], "loss": [0.0, 2.0, 4.0]},
        {"seconds": [1.0, 3.0], "loss": [11.0, 13.0]},
        {"seconds": [0.0, 5.0, 9.0], "loss": [20.0, 25.0, np.nan]},
    ]
    at, found = run_quantiles("a", seeds, "seconds", "loss", (0, 0.5, 1))
    np.testing.assert_allclose(at, [1, 2, 3])
    np.testing.assert_allclose(found, [[1, 2, 3], [11, 12, 13], [21, 22, 23]])
    assert run_quantiles("a", seeds, "seconds", "hit_rate", (0, 0.5, 1)) is None


@pytest.mark.parametrize(
    ("metrics", "options", "message"),
    [
        ({}, {}, "metrics: expected a column to draw, got none"),
        ({"a": {"step": [1], "reward": [1]}}, {}, "expected a column to draw, got reward, step"),
        ({"a": {"loss": [1]}}, {}, "expected a column 'step' in 'a', got loss"),
        ({"a": {"step": [1, 2], "loss": [1]}}, {}, r"as long as 'step' \(2,\), got \(1,\)"),
        ({"a": {"step": [1], "loss": [1]}}, {"x": "epoch"}, "x: expected one of step, evaluations"),
        ({"a": {"step": [1], "loss": [1]}}, {"band": "std"}, "band: expected one of range, quart"),
    ],
)
def test_bad_metrics_raise(tmp_path, metrics, options, message):
    with pytest.raises(ValueError, match=message):
        learning_curves(metrics, path=tmp_path / "c.png", **options)
    assert list(tmp_path.iterdir()) == []


def test_importing_the_package_does_not_import_matplotlib():
    code = "import sys, diffsim.report; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
