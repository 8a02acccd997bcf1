"""The error that the unseen orders of a spectrum cause, extrapolated from the orders seen.

A rule's error is Σ_k R_k a_k: a_k the integrand's coefficient of order k, R_k the rule's own error
on the k-th basis function, which is known. Coefficients beyond the samples follow from the
envelope of those seen at K/4, K/2 and K, through ln a = A - B k^p: p near 0 is algebraic decay, 1
geometric, 2 Gaussian. A spectrum that is flat and begins to drop only near K is followed at its
last rate. One that drops beyond what is seen cannot be told from one that stays flat: there the
estimate is far too large, and not too small.
"""

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from diffsim.quadrature.base import Band, Interpolatory, PointRule, Rule
from diffsim.quadrature.harmonics import associated_legendre

REACH = 4  # responses are known up to this multiple of the orders seen
TOP = 0.85  # aliasing spoils the last orders: the envelope is read below this share of them
GROWTH = 3.0  # at most this ratio of successive drops, p <= log2(3): curvature beyond is noise
STEEP = 0.7  # from this share of the orders on, the last rate of decay is measured
FAST = 2.5  # a drop over an octave, and a power, that no algebraic decay of interest has
CURVED = 0.5
EXACT = 1e-10  # responses below are roundoff
SAFETY = 5.0  # set, with REMOTE, so that the estimate covers 99 cases in 100
REMOTE = 3  # power of (first order that errs / orders seen) by which the margin grows


@struct.dataclass
class Decay:
    """The fitted envelope ln a(k) = level - drop ((k/k₀)^p - 1)/(1 - 2^-p), or, where that is less
    and the decay is fast, the geometric one edge - rate (k - k₁).

    Attributes:
        level: ln a(k₀).
        drop: ln a(k₀/2) - ln a(k₀), >= 0.
        power: p in [0, log2 3].
        order: k₀.
        edge: ln a(k₁); infinite where the decay is not fast.
        rate: loss of ln a with each order at the end of what is seen, >= 0.
        last: k₁.
    """

    level: jax.Array
    drop: jax.Array
    power: jax.Array
    order: float = struct.field(pytree_node=False)
    edge: jax.Array | float = np.inf
    rate: jax.Array | float = 0.0
    last: float = struct.field(pytree_node=False, default=0.0)

    @classmethod
    def fit(cls, amplitudes: jax.Array) -> "Decay":
        """From the amplitudes of orders 0, 1, … K-1, through their envelope from above."""
        last = max(TOP * (len(amplitudes) - 1), 1e-3)
        tiny = jnp.finfo(amplitudes.dtype).tiny
        logs = []
        for order in (last / 4, last / 2, last):
            low = int(order)
            above, beyond = (
                jnp.log(jnp.maximum(jnp.max(amplitudes[k:]), tiny))
                for k in (low, min(low + 1, len(amplitudes) - 1))
            )
            logs.append(above + (order - low) * (beyond - above))
        fitted = cls.through(jnp.stack(logs), last)
        start, end = int(STEEP * (len(amplitudes) - 1)), len(amplitudes) - 3
        if end - start < 2:
            return fitted
        high, edge = (jnp.log(jnp.maximum(jnp.max(amplitudes[k:]), tiny)) for k in (start, end))
        fast = (fitted.drop > FAST) & (fitted.power > CURVED)
        return replace(
            fitted,
            edge=jnp.where(fast, edge, jnp.inf),
            rate=(high - edge) / (end - start),
            last=float(end),
        )

    @classmethod
    def through(cls, logs: jax.Array, order: float) -> "Decay":
        """Through ln a at order/4, order/2 and order."""
        before = jnp.maximum(logs[0] - logs[1], 1e-9)
        drop = jnp.maximum(logs[1] - logs[2], 0.0)
        return cls(logs[2], drop, jnp.log2(jnp.clip(drop / before, 1.0, GROWTH)), order)

    def amplitude(self, orders: np.ndarray) -> jax.Array:
        """a(k) at the orders, >= 1."""
        k = jnp.asarray(orders, self.level.dtype)
        by_power = self.level - self.drop * self._growth(k / self.order)
        return jnp.exp(jnp.minimum(by_power, self.edge - self.rate * (k - self.last)))

    def order_of(self, log_amplitude: jax.Array) -> jax.Array:
        """The order k at which ln a(k) has come down to a value; infinite where it never does."""
        growth = (self.level - log_amplitude) / jnp.maximum(self.drop, 1e-9)
        flat = self.power < 1e-3
        p = jnp.where(flat, 1.0, self.power)
        curved = jnp.maximum(1 + growth * (1 - 2**-p), 1e-9) ** (1 / p)
        by_power = self.order * jnp.where(flat, 2.0**growth, curved)
        by_rate = self.last + (self.edge - log_amplitude) / jnp.maximum(self.rate, 1e-9)
        return jnp.minimum(by_power, by_rate)

    def _growth(self, ratio: jax.Array) -> jax.Array:
        flat = self.power < 1e-3
        p = jnp.where(flat, 1.0, self.power)
        return jnp.where(flat, jnp.log2(ratio), (ratio**p - 1) / (1 - 2**-p))


