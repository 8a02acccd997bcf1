"""The benchmark runs and its ways agree; what it times is not asserted."""

import numpy as np

from studies import losses as benchmark


def test_ways_agree_and_the_table_is_complete(capsys):
    ratios = benchmark.benchmark(rounds=1, shapes=((8, 20),))
    assert set(ratios) >= {"optax", "dense", "diagonal", "smoothing", "naive", "optax soft"}
    assert ratios["optax"] == {"8 x 20, value": 1.0, "8 x 20, value and gradient": 1.0}
    assert all(ratio > 0 for row in ratios.values() for ratio in row.values())
    assert "8 x 20, value and gradient: optax" in capsys.readouterr().out
    found = benchmark.candidates((8, 20), 0)

    def result(name):
        return found[name][1]()

    for ours, other in (("dense", "naive"), ("smoothing", "optax soft")):
        (loss, slope), (wanted, steep) = result(ours), result(other)
        np.testing.assert_allclose(loss, wanted, rtol=1e-5)
        np.testing.assert_allclose(slope, steep, atol=1e-6)
