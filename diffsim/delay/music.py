"""MUSIC over delay: the null spectrum by FFT of the signal subspace, and its roots."""

import math
from functools import partial

import jax
import jax.numpy as jnp

from diffsim import _linalg
from diffsim.delay.covariance import SignalSubspace
from diffsim.delay.steering import fft_columns


@partial(jax.jit, static_argnames="points")
def music_spectrum(subspace: SignalSubspace, points: int, step=1.0) -> tuple[jax.Array, jax.Array]:
    """MUSIC pseudospectrum over delay, aᴴa / aᴴ(I − U Uᴴ)a with a_n = exp(−j2πn step τ).

    Args:
        subspace: of window L.
        points: how many delays, at least L, equally spaced over [0, 1/step).
        step: frequency step, Hz.

    Returns:
        delays (points,) in s, and the pseudospectrum (points,), at least 1.

    Raises:
        ValueError: points < L.

    Source: Schmidt, IEEE Trans. AP 34, 276 (1986), eq. (6).

    >>> from diffsim.delay import signal_subspace, smoothed_covariance
    >>> import numpy as np
    >>> tone = jnp.exp(-0.5j * np.pi * np.arange(16))
    >>> delays, height = music_spectrum(signal_subspace(smoothed_covariance(tone, 8), 1), 64, 1e6)
    >>> round(float(delays[jnp.argmax(height)]) * 1e9)
    250
    """
    size = subspace.basis.shape[0]
    if points < size:
        raise ValueError(f"points: expected at least the window {size}, got {points}")
    null = _null_spectrum(subspace.basis, points)
    delays = jnp.arange(points, dtype=null.dtype) / points / step
    return delays, 1 / jnp.maximum(null, jnp.finfo(null.dtype).eps)


@jax.default_matmul_precision("highest")
@jax.jit
def root_music(subspace: SignalSubspace, step=1.0) -> jax.Array:
    """Delays from the roots of the null spectrum D(z) nearest the unit circle.

    Roots come in pairs exp(j2πτ ± ρ). A pair is one zero (τ, ρ²) of two real functions, simple
    even where the two roots meet on the circle (no noise), so Newton's method stays quadratic and
    the implicit-function derivative finite. Each start is the lowest point of the FFT grid of D
    with the notches of the pairs found so far divided out. No polynomial is factored, so it runs
    on any device.

    Args:
        subspace: of window L.
        step: frequency step, Hz.

    Returns:
        (K,) delays in [0, 1/step), s; ascending, zero from ``count`` on.

    Source: Barabell, ICASSP 1983, 336; Rao & Hari, IEEE Trans. ASSP 37, 1939 (1989).

    >>> from diffsim.delay import signal_subspace, smoothed_covariance
    >>> import numpy as np
    >>> tone = jnp.exp(-0.5j * np.pi * np.arange(16))
    >>> round(float(root_music(signal_subspace(smoothed_covariance(tone, 8), 1))[0]), 5)
    0.25
    """
    basis = subspace.basis
    size, maximum = basis.shape
    points = 8 << (size - 1).bit_length()
    # D(τ) = Re Σ_m q_m exp(j2πmτ): twice the autocorrelation of the basis, from the identity's L.
    lags = jnp.fft.ifft(_power(basis, 2 * size))[:size]
    polynomial = (-2 / size * lags.conj()).at[0].set(1 - lags[0] / size)
    fixed = jax.lax.stop_gradient(polynomial)
    grid = jnp.arange(points, dtype=lags.real.dtype) / points

    def find(state, slot):
        null, pairs = state
        start = grid[jnp.argmin(null)] * size
        pair = _nearest_pair(fixed, start, pairs, jnp.arange(maximum) < slot)
        pair = _newton(lambda pair: _pair_residual(fixed, pair), pair)
        delay, width = pair[0] / size, jnp.sqrt(jnp.maximum(pair[1], 0)) / size
        notch = _notch(grid - delay, width, size)
        near = jnp.abs((grid - delay + 0.5) % 1 - 0.5) < 0.75 / points
        null = jnp.where(near, jnp.inf, null / jnp.where(near, 1, notch))
        return (null, pairs.at[slot].set(pair)), None

    null = jax.lax.stop_gradient(_null_spectrum(basis, points))
    state = null, jnp.zeros((maximum, 2), null.dtype)
    pairs = jax.lax.scan(find, state, jnp.arange(maximum))[0][1]

    def differentiable(pair):
        return _linalg.implicit(lambda pair: _pair_residual(polynomial, pair), pair)

    delays = jax.vmap(differentiable)(pairs)[:, 0] / size % 1
    ordered = jnp.sort(jnp.where(subspace.mask, delays, jnp.inf))
    return jnp.where(subspace.mask, ordered, 0) / step


