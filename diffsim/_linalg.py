"""Solve, inverse, determinant and eigenvectors, at full precision; no batch waits for itself.

Accelerators multiply float32 as something shorter (TF32, bfloat16) unless told not to.

jaxlib 0.10 and 0.11 divide a batch of matrices over the threads of the CPU's pool and let the
thread that did so wait. As many batches at once as there are threads, two on a machine with two
cores, wait for ever. Here such a batch is taken one matrix after the other.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import jaxlib.version

DIVIDES, MENDED = (0, 10, 0), (0, 11, 2)  # jaxlib: the first to divide, the first not to


def _looped(f: Callable) -> Callable:
    """f, whose batches are loops on a CPU."""
    if not DIVIDES <= jaxlib.version.__version_info__[:3] < MENDED:
        return f
    alone = jax.custom_batching.custom_vmap(f)
    loop = jax.custom_batching.sequential_vmap(f)

    @alone.def_vmap
    def batch(size, batched, *args):
        axes = [0 if b else None for b in batched]
        out = jax.lax.platform_dependent(*args, cpu=jax.vmap(loop, axes), default=jax.vmap(f, axes))
        return out, jax.tree.map(lambda _: True, out)

    return alone


_inv = jnp.vectorize(_looped(jnp.linalg.inv), signature="(n,n)->(n,n)")
_log_abs_det = jnp.vectorize(_looped(lambda a: jnp.linalg.slogdet(a)[1]), signature="(n,n)->()")
_solve = _looped(jnp.linalg.solve)


@jax.custom_jvp
def inv(a: jax.Array) -> jax.Array:
    """A⁻¹, of (…, n, n)."""
    return _inv(a)


@inv.defjvp
@jax.default_matmul_precision("highest")
def _inv_jvp(primals, tangents):
    x = inv(*primals)
    return x, -x @ tangents[0] @ x


@jax.custom_jvp
def log_abs_det(a: jax.Array) -> jax.Array:
    """log |det A|, of (…, n, n)."""
    return _log_abs_det(a)


@log_abs_det.defjvp
@jax.default_matmul_precision("highest")
def _log_abs_det_jvp(primals, tangents):
    return log_abs_det(*primals), jnp.sum(inv(*primals).mT * tangents[0], (-2, -1)).real


@jax.default_matmul_precision("highest")
def solve(a: jax.Array, b: jax.Array) -> jax.Array:
    """A⁻¹ b, of (n, n) and (n,) or (n, k)."""
    still = jax.lax.stop_gradient(a)
    return jax.lax.custom_linear_solve(
        lambda x: a @ x, b, lambda _, b: _solve(still, b), lambda _, b: _solve(still.T, b)
    )


@_looped
def eigh(a: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Eigenvalues, ascending, and eigenvectors of a Hermitian matrix; has no derivative."""
    return jnp.linalg.eigh(a, symmetrize_input=True)


def implicit(equation: Callable, found: jax.Array) -> jax.Array:
    """``found`` (n,), a root of a square equation, with the derivative of the root.

    By the implicit function theorem, in whatever the equation closes over. The equation's Jacobian
    is written out: for a few unknowns. (optimistix and lineax would do the same, but double the
    time that ``import diffsim`` takes.)
    """
    return jax.lax.custom_root(
        equation,
        found,
        solve=lambda _, found: found,
        tangent_solve=lambda line, right: solve(jax.jacobian(line)(right), right),
    )


@jax.jit
def safe_sqrt(square: jax.Array) -> jax.Array:
    """Square root with derivative zero, not infinite, at zero."""
    positive = square > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, square, 1)), 0)
