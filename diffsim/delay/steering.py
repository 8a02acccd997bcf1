"""Steering vectors over delay, and the linear algebra that bounds and fits have in common."""

import jax
import jax.numpy as jnp

from diffsim import _linalg


def steering(index: jax.Array, gain: jax.Array, delays: jax.Array, mask: jax.Array):
    """A_nk = g_n exp(−j2π n d_k) and its derivative by d_k.

    Args:
        index: (N,) frequencies n, in steps.
        gain: (N,) complex factor common to all echoes.
        delays: (K,) in units of 1/step.
        mask: (K,) columns in use; the others are zero.

    Returns:
        A and ∂A/∂d, each (N, K).
    """
    angle = 2 * jnp.pi * index
    phase = angle[:, None] * delays
    columns = gain[:, None] * jax.lax.complex(jnp.cos(phase), -jnp.sin(phase))
    columns = jnp.where(mask, columns, 0)
    return columns, jax.lax.complex(jnp.zeros_like(angle), -angle)[:, None] * columns


def inner(left: jax.Array, right: jax.Array, real: bool) -> jax.Array:
    """Lᴴ R, its real part if the amplitudes are real."""
    product = left.conj().T @ right
    return product.real if real else product


def regular(matrix: jax.Array, mask: jax.Array) -> jax.Array:
    """The matrix with ones on its diagonal outside the mask."""
    return matrix + jnp.diag((~mask).astype(matrix.dtype))


def curvature(columns, slopes, power, mask, real: bool) -> jax.Array:
    """Re(H ∘ Pᵀ) with H = Dᴴ (I − A (AᴴA)⁻¹ Aᴴ) D: the delays' information over 2T/σ².

    Args:
        columns: A, (N, K).
        slopes: D, (N, K).
        power: P, (K, K) mean of a aᴴ over snapshots.
        mask: (K,).
        real: real amplitudes, so that inner products are real parts.

    Returns:
        (K, K) real, ones on the diagonal outside the mask.
    """
    cross = inner(columns, slopes, real)
    gram = regular(inner(columns, columns, real), mask)
    projected = inner(slopes, slopes, real) - cross.conj().T @ _linalg.solve(gram, cross)
    power = power.real if real else power
    return regular((projected * power.T).real, mask)


def fft_columns(columns: jax.Array, points: int) -> jax.Array:
    """FFT down each of the columns, padded to ``points``: Σ_n c_nk exp(−j2π n g / points).

    A lone column gets a companion: XLA's CPU FFT refuses the degenerate layout that one can be
    given (RET_CHECK in fft_thunk.cc, jaxlib 0.10).
    """
    count = columns.shape[1]
    padded = jnp.pad(columns, ((0, 0), (0, 1))) if count == 1 else columns
    return jnp.fft.fft(padded, points, axis=0)[:, :count]
