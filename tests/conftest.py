"""Tests run with 64-bit types on and strict promotion; float32 is asked for by dtype."""

import os

os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import jax.numpy as jnp
import pytest
from hypothesis import settings

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_dtype_promotion", "strict")


settings.register_profile("default", deadline=None, database=None, derandomize=True)
settings.load_profile("default")


@pytest.fixture(params=[jnp.float32, jnp.float64], ids=["f32", "f64"])
def dtype(request):
    """Run the test once in each precision."""
    return request.param
