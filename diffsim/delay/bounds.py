"""How well delays can be known: Cramér–Rao bounds and the variances of subspace estimates."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from diffsim import _linalg
from diffsim.delay.steering import curvature, fft_columns, inner, regular, steering


@jax.default_matmul_precision("highest")
@partial(jax.jit, static_argnames=("stochastic", "real_amplitudes"))
def cramer_rao_bound(
    delays,
    power,
    noise_variance,
    frequencies,
    *,
    snapshots: int = 1,
    gain=None,
    stochastic: bool = False,
    real_amplitudes: bool = False,
) -> jax.Array:
    """Smallest covariance of unbiased delay estimates, σ²/2T [Re(Dᴴ P_A^⊥ D ∘ Pᵀ)]⁻¹.

    The deterministic bound takes the amplitudes as unknown constants, P = mean of a aᴴ; the
    stochastic one takes them as Gaussian and has P Aᴴ R⁻¹ A P for P, R = A P Aᴴ + σ² I.

    Args:
        delays: (K,) s.
        power: P, (K, K) Hermitian covariance of the amplitudes.
        noise_variance: σ² of a complex sample.
        frequencies: (N,) Hz.
        snapshots: T.
        gain: (N,) pulse spectrum over relative noise deviation; None for ones.
        stochastic: which of the two.
        real_amplitudes: the amplitudes are known to be real (deterministic bound only).

    Returns:
        (K, K) covariance, s².

    Raises:
        ValueError: shapes disagree, or a stochastic bound is asked of real amplitudes.

    Source: Stoica & Nehorai, IEEE Trans. ASSP 37, 720 (1989), eq. (4.6) and ASSP 38, 1783
    (1990), eq. (3.1).

    >>> frequencies = jnp.arange(64.0)
    >>> bound = cramer_rao_bound(jnp.array([0.2]), jnp.ones((1, 1)), 0.01, frequencies)
    >>> size, snr = 64, 100
    >>> round(float(bound[0, 0] * (2 * jnp.pi) ** 2 * snr * size * (size**2 - 1) / 6), 4)
    1.0
    """
    if stochastic and real_amplitudes:
        raise ValueError("stochastic: expected False with real_amplitudes, got True")
    columns, slopes, power, unit = _scaled(delays, power, frequencies, gain, not real_amplitudes)
    mask = jnp.ones(columns.shape[1], bool)
    if stochastic:  # P AᴴR⁻¹A P = P G (P G + σ²)⁻¹ P, G = AᴴA
        product = power @ inner(columns, columns, False)
        noisy = product + (noise_variance * jnp.eye(mask.size)).astype(power.dtype)
        power = _linalg.solve(noisy.T, product.T).T @ power
    information = curvature(columns, slopes, power, mask, real_amplitudes)
    return noise_variance / (2 * snapshots) * _linalg.inv(information) / unit**2


@jax.default_matmul_precision("highest")
@jax.jit
def music_variance(delays, power, noise_variance, frequencies, *, snapshots: int = 1) -> jax.Array:
    """Variance of MUSIC and root-MUSIC over many snapshots.

    σ²/2T [P⁻¹ + σ² P⁻¹ (AᴴA)⁻¹ P⁻¹]_kk / (Dᴴ P_A^⊥ D)_kk, at least the stochastic bound.

    Args and shapes as in :func:`cramer_rao_bound`.

    Returns:
        (K,) variances, s².

    Source: Stoica & Nehorai, IEEE Trans. ASSP 37, 720 (1989), eq. (3.12).

    >>> frequencies, one = jnp.arange(64.0), jnp.ones((1, 1))
    >>> args = jnp.array([0.2]), one, 0.01, frequencies
    >>> ratio = music_variance(*args)[0] / cramer_rao_bound(*args, stochastic=True)[0, 0]
    >>> round(float(ratio), 4)
    1.0
    """
    columns, slopes, power, unit = _scaled(delays, power, frequencies, None, True)
    inverse = _linalg.inv(power)
    gram = inner(columns, columns, False)
    spread = inverse + noise_variance * inverse @ _linalg.solve(gram, inverse)
    eye = jnp.eye(len(gram), dtype=gram.dtype)
    height = jnp.diagonal(curvature(columns, slopes, eye, jnp.ones_like(delays, bool), False))
    return noise_variance / (2 * snapshots) * jnp.diagonal(spread).real / height / unit**2


@jax.default_matmul_precision("highest")
@partial(jax.jit, static_argnames=("window", "forward_backward"))
def hankel_variance(
    delays, amplitudes, noise_variance, step, window: int, *, forward_backward=True, mask=None
) -> jax.Array:
    """Variance of ESPRIT and the matrix pencil on smoothed windows, in closed form.

    To first order δz_k = p_kᴴ (δX[:, 1:] − z_k δX[:, :-1]) q_k, with q and p the dual bases of the
    echoes along and across the windows; both shifts of a Hankel matrix repeat the same noise,
    so that δτ_k = −Im Σ_n γ_kn e_n / (2π step).

    Args:
        delays: (K,) s.
        amplitudes: (K,) or (K, T) complex.
        noise_variance: σ² of each complex sample, (N,).
        step: Hz.
        window: L.
        forward_backward: whether the covariance was averaged backwards too.
        mask: (K,) echoes in use.

    Returns:
        (K,) variances, s².

    Source: first-order perturbation after Hua & Sarkar, IEEE Trans. ASSP 38, 814 (1990), sec. IV.

    >>> size, snr = 300, 100
    >>> variance = hankel_variance(jnp.array([0.2]), jnp.array([10j]), jnp.ones(size), 1.0, 100)
    >>> bound = 6 / ((2 * jnp.pi) ** 2 * snr * size * (size**2 - 1))
    >>> round(float(variance[0] / bound), 2)  # 9/8 at a window of a third
    1.13
    """
    size = noise_variance.shape[0]
    rows = size - window + 1
    mask = jnp.ones(delays.shape, bool) if mask is None else mask
    real = noise_variance.dtype
    dtype = np.result_type(real, np.complex64)
    flat = jnp.ones(size, dtype)
    vectors, _ = steering(jnp.arange(size, dtype=real), flat, delays * step, mask)
    amplitudes = jnp.where(mask[:, None], amplitudes.reshape(mask.size, -1), 0).astype(dtype)
    if forward_backward:
        amplitudes = jnp.concatenate([amplitudes, (vectors[-1:].T * amplitudes).conj()], 1)
    along, across = vectors[: window - 1], vectors[:rows]
    right = _linalg.solve(regular(inner(along, along, False), mask), along.conj().T)
    gram = inner(across, across, False) * (amplitudes.conj() @ amplitudes.T)
    weights = (amplitudes.conj()[:, :, None] * across.conj().T[:, None, :]).reshape(mask.size, -1)
    left = _linalg.solve(regular(gram, mask), weights).reshape(-1, rows)
    right = jnp.repeat(right, amplitudes.shape[1], 0)
    # γ, the noise's weights in δz/z: the convolution of p and q, shifted by one less times z.
    spectrum = fft_columns(left.T, size) * fft_columns(right.T, size)
    product = fft_columns(spectrum.conj(), size).conj().T.reshape(mask.size, -1, size) / size
    factors = jnp.where(mask, vectors[1], 1)[:, None, None]
    gamma = jnp.roll(product, 1, -1) / factors - product
    if forward_backward:
        forward, backward = jnp.split(gamma, 2, axis=1)
        gamma = forward - backward[:, :, ::-1].conj()
    power = jnp.sum(gamma.real**2 + gamma.imag**2, 1)
    return power @ noise_variance / 2 / (2 * jnp.pi * step) ** 2


def _scaled(delays, power, frequencies, gain, centred):
    """A, D, P and the frequency unit in which they are of order one."""
    delays, frequencies = jnp.asarray(delays), jnp.asarray(frequencies)
    dtype = np.result_type(delays.dtype, np.complex64)
    power = jnp.asarray(power, dtype)
    if delays.ndim != 1 or power.shape != 2 * delays.shape:
        raise ValueError(
            f"power: expected shape (K, K) for K delays, got {power.shape} for {delays.shape}"
        )
    gain = jnp.ones(frequencies.shape, dtype) if gain is None else jnp.asarray(gain, dtype)
    unit = jnp.max(frequencies) - jnp.min(frequencies)
    if centred:  # a turn of each echo's phase
        centre = jnp.mean(frequencies)
        angle = 2 * jnp.pi * delays * centre
        turn = jax.lax.complex(jnp.cos(angle), -jnp.sin(angle))
        power, frequencies = turn[:, None] * power * turn.conj(), frequencies - centre
    mask = jnp.ones(delays.shape, bool)
    return *steering(frequencies / unit, gain, delays * unit, mask), power, unit
