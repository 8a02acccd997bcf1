"""The benchmark of a machine: every kernel, small; what is timed is not asserted."""

import json
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from studies import accelerator

SMALL = accelerator.Sizes(((8, 20),), 16, 64, 2, 2, (12, 24), 2, 32, 1 << 10)


FEW = ("infogain 8 x 20 dense", "invertible tridiagonal 64 inverse", "quadrature 2 steps value")


@pytest.mark.parametrize("names", [FEW, pytest.param(None, marks=pytest.mark.slow)])
def test_every_kernel_is_measured_and_right(names, tmp_path, capsys, monkeypatch):
    table = dict(accelerator.cases(SMALL))
    few = {name: table[name] for name in names or table}
    monkeypatch.setattr(accelerator, "cases", lambda sizes: few.items())
    monkeypatch.setattr(accelerator, "_seconds", lambda call: call() is None or 1e-3)
    found = accelerator.benchmark(tmp_path / "found.json", sizes=SMALL)
    assert found == json.loads((tmp_path / "found.json").read_text())
    assert [row["kernel"] for row in found["rows"]] == list(few)
    assert found["not measured"] == []
    for row in found["rows"]:
        assert 0 <= row["error"] < 1e-5, row
        assert row["ratio"] == pytest.approx(row["seconds"] / row["floor"])
    said = " ".join(capsys.readouterr().out.split())
    assert f"jax {jax.__version__}" in said
    assert " ".join(found["machine"]["device"].split()) in said
    if jax.default_backend() == "cpu":
        assert accelerator.processor() in found["machine"]["device"]
    late = accelerator.benchmark(tmp_path / "late.json", limit=0.0, sizes=SMALL)
    assert late["not measured"] == list(few)


def test_a_wrong_kernel_has_an_error():
    """One that loses digits on the device, and only there."""

    def short(x):
        return x.astype(jnp.bfloat16).astype(x.dtype) if x.dtype == jnp.float32 else x

    row = accelerator.measured("short", (short, (jnp.asarray([1.01, 2.02], jnp.float32),)), 1e9)
    assert 1e-4 < row["error"] < 1e-2
    assert row["floor"] == 16 / 1e9


def test_seconds_are_of_one_call():
    assert 0.02 <= accelerator._seconds(lambda: time.sleep(0.02)) < 0.2
    assert np.isfinite(accelerator.bandwidth(1 << 10))