def _power(basis, points):
    """Σ_k |aᴴ u_k|² on ``points`` delays."""
    beams = fft_columns(basis.conj(), points)
    return jnp.sum(beams.real**2 + beams.imag**2, 1)


def _null_spectrum(basis, points):
    """aᴴ(I − U Uᴴ)a / L on ``points`` delays; rounding may leave it a few eps below zero."""
    return 1 - _power(basis, points) / basis.shape[0]


def _notch(away, width, size):
    """What a single echo does to D at a delay that far from it, to second order."""
    factor = 4 * (jnp.sinh(width / 2) ** 2 + jnp.sin(jnp.pi * away) ** 2)
    return factor / (factor + 12 / size**2)


def _pair_residual(polynomial, pair):
    """D at τ + jρ/2π as its even and odd parts in ρ, for pair = (τ L, ρ² L²)."""
    order = jnp.arange(polynomial.size, dtype=pair.dtype) / polynomial.size
    angle = 2 * jnp.pi * order * pair[0]
    cosine, sine = jnp.cos(angle), jnp.sin(angle)
    even, odd = _cosh_sinhc(order**2 * pair[1])
    return jnp.stack(
        [
            jnp.sum((polynomial.real * cosine - polynomial.imag * sine) * even),
            jnp.sum((polynomial.real * sine + polynomial.imag * cosine) * odd * order),
        ]
    )


def _nearest_pair(polynomial, start, found, used):
    """Newton's method in the complex plane on D with the found pairs divided out."""
    size = polynomial.size
    dtype = polynomial.dtype
    order = jnp.arange(size).astype(dtype) / size
    turns = 2 * jnp.pi * found[:, 0].astype(dtype) / size
    cosh = jnp.cosh(jnp.sqrt(jnp.maximum(found[:, 1], 0)) / size).astype(dtype)

    def improve(_, zeta):  # 2πτL + jρL
        wave = jnp.exp(1j * order * zeta)
        up, down = polynomial * wave, polynomial.conj() / wave
        apart = zeta / size - turns
        factor = cosh - jnp.cos(apart)
        pulls = jnp.where(used, jnp.sin(apart) / jnp.where(factor == 0, 1, factor) / size, 0)
        move = 1 / (jnp.sum(1j * order * (up - down)) / jnp.sum(up + down) - jnp.sum(pulls))
        move = jnp.where(jnp.isfinite(jnp.abs(move)), move, 0)
        move = move / jnp.maximum(jnp.abs(move), 1).astype(dtype)
        zeta = zeta - move
        return jax.lax.complex(zeta.real, jnp.minimum(jnp.abs(zeta.imag), 20))

    zeta = jax.lax.fori_loop(0, 24, improve, jax.lax.complex(2 * jnp.pi * start, 1 + 0 * start))
    return jnp.stack([zeta.real / (2 * jnp.pi), zeta.imag**2])


def _cosh_sinhc(square):
    """cosh x and sinh(x)/x as smooth functions of x², also a little below zero."""
    small = jnp.abs(square) < 1
    near = jnp.where(small, square, 0)
    root = jnp.sqrt(jnp.where(small, 1, square))
    cosh, sinhc = (
        sum(near**k * (1 / math.factorial(2 * k + odd)) for k in range(10)) for odd in (0, 1)
    )
    return jnp.where(small, cosh, jnp.cosh(root)), jnp.where(small, sinhc, jnp.sinh(root) / root)


def _newton(function, start, iterations=5):
    """Newton's method, stepping half a resolution cell at most, on pairs the window can tell."""
    jacobian = jax.jacfwd(function)

    def improve(_, pair):
        move = jnp.nan_to_num(_linalg.solve(jacobian(pair), function(pair)))
        delay = pair[0] - jnp.clip(move[0], -0.5, 0.5)
        return jnp.stack([delay, jnp.clip(pair[1] - move[1], -0.5, 400.0)])

    return jax.lax.fori_loop(0, iterations, improve, start)
