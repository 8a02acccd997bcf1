"""PGPE: parameter-exploring policy gradients, in the mean and the scale of a search law."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from diffsim import _check
from diffsim.gradients.base import Draws, Method, check_chunk, check_count
from diffsim.gradients.baselines import LeaveOneOut


@struct.dataclass
class PGPE(Method):
    """Symmetric samples x ± σε, ε ~ N(0, I):

    mean:  (1/n) Σ (f⁺ − f⁻) ε / 2σ
    scale: (1/n) Σ (½(f⁺ + f⁻) − b) (ε² − 1)/σ, b the mean over the other pairs.

    Give ``x`` as a ``Distribution`` to learn the scale too; for a plain x the scale stays
    ``sigma`` and the estimate is that of antithetic evolution strategies.

    Attributes:
        sigma: deviation for a plain x, in its units; scalar or (d,).
        samples: pairs.
        chunk: evaluations at once, None for all.

    Source: Sehnke et al. 2010, "Parameter-exploring policy gradients" (symmetric sampling).
    """

    sigma: Any = 0.1
    samples: int = struct.field(pytree_node=False, default=32)
    chunk: int | None = struct.field(pytree_node=False, default=None)
    spreads = True

    def check(self) -> None:
        _check.in_range("sigma", self.sigma, 0.0, open_low=True)
        check_count("samples", self.samples)
        check_chunk(self.chunk)

    def draw(self, problem) -> Draws:
        dtype, d = problem.x.dtype, problem.dimension
        if problem.spread:
            check_count("samples", self.samples, 2)
        mean, scale = problem.x[:d], problem.x[d:]
        sigma = scale if problem.spread else jnp.asarray(self.sigma).astype(dtype)
        noise = jax.random.normal(problem.key, (self.samples, d), dtype)
        step = jnp.stack([noise, -noise], axis=1) * sigma
        values = problem.evaluate(mean + step, self.chunk)
        terms = 0.5 * (values[:, 0] - values[:, 1])[:, None] * noise / sigma
        middle = jnp.mean(values, axis=1)
        if problem.spread:
            above = middle - LeaveOneOut()(middle, noise)
            wider = problem.fold_scale(above[:, None] * (noise**2 - 1) / sigma)
            terms = jnp.concatenate([terms, wider], axis=1)
        return Draws(middle, terms, evaluations=2 * self.samples)
