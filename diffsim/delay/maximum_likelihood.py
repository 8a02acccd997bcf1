"""Maximum likelihood of delays by variable projection: amplitudes solved for, delays iterated."""

from dataclasses import replace

import jax
import jax.numpy as jnp
from flax import struct

from diffsim import _linalg
from diffsim._least_squares import levenberg_marquardt
from diffsim.delay.samples import FrequencySamples
from diffsim.delay.steering import curvature, fft_columns, inner, regular, steering


@struct.dataclass
class Fit:
    """Echoes fitted to frequency samples.

    Attributes:
        delays: (K,) in [0, 1), units of 1/step; zero where not ``mask``.
        amplitudes: (K, T); zero where not ``mask``.
        residual: weighted sum of squares left, ‖W(x − P A a)‖².
        slope: (K,) minus half the gradient of the residual over the delays; zero at a minimum.
        information: (K, K) curvature over the delays; σ²/2 times its inverse is the Cramér–Rao
            covariance.
        mask: (K,) echoes in use, the leading ones.
    """

    delays: jax.Array
    amplitudes: jax.Array
    residual: jax.Array
    slope: jax.Array
    information: jax.Array
    mask: jax.Array


@struct.dataclass
class Likelihood:
    """Weighted samples (N, T) and gains (N,) at frequencies (N,) in steps."""

    data: jax.Array
    gain: jax.Array
    index: jax.Array
    real: bool = struct.field(pytree_node=False)

    @classmethod
    def of(cls, samples: FrequencySamples) -> "Likelihood":
        weight = samples.weight.astype(samples.values.dtype)
        data = weight[:, None] * jnp.atleast_2d(samples.values).T
        # A common phase per echo is free when amplitudes are complex: centring conditions best.
        first = samples.offset if samples.real_amplitudes else -(samples.weight.size - 1) / 2
        index = jnp.arange(samples.weight.size, dtype=samples.weight.dtype) + first
        return cls(data, weight * samples.pulse, index, samples.real_amplitudes)

    def fit(self, delays, mask) -> Fit:
        """Amplitudes, residual and its derivatives at given delays."""
        columns, slopes = steering(self.index, self.gain, delays, mask)
        gram = regular(inner(columns, columns, self.real), mask)
        amplitudes = _linalg.solve(gram, inner(columns, self.data, self.real))
        amplitudes = amplitudes.astype(self.data.dtype)
        left = self.data - columns @ amplitudes
        return Fit(
            delays=delays,
            amplitudes=amplitudes,
            residual=jnp.sum(left.real**2 + left.imag**2),
            slope=jnp.sum((amplitudes.conj() * (slopes.conj().T @ left)).real, 1),
            information=curvature(
                columns, slopes, amplitudes @ amplitudes.conj().T, mask, self.real
            ),
            mask=mask,
        )


@jax.default_matmul_precision("highest")
@jax.jit
def maximum_likelihood(
    samples: FrequencySamples, delays: jax.Array, mask: jax.Array | None = None
) -> Fit:
    """Refine delays to the nearest minimum of ‖W(x − P A(τ) a)‖² over τ and a.

    Levenberg–Marquardt with Kaufman's Jacobian finds the minimum; derivatives with respect to
    the samples follow from its stationarity by the implicit function theorem, forward and
    reverse, whatever the start was.

    Args:
        samples: what was measured, with pulse and weights.
        delays: (K,) start, in units of 1/step after the origin.
        mask: (K,) echoes in use; all by default.

    Returns:
        the :class:`Fit`, in the order of the start.

    Source: Golub & Pereyra, SIAM J. Numer. Anal. 10, 413 (1973); Kaufman, BIT 15, 49 (1975).

    >>> import numpy as np
    >>> x = jnp.exp(-0.5j * np.pi * np.arange(16))
    >>> fit = maximum_likelihood(FrequencySamples.create(x), jnp.array([0.23]))
    >>> round(float(fit.delays[0]), 5)
    0.25
    """
    problem = Likelihood.of(samples)
    mask = jnp.ones(delays.shape, bool) if mask is None else mask
    fixed, start = jax.lax.stop_gradient((problem, delays))
    delays = _linalg.implicit(
        lambda d: jnp.where(mask, problem.fit(d, mask).slope, d),
        minimise(fixed, start, mask).delays,
    )
    return evaluate(samples, delays, mask)


@jax.default_matmul_precision("highest")
def evaluate(samples: FrequencySamples, delays: jax.Array, mask: jax.Array) -> Fit:
    """The fit at given delays, amplitudes referred to the true frequencies."""
    fit = Likelihood.of(samples).fit(delays, mask)
    if not samples.real_amplitudes:  # the problem's index is centred
        shift = samples.offset + (samples.weight.size - 1) / 2
        angle = 2 * jnp.pi * shift * delays[:, None]
        turn = jax.lax.complex(jnp.cos(angle), jnp.sin(angle))
        fit = replace(fit, amplitudes=fit.amplitudes * turn)
    return replace(fit, delays=jnp.where(mask, delays % 1, 0))


def minimise(problem: Likelihood, delays: jax.Array, mask: jax.Array, iterations: int = 40) -> Fit:
    """Levenberg–Marquardt from one start; not differentiable."""
    tolerance = jnp.finfo(delays.dtype).eps ** 0.65 / problem.gain.size
    start = jnp.where(mask, delays, 0)
    return levenberg_marquardt(
        lambda d: problem.fit(d, mask), start, iterations=iterations, tolerance=tolerance
    )[1]


def next_delay(problem: Likelihood, fit: Fit) -> jax.Array:
    """The delay on a grid whose echo, added to the fitted ones, leaves the smallest residual.

    Orthogonal least squares with complex amplitudes: the largest ‖a(d)ᴴ r‖² / ‖(I − Π_A) a(d)‖²,
    all d by FFT.
    """
    size = problem.gain.size
    points = 4 << (size - 1).bit_length()
    columns, _ = steering(problem.index, problem.gain, fit.delays, fit.mask)

    def correlate(rows):  # a(d)ᴴ rows but for a phase, (points, columns of rows)
        return fft_columns(problem.gain[:, None] * rows.conj(), points).conj()

    along = correlate(columns)
    gram = regular(columns.conj().T @ columns, fit.mask)
    whole = jnp.sum(jnp.abs(problem.gain) ** 2)
    across = whole - jnp.sum((along * _linalg.solve(gram, along.conj().T).T).real, 1)
    gain = jnp.sum(jnp.abs(correlate(problem.data - columns @ fit.amplitudes)) ** 2, 1)
    clear = across > 1e-3 * whole
    best = jnp.argmax(jnp.where(clear, gain / jnp.where(clear, across, 1), -1))
    return best.astype(fit.delays.dtype) / points
