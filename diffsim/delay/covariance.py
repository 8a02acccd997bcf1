"""Smoothed covariance of frequency samples, and its signal subspace with a derivative that holds."""

import jax
import jax.numpy as jnp
from flax import struct


def smoothed_covariance(
    values: jax.Array, window: int, *, present: jax.Array | None = None, forward_backward=True
) -> jax.Array:
    """Covariance of overlapping windows, R_ij = mean over p, t of x_{t,p+i} x*_{t,p+j}.

    Averaging over windows gives coherent echoes full rank again; averaging with the reversed
    conjugate (R + J R* J)/2 doubles their number. With frequencies missing, each R_ij is the
    mean over the pairs present, exact for incoherent echoes only.

    Args:
        values: (N,) or (T, N) frequency samples.
        window: length L of the windows; N for none.
        present: (N,) weight of each frequency in the mean, zero where missing; None for all.
        forward_backward: also average backwards.

    Returns:
        (L, L) Hermitian.

    Raises:
        ValueError: L is not in [2, N].

    Source: Shan, Wax & Kailath, IEEE Trans. ASSP 33, 806 (1985); Pillai & Kwon, ASSP 37, 8 (1989).

    >>> smoothed_covariance(jnp.ones(6), 3).shape
    (3, 3)
    """
    values = jnp.atleast_2d(values)
    size = values.shape[-1]
    if not 2 <= window <= size:
        raise ValueError(f"window: expected in [2, {size}] for {size} samples, got {window}")
    place = jnp.arange(size - window + 1)[:, None] + jnp.arange(window)

    def average(rows):
        windows = rows[:, place].reshape(-1, window)
        total = windows.T @ windows.conj()
        return (total + total[::-1, ::-1].conj()) / 2 if forward_backward else total

    if present is None:
        return average(values) / (values.shape[0] * place.shape[0])
    pairs = average(jnp.sqrt(present)[None]) * values.shape[0]
    total = average(values * jnp.sqrt(present).astype(values.dtype))
    return jnp.where(pairs > 0, total / jnp.where(pairs > 0, pairs, 1).astype(total.dtype), 0)


@struct.dataclass
class SignalSubspace:
    """Span of the first ``count`` eigenvectors of a covariance.

    Attributes:
        basis: (L, K) orthonormal columns; those from ``count`` on are zero.
        eigenvalues: (L,) of the covariance, descending.
        count: how many echoes, at most K.
    """

    basis: jax.Array
    eigenvalues: jax.Array
    count: jax.Array

    @property
    def mask(self) -> jax.Array:
        """(K,) true for the columns in use."""
        return jnp.arange(self.basis.shape[1]) < self.count


def signal_subspace(covariance: jax.Array, count, maximum: int | None = None) -> SignalSubspace:
    """Signal subspace of a Hermitian matrix, differentiable where eigenvalues repeat.

    Whatever depends on the span alone sees only the motion out of it,
    dU = Σ_noise u_j (u_jᴴ dR u_k)/(λ_k − λ_j), so the rule divides by signal–noise gaps only:
    equal eigenvalues within the signal, or within the noise, do no harm (autodiff through the
    noise eigenvectors gives wrong numbers near such pairs, NaN at them). First order only.

    Args:
        covariance: (L, L).
        count: how many echoes; may be traced.
        maximum: columns K of the basis (static); by default ``count``.

    Raises:
        ValueError: K is not in [1, L − 1].

    >>> signal_subspace(jnp.diag(jnp.array([1.0, 3.0, 2.0])), 2).eigenvalues.tolist()
    [3.0, 2.0, 1.0]
    """
    maximum = int(count) if maximum is None else maximum
    size = covariance.shape[-1]
    if not 1 <= maximum < size:
        raise ValueError(f"maximum: expected in [1, {size - 1}] for window {size}, got {maximum}")
    count = jnp.asarray(count)
    vectors, eigenvalues = _eigh(covariance, count)
    mask = jnp.arange(maximum) < count
    return SignalSubspace(
        jnp.where(mask, vectors[:, :maximum], jnp.zeros((), vectors.dtype)), eigenvalues, count
    )


@jax.custom_jvp
def _eigh(matrix, count):
    """Eigenvectors and eigenvalues, descending; only the split at ``count`` is differentiated."""
    eigenvalues, vectors = jnp.linalg.eigh(matrix, symmetrize_input=True)
    return vectors[:, ::-1], eigenvalues[::-1]


@_eigh.defjvp
def _eigh_jvp(primals, tangents):
    matrix, count = primals
    vectors, eigenvalues = _eigh(matrix, count)
    change = vectors.conj().T @ ((tangents[0] + tangents[0].conj().T) / 2) @ vectors
    signal = jnp.arange(eigenvalues.size) < count
    across = signal[:, None] != signal[None, :]
    gap = eigenvalues[None, :] - eigenvalues[:, None]
    across &= gap != 0
    rotation = jnp.where(across, change / jnp.where(across, gap, 1).astype(change.dtype), 0)
    return (vectors, eigenvalues), (vectors @ rotation, jnp.diagonal(change).real)
