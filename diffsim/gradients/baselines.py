"""Baselines: what a score-function estimate subtracts from the loss without moving its mean.

A baseline takes losses (n,) and scores (n, p) and returns what to subtract from each loss, (n,).
It must not depend on its own sample. Two classic slips, both avoided here: subtracting the batch
mean with 1/n shrinks the estimate by (n − 1)/n; a moving average that already contains the
current sample is biased. Losses that failed are NaN and are left out of every sum.
"""

from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import struct
from jax.typing import ArrayLike

from diffsim.gradients.problem import Problem


class Baseline:
    """Losses (n,) and scores (n, p) to the amounts subtracted, (n,).

    Attributes:
        least: samples it needs.
        evaluations: of the loss, beside those of the samples.
    """

    least: ClassVar[int] = 1
    evaluations: ClassVar[int] = 0

    def __call__(self, values: jax.Array, scores: jax.Array) -> jax.Array:
        raise NotImplementedError

    def level(self, problem: Problem, values: jax.Array, scores: jax.Array) -> jax.Array:
        """The same, where it may look at the problem."""
        return self(values, scores)


@struct.dataclass
class NoBaseline(Baseline):
    """b = 0."""

    def __call__(self, values, scores):
        return jnp.zeros_like(values)


@struct.dataclass
class Constant(Baseline):
    """b = a number known beforehand, e.g. the mean loss of EARLIER batches."""

    value: ArrayLike = 0.0

    def __call__(self, values, scores):
        return jnp.full_like(values, jnp.asarray(self.value).astype(values.dtype))


@struct.dataclass
class AtPoint(Baseline):
    """b = f(x), which no sample enters: unbiased, for one more evaluation.

    Source: Suh et al. 2022, "Do differentiable simulators give better policy gradients?".
    """

    evaluations = 1

    def level(self, problem, values, scores):
        return Constant(jnp.mean(problem.here()))(values, scores)


@struct.dataclass
class LeaveOneOut(Baseline):
    """b_i = mean of the other losses, so the estimate is 1/(n−1) Σ (f_i − f̄) s_i.

    Source: Kool, van Hoof & Welling 2019, "Buy 4 REINFORCE Samples, Get a Baseline for Free!".
    """

    least = 2

    def __call__(self, values, scores):
        return _weighted_others(values, jnp.ones_like(values))


@struct.dataclass
class BestConstant(Baseline):
    """The constant of least variance, E[f‖s‖²]/E[‖s‖²], learned from the other samples.

    Source: Greensmith, Bartlett & Baxter 2004 (JMLR 5); leaving the sample out keeps it unbiased.
    """

    least = 2

    def __call__(self, values, scores):
        return _weighted_others(values, jnp.sum(scores**2, axis=1))


def _weighted_others(values, weights):
    good = jnp.isfinite(values)
    weights = jnp.where(good, weights, 0)
    products = weights * jnp.where(good, values, 0)
    return (jnp.sum(products) - products) / (jnp.sum(weights) - weights)
