"""Linear algebra of matrices and of batches: values, derivatives in both modes, no deadlock."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffsim import _linalg

# Several batches at once, on as many threads as a small machine has.
AT_ONCE = """
import os
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])
import jax, jax.numpy as jnp
from diffsim import _linalg
a = jnp.eye(64) + jax.random.normal(jax.random.key(0), (64, 64, 64)) / 40
@jax.jit
def f(a, b):
    every = [jax.vmap(_linalg.inv)(a), jax.vmap(_linalg.log_abs_det)(b + 1)]
    return every + [jax.vmap(_linalg.solve)(a + 2, b[:, 0]), jax.vmap(_linalg.eigh)(b)]
for _ in range(20):
    jax.block_until_ready(f(a, a + 0.01))
"""

CASES = {
    "inv": (_linalg.inv, jnp.linalg.inv),
    "log_abs_det": (_linalg.log_abs_det, lambda a: jnp.linalg.slogdet(a)[1]),
    "solve": (lambda a: _linalg.solve(a, a[0]), lambda a: jnp.linalg.solve(a, a[0])),
    "solve matrix": (lambda a: _linalg.solve(a, a.T), lambda a: jnp.linalg.solve(a, a.T)),
}


def test_batches_at_once_do_not_wait_for_each_other():
    subprocess.run([sys.executable, "-c", AT_ONCE], check=True, timeout=240)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("dtype", [jnp.float64, jnp.complex128])
def test_like_numpy(name, dtype):
    """Batches of batches, and first and second derivatives of a batch, are those of jnp.linalg."""
    ours, truth = CASES[name]
    a = jax.random.normal(jax.random.key(0), (2, 3, 4, 4), dtype) + 3 * jnp.eye(4, dtype=dtype)
    np.testing.assert_allclose(jax.vmap(jax.vmap(ours))(a), jax.vmap(jax.vmap(truth))(a), 1e-12)

    def total(f):
        return lambda a: jnp.sum(jnp.cos(jnp.abs(jax.vmap(f)(a))))

    first, tangent = jax.grad(total(ours)), jnp.cos(a[1])
    np.testing.assert_allclose(first(a[0]), jax.grad(total(truth))(a[0]), 1e-10)
    second = [jax.jvp(jax.grad(total(f)), (a[0],), (tangent,))[1] for f in (ours, truth)]
    np.testing.assert_allclose(*second, 1e-9, atol=1e-12)
    change = [jax.jvp(jax.jit(jax.vmap(f)), (a[0],), (tangent,))[1] for f in (ours, truth)]
    np.testing.assert_allclose(*change, 1e-10)