@struct.dataclass
class Outlook:
    """What one direction contributes to the error.

    Attributes:
        error: the estimate.
        decay: the fit behind it.
        first: the first order that the rule gets wrong.
    """

    error: jax.Array
    decay: Decay
    first: float = struct.field(pytree_node=False)


def _margin(first: float, seen: int) -> float:
    """What an estimate is multiplied by: more where the first error, as with Gauss–Legendre, is at
    twice the orders that the samples show."""
    return SAFETY * max(float(first) / seen, 1.0) ** REMOTE


@dataclass(frozen=True)
class Response:
    """A rule's own errors on the basis functions that it gets wrong, all of orders not seen.

    Attributes:
        orders: (U,) rising.
        sizes: (U,) |R_k|.
    """

    orders: np.ndarray
    sizes: np.ndarray

    def outlook(self, amplitudes: jax.Array, margin: float) -> Outlook:
        """margin × Σ R_k a_k, the a_k extrapolated from the amplitudes of the orders seen."""
        decay = Decay.fit(amplitudes)
        error = jnp.asarray(self.sizes, amplitudes.dtype) @ decay.amplitude(self.orders)
        return Outlook(margin * error, decay, float(self.orders[0]))


@dataclass(frozen=True)
class Colatitude:
    """The spectrum in θ.

    ``analysis`` acts on the mean over φ and, times sinθ, on the first harmonic in φ: where the
    orientation of f makes the one vanish, the other is large, so their sum has no false zeros.

    Attributes:
        analysis: (K, n).
        matters: (K,) 1 for the orders of the mean that can cause an error at all, else 0.
        lift: (n,) sinθ.
        response: of the rule.
    """

    analysis: np.ndarray
    matters: np.ndarray
    lift: np.ndarray
    response: Response

    @classmethod
    def of(cls, rule: Interpolatory, band: Band | None = None) -> "Colatitude":
        analysis, nodes = rule.analysis, rule.nodes
        seen = len(analysis)
        basis = rule.basis(REACH * seen, nodes)
        errors = rule.weights(band) @ basis - rule.moments(REACH * seen, band)
        wrong = np.flatnonzero(np.abs(errors) > EXACT)
        parities = np.isin([0, 1], wrong % 2)
        response = Response(wrong, np.abs(errors[wrong]))
        return cls(analysis, 1.0 * parities[np.arange(seen) % 2], np.sin(nodes), response)

    def outlook(self, mean: jax.Array, first: jax.Array) -> Outlook:
        """From the mean (n,) and the complex first harmonic (n,) over φ."""
        dtype = mean.dtype
        lift = jnp.asarray(2 * self.lift, dtype)
        columns = jnp.stack([mean, lift * first.real, lift * first.imag], axis=1)
        a, b, c = (jnp.asarray(self.analysis, dtype) @ columns).T
        a = a * jnp.asarray(self.matters, dtype)
        margin = _margin(self.response.orders[0], len(self.analysis))
        return self.response.outlook(jnp.sqrt(a**2 + b**2 + c**2), margin)


