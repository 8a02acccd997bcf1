"""The delay estimators beside others', in accuracy and time."""

import importlib.util

import pytest

from studies.delay import benchmark


@pytest.mark.slow
def test_benchmark_ratios(capsys):
    (found,) = benchmark(scans=100).values()
    rows = {row["method"]: (row["RMSE/√CRB"], row["s per 1000"]) for row in found}
    slow = rows["NumPy root-MUSIC"][1]
    assert slow / rows["whole chain with maximum likelihood"][1] > 15
    assert slow / rows["root-MUSIC"][1] > 25
    assert rows["whole chain with maximum likelihood"][0] < 1.1
    missing = importlib.util.find_spec("doatools") is None
    assert ("not installed (pip install git+" in capsys.readouterr().out) == missing
    assert missing or rows["doatools ESPRIT"][0] < 2
