"""ESPRIT over delay: eigenvalues of the matrix that shifts the signal subspace by one frequency."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp

from diffsim import _linalg
from diffsim.delay.covariance import SignalSubspace, signal_subspace
from diffsim.delay.eigenvalues import eigenvalues


@jax.default_matmul_precision("highest")
def least_squares(first: jax.Array, second: jax.Array, mask: jax.Array) -> jax.Array:
    """Phase factors z from first Ψ = second in least squares."""
    return eigenvalues(_solve(first, second, mask), mask)


@jax.default_matmul_precision("highest")
def total_least_squares(first: jax.Array, second: jax.Array, mask: jax.Array) -> jax.Array:
    """Phase factors z from first Ψ = second with errors on both sides.

    Ψ = E₁⁻ᴴ E₂ᴴ, where [E₁; E₂] spans the K leading right singular vectors of [first, second].
    """
    both = jnp.concatenate([first, second], 1)
    row_space = signal_subspace(both.conj().T @ both, jnp.sum(mask), mask.size).basis
    top, bottom = jnp.split(row_space.conj().T, 2, axis=1)
    return eigenvalues(_linalg.solve(top + _rest(mask, top.dtype), bottom), mask)


@jax.default_matmul_precision("highest")
def unitary(first: jax.Array, second: jax.Array, mask: jax.Array) -> jax.Array:
    """Phase factors exp(jω) from (first + second) Υ = −j (second − first), Υ having tan(ω/2).

    For a forward–backward subspace Υ is similar to a real matrix, so the factors lie on the unit
    circle by construction. The mean phase is taken out first, away from the pole at ω = π.
    """
    common = jnp.sum(first.conj() * second)
    still = common == 0
    turn = jnp.where(still, 1, common)
    turn = turn / jnp.abs(turn).astype(turn.dtype)
    second = second * turn.conj()
    tangent = eigenvalues(_solve(first + second, -1j * (second - first), mask), mask).real
    angle = 2 * jnp.arctan(tangent)
    return turn * jax.lax.complex(jnp.cos(angle), jnp.sin(angle))


@jax.default_matmul_precision("highest")
@partial(jax.jit, static_argnames="solve")
def esprit(
    subspace: SignalSubspace,
    step=1.0,
    solve: Callable[[jax.Array, jax.Array, jax.Array], jax.Array] = least_squares,
) -> jax.Array:
    """Delays from rotational invariance, U[1:] = U[:-1] Ψ with eig Ψ = exp(−j2π step τ).

    Args:
        subspace: of window L > K.
        step: frequency step, Hz.
        solve: ``least_squares``, ``total_least_squares`` or ``unitary``.

    Returns:
        (K,) delays in [0, 1/step), s; ascending, zero from ``count`` on.

    Source: Roy & Kailath, IEEE Trans. ASSP 37, 984 (1989); for ``unitary`` Haardt & Nossek,
    IEEE Trans. SP 43, 1232 (1995).

    >>> from diffsim.delay import signal_subspace, smoothed_covariance
    >>> import numpy as np
    >>> tone = jnp.exp(-0.5j * np.pi * np.arange(16))
    >>> round(float(esprit(signal_subspace(smoothed_covariance(tone, 8), 1))[0]), 5)
    0.25
    """
    mask = subspace.mask
    factors = solve(subspace.basis[:-1], subspace.basis[1:], mask)
    delays = -jnp.angle(factors) / (2 * jnp.pi) % 1
    return jnp.where(mask, jnp.sort(jnp.where(mask, delays, jnp.inf)), 0) / step


def _rest(mask, dtype):
    """Ones on the diagonal outside the mask, to keep padded systems regular."""
    return jnp.diag((~mask).astype(dtype))


def _solve(left, right, mask):
    gram = left.conj().T @ left + _rest(mask, left.dtype)
    return _linalg.solve(gram, left.conj().T @ right)
