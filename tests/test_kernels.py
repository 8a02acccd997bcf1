"""Every public kernel is lowered for accelerators, and multiplies at full precision."""

import re
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from jax.lax import Precision
from jaxprs import equations_of
from kernels import KERNELS, NETWORKS, matrix, with_slope

import diffsim


def short_products(jaxpr):
    products = [eqn for eqn in equations_of(jaxpr) if "precision" in eqn.params]
    return [eqn for eqn in products if eqn.params["precision"] != (Precision.HIGHEST,) * 2]


# What calls back to the host (BlackBox) is not here: JAX lowers it with the card only.
@pytest.mark.parametrize("name", [*KERNELS, *NETWORKS])
def test_is_lowered_with_products_at_full_precision(name):
    """No product, in value or derivative, is left to JAX's default, which is TF32 on a GPU."""
    f, arguments = (KERNELS | NETWORKS)[name]()
    traced = jax.jit(f).trace(*arguments)
    if name in KERNELS:
        assert short_products(traced.jaxpr) == []
    text = traced.lower(lowering_platforms=("cuda", "tpu")).as_text()
    assert "stablehlo" in text
    assert "inlineable" not in text  # calls are a CPU's


def test_shorter_products_are_found():
    """What the test above would see, in a derivative too."""
    f = with_slope(lambda a: jnp.tanh(a @ a))
    assert len(short_products(jax.make_jaxpr(f)(matrix(3)))) == 3


def test_nothing_asks_for_the_platform_while_tracing():
    """A function traced beside a GPU may run on its CPU: choices are made in the lowering."""
    files = list(Path(diffsim.__file__).parent.glob("**/*.py"))
    assert len(files) > 100
    asks = re.compile(r"default_backend|get_backend|device_kind|\.platform\b")
    assert [file.name for file in files if asks.search(file.read_text())] == []
