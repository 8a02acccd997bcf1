"""The benchmark runs and its ways agree; what it times is not asserted."""

import numpy as np
import pytest

from studies import losses as benchmark


def test_ways_agree_and_the_table_is_complete(capsys):
    (title, rows), (_, passes) = benchmark.benchmark(rounds=1, shapes=((8, 20),)).items()
    copy, *others = passes
    assert copy["over least"] == pytest.approx(1)
    assert copy["MB"] == 2 * 8 * 20 * 4 / 1e6
    for row in others:
        least = row["MB"] * copy["ms"] / copy["MB"]
        assert row["over least"] == pytest.approx(row["ms"] / least)
    assert [row.pop("timed") for row in rows] == ["8 x 20, value", "8 x 20, value and gradient"]
    for row in rows:
        assert set(row) >= {"optax", "dense", "diagonal", "smoothing", "naive", "optax soft"}
        assert row["optax"] == 1.0
        assert all(ratio > 0 for ratio in row.values())
    said = capsys.readouterr().out
    assert title in said
    assert "8 x 20, value and gradient" in said
    found = benchmark.candidates((8, 20), 0)

    def result(name):
        return found[name][1]()

    for ours, other in (("dense", "naive"), ("smoothing", "optax soft")):
        (loss, slope), (wanted, steep) = result(ours), result(other)
        np.testing.assert_allclose(loss, wanted, rtol=1e-5)
        np.testing.assert_allclose(slope, steep, atol=1e-6)
