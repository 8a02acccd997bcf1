"""The score-function (REINFORCE, likelihood-ratio) gradient: values only, jumps allowed."""

import jax
import jax.numpy as jnp
from flax import struct

from diffsim.gradients.base import Draws, Sampled
from diffsim.gradients.baselines import Baseline, LeaveOneOut
from diffsim.gradients.laws import Gaussian, Law, check_law, seen


@struct.dataclass
class ScoreFunction(Sampled):
    """ĝ = (1/n) Σ (f_i − b_i) s_i, with s_i = ∂ log p(x_i; x)/∂x; unbiased for the smoothed loss.

    On a quadratic, with G, F and t as in Gaussian calculus, the trace of the variance a sample is
    V = (d+1)G + ½σ²(d+4)F for b = E f, V − σ²t²/d for the best constant; an antithetic pair costs
    two evaluations and has (d+1)G.

    Attributes:
        law: any noise law.
        baseline: see ``baselines``; in antithetic pairs it cancels and is not used.
        antithetic: pairs ±ε, and ``samples`` of those.

    With the baseline ``AtPoint()`` it is zeroth-order randomised smoothing.

    Source: Williams 1992; Mohamed et al. 2020, §4.
    """

    law: Law = Gaussian()
    baseline: Baseline = LeaveOneOut()
    antithetic: bool = struct.field(pytree_node=False, default=False)
    spreads = True

    def check(self, least: int = 1) -> None:
        super().check(1 if self.antithetic else self.baseline.least)
        check_law(self.law, self.antithetic)

    def draw(self, problem) -> Draws:
        noise = self.law.sample(problem.key, (self.samples, problem.dimension), problem.x.dtype)
        if self.antithetic:
            noise = jnp.stack([noise, -noise], axis=1)
        points = jax.lax.stop_gradient(relaxed_points(problem, self.law, noise))
        points = seen(self.law, points)
        values = problem.evaluate(points, self.chunk)
        scores = parameter_scores(problem, self.law, points)
        if self.antithetic:
            terms = jnp.mean(values[..., None] * scores, axis=1)
            return Draws(jnp.mean(values, axis=1), terms, evaluations=2 * self.samples)
        level = self.baseline.level(problem, values, scores)
        terms = (values - level)[:, None] * scores
        return Draws(values, terms, evaluations=self.samples + self.baseline.evaluations)


def relaxed_points(problem, law, noise: jax.Array) -> jax.Array:
    """Points for noise (..., d), the law's scale taken from x where x is a Distribution."""
    mean, placed = problem.place(law)
    flat = jax.vmap(lambda drawn: placed.reparameterize(mean, drawn))(noise.reshape(-1, mean.size))
    return flat.reshape(noise.shape)


def parameter_scores(problem, law, points: jax.Array) -> jax.Array:
    """∂ log p(point; x)/∂x for points (..., d), shape (..., p)."""

    def log_prob(x, point):
        mean, placed = problem.place(law, x)
        return placed.log_prob(point, mean)

    flat = jax.vmap(jax.grad(log_prob), (None, 0))(problem.x, points.reshape(-1, points.shape[-1]))
    return flat.reshape(*points.shape[:-1], problem.x.size)
