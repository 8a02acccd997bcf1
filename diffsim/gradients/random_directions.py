"""Differences and derivatives along random directions: SPSA, forward gradients, and the rest."""

import jax
import jax.numpy as jnp
from flax import struct
from jax.typing import ArrayLike

from diffsim import _check
from diffsim.gradients import steps
from diffsim.gradients.base import Draws, Sampled
from diffsim.gradients.directions import Directions, GaussianDirections, Rademacher
from diffsim.gradients.problem import mapped


def _blocks(directions: Directions, problem, samples: int) -> jax.Array:
    """Directions (samples, k, d)."""
    keys = jax.random.split(problem.key, samples)
    return jax.vmap(lambda key: directions.draw(key, problem.x.size, problem.x.dtype))(keys)


@struct.dataclass
class RandomDirections(Sampled):
    """ĝ = mean over blocks and directions of [f(x + hv) − f(x − hv)]/2h · v.

    Two evaluations a direction; ``samples`` are independent blocks.

    Attributes:
        directions: a family of ``directions``, e.g. ``Haar(8)``.
        step: h; None for the central-difference step of the dtype, times max(1, max|x_i|).

    Source: Berahas et al. 2022, "A theoretical and empirical comparison of gradient
    approximations in derivative-free optimization".
    """

    directions: Directions = struct.field(pytree_node=False, default=GaussianDirections())
    step: ArrayLike | None = struct.field(default=None, kw_only=True)
    samples: int = struct.field(pytree_node=False, default=16, kw_only=True)
    objective = "f"
    bias = steps.TRUNCATED

    def check(self, least: int = 1) -> None:
        super().check(least)
        if self.step is not None:
            _check.in_range("step", self.step, 0.0, open_low=True)

    def draw(self, problem) -> Draws:
        blocks = _blocks(self.directions, problem, self.samples)
        step = self.step
        if step is None:
            step = steps.default_step(steps.CENTRAL, problem.x.dtype)
        size = jnp.max(steps.scaled(step, problem.x))
        moves = jnp.stack([size * blocks, -size * blocks], axis=1)
        values = problem.evaluate(problem.x + moves, self.chunk)
        slopes = (values[:, 0] - values[:, 1]) / (2 * size)
        terms = jnp.mean(slopes[..., None] * blocks, axis=1)
        return Draws(problem.here(), terms, evaluations=values.size)


@struct.dataclass
class SPSA(RandomDirections):
    """Random directions of signs: two evaluations a pair whatever d is, variance (d−1)G.

    Source: Spall 1992, IEEE TAC 37(3).
    """

    directions: Directions = struct.field(pytree_node=False, default=Rademacher())


@struct.dataclass
class ForwardGradient(Sampled):
    """ĝ = (1/n) Σ (∇f·v) v, the slope ∇f·v by one forward-mode pass: no tape, no step size.

    Variance (d−1)G with signs, (d+1)G with Gaussian directions.

    Attributes:
        directions: a family of ``directions``.

    Source: Baydin et al. 2022, "Gradients without backpropagation".
    """

    directions: Directions = struct.field(pytree_node=False, default=Rademacher())
    samples: int = struct.field(pytree_node=False, default=16, kw_only=True)
    objective = "f"

    def draw(self, problem) -> Draws:
        blocks = _blocks(self.directions, problem, self.samples)

        def block(vectors, key):
            def along(vector):
                return jax.jvp(lambda x: problem.value(x, key), (problem.x,), (vector,))

            return jax.vmap(along)(vectors)

        values, slopes = mapped(block, self.chunk, blocks, problem.keys(self.samples))
        settled = problem.settle(values)
        instead = jnp.nan if problem.penalty is None else 0.0
        slopes = jnp.where(jnp.isfinite(values), slopes, instead)
        terms = jnp.mean(slopes[..., None] * blocks, axis=1)
        return Draws(settled.mean(axis=1), terms, evaluations=blocks.shape[0] * blocks.shape[1])