@dataclass(frozen=True)
class Halving:
    """Nested halving in θ, for rules without a spectrum: the last change times its last ratio.

    Attributes:
        changes: (2, n) weights less those of half the points, and those less a quarter's.
    """

    changes: np.ndarray

    @classmethod
    def of(cls, rule: Rule) -> "Halving":
        whole, half, quarter = (rule.coarse(level) for level in (0, 1, 2))
        return cls(np.stack([whole - half, half - quarter]))

    def outlook(self, mean: jax.Array, first: jax.Array) -> Outlook:
        """From the mean (n,) over φ."""
        tiny = jnp.finfo(mean.dtype).tiny
        changes = jnp.maximum(jnp.abs(jnp.asarray(self.changes, mean.dtype) @ mean), tiny)
        ratio = jnp.clip(changes[0] / changes[1], 2.0**-7, 1.0)
        logs = jnp.log(jnp.stack([changes[1], changes[0], changes[0] * ratio]))
        order = float(self.changes.shape[1])
        return Outlook(8 * SAFETY * changes[0] * ratio, Decay.through(logs, order), order)


@dataclass(frozen=True)
class Longitude:
    """The spectrum in φ: orders n, 2n, … alias to the mean.

    The energy of the whole grid in each order gives the decay, without the false zeros of the
    θ-integral; the θ-integral gives the level.

    Attributes:
        count: n, meridians of the whole turn.
        response: of the trapezoid.
    """

    count: int
    response: Response

    @classmethod
    def of(cls, n: int) -> "Longitude":
        aliases = np.arange(n, max(REACH * n // 2, n) + 1, n)
        return cls(n, Response(aliases, np.full(len(aliases), 4 * np.pi)))

    def outlook(self, rings: jax.Array, weights: jax.Array) -> Outlook:
        """From the rings' harmonics (rows, K) and their θ-weights (rows,)."""
        size = jnp.abs(weights)
        energy = jnp.sqrt(jnp.sum(size) * (size @ jnp.abs(rings) ** 2))
        level = jnp.abs(weights.astype(rings.dtype) @ rings)
        half = len(level) // 2
        tiny = jnp.finfo(energy.dtype).tiny
        share = jnp.max(level[half:]) / jnp.maximum(jnp.max(energy[half:]), tiny)
        return self.response.outlook(energy * jnp.minimum(share, 1.0), 2 * SAFETY)


@dataclass(frozen=True)
class Scattered:
    """The spectrum of scattered points by degree, from the degrees at L/4, L/2 and L.

    A rule errs on a degree it knows nothing of as random points would: by 4π/√N for a function
    of mean square 1.

    Attributes:
        analysis: three matrices (harmonics, N), one for each window of degrees.
        top: L, half the rule's degree: products up to it are integrated exactly.
        degree: the rule's.
    """

    analysis: tuple[np.ndarray, ...]
    top: int
    degree: int

    @classmethod
    def of(cls, rule: PointRule) -> "Scattered":
        theta, phi = rule.points
        degree, weights = rule.degree, rule.weights()
        top = degree // 2
        windows = [range(max(1, k - 1), max(1, k) + 1) for k in (top // 4, top // 2, top)]
        matrices: list[list[np.ndarray]] = [[], [], []]
        for order, values in enumerate(associated_legendre(top, theta)):
            for window, rows in zip(windows, matrices):
                if order in window:
                    turns = np.outer(np.arange(1, order + 1), phi)
                    sectors = np.sqrt(2) * values[:, 1 : order + 1].T
                    rows += [values[:, :1].T, sectors * np.cos(turns), sectors * np.sin(turns)]
        stacked = (
            np.concatenate(rows) * weights / np.sqrt(len(window))
            for rows, window in zip(matrices, windows)
        )
        return cls(tuple(stacked), top, degree)

    def outlook(self, samples: jax.Array) -> Outlook:
        """From the samples (N,)."""
        dtype = samples.dtype
        sizes = [jnp.linalg.norm(jnp.asarray(matrix, dtype) @ samples) for matrix in self.analysis]
        logs = jnp.log(jnp.maximum(jnp.stack(sizes), jnp.finfo(dtype).tiny))
        decay = Decay.through(jax.lax.cummax(logs, reverse=True), max(float(self.top), 1.0))
        orders = np.arange(self.degree + 1, 2 * self.degree + 2)
        unseen = jnp.sum(decay.amplitude(orders))
        # Unit energy spread over 4π has mean square 1/4π.
        noise = float(np.sqrt(4 * np.pi / len(samples)))
        margin = _margin(self.degree + 1, max(self.top, 1))
        return Outlook(margin * noise * unseen, decay, float(self.degree + 1))
