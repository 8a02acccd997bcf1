"""Closed-loop gradients side by side, on a task that costs nothing."""

import json

import pytest
from drift import Drift

from diffsim import envs
from diffsim.training.metrics import read
from studies.closed_loop import compare


@pytest.mark.slow
def test_compare_writes_curves_and_goes_on_where_it_was(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(envs.ENVS, "drift", Drift)
    compare("drift", ("score-function",), seeds=2, steps=3, out=tmp_path)
    for name in ("steps.png", "seconds.png"):
        assert (tmp_path / name).read_bytes()[1:4] == b"PNG"
    rows = read(tmp_path / "score-function-1" / "metrics.csv")
    assert [row["step"] for row in rows] == [0, 3]
    assert rows[1]["control_steps"] == 3 * 256 * 32
    assert rows[0]["return"] != read(tmp_path / "score-function-0" / "metrics.csv")[0]["return"]
    file = tmp_path / "score-function-0" / "measures.json"
    saved = json.loads(file.read_text())
    assert len(saved["survival_rate"]) == 3
    assert 0 < saved["seconds"][0] <= 2
    stamp = file.stat().st_mtime_ns
    capsys.readouterr()
    compare("drift", ("score-function",), seeds=2, steps=3, out=tmp_path)
    assert file.stat().st_mtime_ns == stamp
    text = capsys.readouterr().out
    assert "score-function, seed 1" in text
    assert "update" not in text


def test_compare_refuses_a_gradient_it_does_not_know(tmp_path):
    with pytest.raises(ValueError, match="gradient: expected one of pathwise"):
        compare(gradients=("newton",), out=tmp_path)
