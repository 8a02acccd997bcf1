"""Tests run with 64-bit types on and strict promotion; float32 is asked for by dtype.

Most of their time is the compiler's: the default run tells it to hurry, and what one process of a
run compiled the others find, workers and started programs alike.
"""

import atexit
import gc
import os
import signal
import tempfile

import jaxlib.version

os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("JAX_PLATFORMS", "cpu")
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:  # workers inherit it
    compiled = tempfile.TemporaryDirectory(prefix="compiled-")
    atexit.register(compiled.cleanup)
    os.environ["JAX_COMPILATION_CACHE_DIR"] = compiled.name
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    os.environ["JAX_PERSISTENT_CACHE_ENABLE_XLA_CACHES"] = "none"

import jax
import jax.numpy as jnp
import pytest
from hypothesis import settings

# A shell starts what is in the background with Ctrl-C ignored: tests send it.
signal.signal(signal.SIGINT, signal.default_int_handler)
# Tracing makes many objects that live: to look through them after every 700 new ones costs a sixth.
gc.set_threshold(20_000, 20, 50)
jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_dtype_promotion", "strict")


settings.register_profile("default", deadline=None, database=None, derandomize=True)
settings.load_profile("default")


def pytest_configure(config):
    """The default run compiles without optimising; slow ones, such as benchmarks, as users do."""
    if config.option.markexpr == "not slow" and not os.environ.get("XLA_FLAGS"):
        flags = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
        flags += " --xla_cpu_parallel_codegen_split_count=1"  # every core has a test of its own
        if jaxlib.version.__version_info__ < (0, 11):  # later ones do not know it, and abort
            flags += " --xla_cpu_use_fusion_emitters=false"
        os.environ["XLA_FLAGS"] = flags


def pytest_runtest_logreport(report):
    """A failure is named at once: a run that is cut off has said what failed before."""
    if report.failed and "PYTEST_XDIST_WORKER" not in os.environ:
        print(f"\nFAILED {report.nodeid} ({report.when})", flush=True)


@pytest.fixture(params=[jnp.float32, jnp.float64], ids=["f32", "f64"])
def dtype(request):
    """Run the test once in each precision."""
    return request.param


@pytest.fixture(scope="module")
def one_by_one():
    """Updates of a training are not bundled, however short they are."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("diffsim.training.loop.PACE", 0.0)
        yield
