"""Evolution strategies: antithetic Gaussian perturbations, with optional rank shaping."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import struct

from diffsim import _check
from diffsim._types import ArrayLike
from diffsim.gradients.base import Draws, Sampled, check_count
from diffsim.gradients.baselines import LeaveOneOut


def centered_ranks(values: jax.Array) -> jax.Array:
    """Each loss's rank, spread evenly over [−½, ½]; ties share their mean rank, NaN stays NaN.

    >>> centered_ranks(jnp.array([3.0, 1e9, -2.0])).tolist()
    [0.0, 0.5, -0.5]
    """
    flat = values.ravel()
    good = jnp.isfinite(flat)
    rank = jax.scipy.stats.rankdata(jnp.where(good, flat, jnp.inf)).astype(values.dtype) - 1
    spread = jnp.maximum(jnp.sum(good) - 1, 1).astype(values.dtype)
    return jnp.where(good, rank / spread - 0.5, jnp.nan).reshape(values.shape)


@struct.dataclass
class EvolutionStrategies(Sampled):
    """ĝ = (1/n) Σ [f(x + σε_i) − f(x − σε_i)] ε_i / 2σ, ε ~ N(0, I).

    Variance (d+1)G a pair on a quadratic, whatever its curvature. With ``shaping`` the losses are
    first replaced by (say) their centred ranks: robust to outliers, but the gradient of another
    objective, so only its direction compares. With x a ``Distribution`` it is PGPE, which learns
    the scale as well: (1/n) Σ (½(f⁺ + f⁻) − b) (ε² − 1)/σ, b the mean over the other pairs.

    Attributes:
        sigma: smoothing deviation, in the units of x; scalar or (d,).
        antithetic: pairs ±ε, and ``samples`` of those; otherwise single draws with a
            leave-one-out baseline.
        shaping: function of all losses at once, e.g. :func:`centered_ranks`; None for the losses.

    Source: Salimans et al. 2017, §2; Nesterov & Spokoiny 2017; in the scale Sehnke et al. 2010,
    "Parameter-exploring policy gradients".
    """

    sigma: ArrayLike = 0.1
    samples: int = struct.field(pytree_node=False, default=32, kw_only=True)
    antithetic: bool = struct.field(pytree_node=False, default=True)
    shaping: Callable | None = struct.field(pytree_node=False, default=None)
    spreads = True

    @property
    def objective(self) -> str:  # type: ignore[override]
        return "smoothed" if self.shaping is None else "rank-shaped"

    def check(self, least: int = 1) -> None:
        super().check(1 if self.antithetic else 2)
        _check.in_range("sigma", self.sigma, 0.0, open_low=True)

    def draw(self, problem) -> Draws:
        d, dtype = problem.dimension, problem.x.dtype
        sigma = problem.x[d:] if problem.spread else jnp.asarray(self.sigma).astype(dtype)
        noise = jax.random.normal(problem.key, (self.samples, d), dtype)
        sides = jnp.stack([noise, -noise], axis=1) if self.antithetic else noise[:, None]
        values = problem.evaluate(problem.point + sigma * sides, self.chunk)
        shaped = values if self.shaping is None else self.shaping(values)
        if self.antithetic:
            slope = 0.5 * (shaped[:, 0] - shaped[:, 1])
        else:
            slope = shaped[:, 0] - LeaveOneOut()(shaped[:, 0], noise)
        terms = slope[:, None] * noise / sigma
        if problem.spread:
            check_count("samples", self.samples, 2)
            middle = jnp.mean(shaped, axis=1)
            above = middle - LeaveOneOut()(middle, noise)
            wider = problem.fold_scale(above[:, None] * (noise**2 - 1) / sigma)
            terms = jnp.concatenate([terms, wider], axis=1)
        return Draws(jnp.mean(values, axis=1), terms, evaluations=values.size)
