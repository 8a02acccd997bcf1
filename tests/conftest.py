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


# Whole files that compile or start so much that the default run would not fit its time: slow, too.
LONG = {
    "test_gradients_blackbox_hang.py", "test_gradients_cases.py",
    "test_gradients_properties.py", "test_gradients_sweep.py", "test_invertible_properties.py",
    "test_losses_properties.py", "test_physics_properties.py", "test_physics_worlds.py",
    "test_readers.py", "test_report_page.py", "test_tasks_arm.py", "test_tasks_mujoco.py",
    "test_training_blackbox.py", "test_training_comparison.py", "test_training_sharding.py",
    "test_training_soak.py",
}  # fmt: skip


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    for item in items:
        if item.path.name in LONG:
            item.add_marker(pytest.mark.slow)
