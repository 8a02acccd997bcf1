"""Weak scaling: efficiencies of known times, and (slow) a measurement."""

import numpy as np
import pytest

from studies import scaling


def test_efficiencies_of_known_times(tmp_path):
    # Two devices take the same wall time for twice the work, four twice as long; dividing is free
    # for two, and costs half as much again for four. One turn is slow for all, and says nothing.
    turns = np.array([1.0, 1.0, 5.0, 1.0])
    wall, cpu = np.outer([2.0, 2.0, 4.0], turns), np.outer([1.0, 2.0, 6.0], turns)
    rows = scaling._rows((1, 2, 4), np.stack([wall, cpu], axis=-1))
    for clock, wanted in {"wall": [1, 1, 0.5], "cpu": [1, 1, 2 / 3]}.items():
        for end in ("efficiency", "low", "high"):
            np.testing.assert_allclose([row[f"{clock}_{end}"] for row in rows], wanted)
    assert [row["wall_seconds"] for row in rows] == [2, 2, 4]
    assert [row["least_efficiency"] for row in rows] == [1, 1, 0.5]
    assert [scaling._most(count, 1, 2) for count in (1, 2, 4)] == [1, 1, 0.5]
    scaling._draw(rows, 2, tmp_path / "scale.png")
    assert (tmp_path / "scale.png").read_bytes()[1:4] == b"PNG"


def test_quartiles_are_of_ratios():
    seconds = np.ones((2, 5, 2))
    seconds[1, :, 0] = [1, 2, 4, 4, 8]
    row = scaling._rows((1, 2), seconds)[1]
    assert [row[f"wall_{end}"] for end in ("low", "efficiency", "high")] == [0.25, 0.25, 0.5]
    assert row["least_efficiency"] == 1


def test_a_process_that_ends_early_is_an_error(monkeypatch, tmp_path):
    monkeypatch.setenv("XLA_FLAGS", "--no_such_flag")
    with pytest.raises(RuntimeError, match="a measuring process ended with code"):
        scaling.benchmark((1,), 2, 1, path=tmp_path / "scale.png")


@pytest.mark.slow
def test_benchmark_measures(tmp_path, capsys):
    path = tmp_path / "scale.svg"
    rows = scaling.benchmark((1, 2), 2, 3, "score-function", path=path)
    assert [row["devices"] for row in rows] == [1, 2]
    assert rows[0]["wall_efficiency"] == 1
    assert 0.05 < rows[1]["wall_efficiency"] < 20
    assert rows[1]["cpu_seconds"] > 0
    assert "Weak scaling: 2 serves a device" in capsys.readouterr().out
    assert path.read_text().startswith("<?xml")
