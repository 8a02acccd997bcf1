"""Eigenvalues of a small general matrix, on any device and differentiable."""

import jax
import jax.numpy as jnp

from diffsim import _linalg


@jax.custom_jvp
@jax.jit
def eigenvalues(matrix: jax.Array, mask: jax.Array) -> jax.Array:
    """Eigenvalues of the leading block of a small complex matrix that is zero outside it.

    Ehrlich–Aberth iteration on det(zI − M), whose Newton ratio is 1/tr (zI − M)⁻¹, so that no
    polynomial is formed. LAPACK's general solver has no batched counterpart on accelerators.
    The derivative dz_k = tr(Π_{j≠k} (M − z_j I)/(z_k − z_j) dM) needs distinct eigenvalues.

    Args:
        matrix: (K, K) complex, rows and columns zero where not ``mask``.
        mask: (K,) true for the leading rows in use.

    Returns:
        (K,) complex; one where not ``mask``.

    Source: Bini & Noferini, Linear Algebra Appl. 439, 1130 (2013).

    >>> found = eigenvalues(jnp.array([[0j, 1], [-1, 0]]), jnp.array([True, True]))
    >>> sorted(round(float(z.imag), 5) for z in found)
    [-1.0, 1.0]
    """
    size = matrix.shape[0]
    dtype, real = matrix.dtype, matrix.real.dtype
    eye = jnp.eye(size, dtype=dtype)
    used = jnp.maximum(jnp.sum(mask), 1).astype(real)
    centre = jnp.trace(matrix) / used.astype(dtype)
    spread = jnp.linalg.norm(matrix - centre * jnp.diag(mask.astype(dtype)))
    angle = 2 * jnp.pi * jnp.arange(size, dtype=real) / used + 0.4
    start = centre + (spread + jnp.finfo(real).eps).astype(dtype) * jnp.exp(
        1j * angle.astype(dtype)
    )
    pairs = mask[:, None] & mask[None, :] & ~jnp.eye(size, dtype=bool)

    def improve(state):
        roots, _, count = state
        resolvent = _linalg.inv(roots[:, None, None] * eye - matrix)
        trace = jnp.sum(jnp.where(mask, jnp.diagonal(resolvent, axis1=1, axis2=2), 0), 1)
        gap = roots[:, None] - roots[None, :]
        repulsion = jnp.sum(jnp.where(pairs, 1 / jnp.where(pairs, gap, 1), 0), 1)
        move = 1 / (trace - repulsion)
        # On an eigenvalue to the last bit the resolvent is infinite: that root has arrived.
        move = jnp.where(mask & jnp.isfinite(move.real) & jnp.isfinite(move.imag), move, 0)
        return roots - move, jnp.max(jnp.abs(move)), count + 1

    def unfinished(state):
        return (state[1] > 8 * jnp.finfo(real).eps * (spread + jnp.abs(centre))) & (state[2] < 60)

    roots = jax.lax.while_loop(unfinished, improve, (start, jnp.asarray(jnp.inf, real), 0))[0]
    return jnp.where(mask, roots, 1)


@eigenvalues.defjvp
@jax.default_matmul_precision("highest")
def _eigenvalues_jvp(primals, tangents):
    matrix, mask = primals
    roots = eigenvalues(matrix, mask)
    eye = jnp.eye(roots.size, dtype=matrix.dtype)

    def projector(k):
        def without(j, product):
            other = mask[j] & (j != k)
            gap = jnp.where(other, roots[k] - roots[j], 1)
            return jnp.where(other, product @ (matrix - roots[j] * eye) / gap, product)

        return jax.lax.fori_loop(0, roots.size, without, jnp.diag(mask.astype(matrix.dtype)))

    projectors = jax.vmap(projector)(jnp.arange(roots.size))
    change = jnp.einsum("kij,ji->k", projectors, tangents[0])
    return roots, jnp.where(mask, change, 0)
