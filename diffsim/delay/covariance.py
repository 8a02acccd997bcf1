"""Smoothed covariance of frequency samples, and its signal subspace with its derivative."""

from functools import partial

import jax
import jax.numpy as jnp
from flax import struct

from diffsim import _linalg


@jax.default_matmul_precision("highest")
@partial(jax.jit, static_argnames=("window", "forward_backward"))
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
    rows = size - window + 1

    def total(data):  # Σ_{t,p} x_{t,p+i} x*_{t,p+j}, each row from the one above: O(L²), not O(L³)
        data = data.T
        place = jnp.arange(rows)[:, None] + jnp.arange(window)
        top = jnp.einsum("pt,pjt->j", data[:rows], data[place].conj())
        ends = data[rows:], data[: window - 1]

        def below(row, entry):
            corner, new, old = entry
            change = ends[0].conj() @ new - ends[1].conj() @ old
            row = jnp.concatenate([corner[None], row[:-1] + change])
            return row, row

        rest = jax.lax.scan(below, top, (top[1:].conj(), *ends))[1]
        forward = jnp.concatenate([top[None], rest])
        return (forward + forward[::-1, ::-1].conj()) / 2 if forward_backward else forward

    if present is None:
        return total(values) / (values.shape[0] * rows)
    root = jnp.sqrt(present)
    pairs = total(root[None]) * values.shape[0]
    clear = pairs > 0.5 * jnp.min(jnp.where(present > 0, present, jnp.inf))
    product = total(values * root.astype(values.dtype))
    return jnp.where(clear, product / jnp.where(clear, pairs, 1).astype(product.dtype), 0)


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


def signal_subspace(
    covariance: jax.Array, count, maximum: int | None = None, *, centro_hermitian: bool = False
) -> SignalSubspace:
    """Signal subspace of a Hermitian matrix, differentiable where eigenvalues repeat.

    Whatever depends on the span alone sees only the motion out of it,
    dU = Σ_noise u_j (u_jᴴ dR u_k)/(λ_k − λ_j), so the rule divides by signal–noise gaps only:
    equal eigenvalues within the signal, or within the noise, do no harm (autodiff through the
    noise eigenvectors gives wrong numbers near such pairs, NaN at them). First order only.

    Args:
        covariance: (L, L).
        count: how many echoes; may be traced.
        maximum: columns K of the basis (static); by default ``count``.
        centro_hermitian: the covariance is a forward–backward average; its eigenproblem is then
            real, at half the time (static).

    Raises:
        ValueError: K is not in [1, L − 1].

    Source: A. Lee, Linear Algebra Appl. 29, 205 (1980), for the real form.

    >>> signal_subspace(jnp.diag(jnp.array([1.0, 3.0, 2.0])), 2).eigenvalues.tolist()
    [3.0, 2.0, 1.0]
    """
    maximum = int(count) if maximum is None else maximum
    size = covariance.shape[-1]
    if not 1 <= maximum < size:
        raise ValueError(f"maximum: expected in [1, {size - 1}] for window {size}, got {maximum}")
    return _subspace(covariance, count, maximum, centro_hermitian)


@jax.default_matmul_precision("highest")
@partial(jax.jit, static_argnums=(2, 3))
def _subspace(covariance, count, maximum, centro_hermitian):
    if centro_hermitian:
        half = _to_real(covariance).conj().T
        vectors, eigenvalues = _eigh(_to_real(half).real, count)
        vectors = _from_real(vectors[:, :maximum])
    else:
        vectors, eigenvalues = _eigh(covariance, count)
    mask = jnp.arange(maximum) < count
    return SignalSubspace(
        jnp.where(mask, vectors[:, :maximum], jnp.zeros((), vectors.dtype)), eigenvalues, count
    )


def _to_real(matrix):
    """Qᴴ M for the unitary Q that makes centro-Hermitian matrices real as Qᴴ M Q."""
    half = matrix.shape[0] // 2
    top, bottom = matrix[:half], matrix[: -half - 1 : -1]
    parts = (top + bottom) / 2**0.5, matrix[half : matrix.shape[0] - half], (bottom - top) / 2**0.5
    return jnp.concatenate([*parts[:2], 1j * parts[2]])


def _from_real(vectors):
    """Q V for real V."""
    half = vectors.shape[0] // 2
    top = jax.lax.complex(vectors[:half], vectors[-half:]) / 2**0.5
    middle = vectors[half : vectors.shape[0] - half].astype(top.dtype)
    return jnp.concatenate([top, middle, top[::-1].conj()])


@jax.custom_jvp
def _eigh(matrix, count):
    """Eigenvectors and eigenvalues, descending; only the split at ``count`` is differentiated."""
    eigenvalues, vectors = _linalg.eigh(matrix)
    return vectors[:, ::-1], eigenvalues[::-1]


@_eigh.defjvp
@jax.default_matmul_precision("highest")
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
