"""Differences and derivatives along random directions: SPSA, forward gradients, and the rest."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from diffsim import _check
from diffsim.gradients import steps
from diffsim.gradients.base import Draws, Method, check_chunk, check_count
from diffsim.gradients.directions import Directions, GaussianDirections, Rademacher
from diffsim.gradients.problem import mapped


def _blocks(directions: Directions, problem, samples: int) -> jax.Array:
    """Directions (samples, k, d)."""
    keys = jax.random.split(problem.key, samples)
    return jax.vmap(lambda key: directions.draw(key, problem.x.size, problem.x.dtype))(keys)


def _difference_terms(problem, blocks: jax.Array, step: Any, chunk: int | None) -> jax.Array:
    """Mean over each block of [f(x + hv) − f(x − hv)]/2h · v, (samples, d)."""
    if step is None:
        step = steps.default_step(steps.CENTRAL, problem.x.dtype)
    size = jnp.max(steps.scaled(step, problem.x))
    moves = jnp.stack([size * blocks, -size * blocks], axis=1)
    values = problem.evaluate(problem.x + moves, chunk)
    slopes = (values[:, 0] - values[:, 1]) / (2 * size)
    return jnp.mean(slopes[..., None] * blocks, axis=1)


class _Differences(Method):
    """What the difference methods share: f itself is differentiated, 2k evaluations a sample."""

    objective = "f"
    bias = steps.TRUNCATED
    samples: int
    step: Any
    chunk: int | None

    def check(self) -> None:
        if self.step is not None:
            _check.in_range("step", self.step, 0.0, open_low=True)
        check_count("samples", self.samples)
        check_chunk(self.chunk)

    def family(self) -> Directions:
        raise NotImplementedError

    def draw(self, problem) -> Draws:
        blocks = _blocks(self.family(), problem, self.samples)
        terms = _difference_terms(problem, blocks, self.step, self.chunk)
        count = 2 * blocks.shape[0] * blocks.shape[1]
        return Draws(problem.here(), terms, evaluations=count)


@struct.dataclass
class SPSA(_Differences):
    """ĝ = (1/n) Σ [f(x + cΔ) − f(x − cΔ)]/2c · Δ, Δ_i = ±1: two evaluations whatever d is.

    Variance (d−1)G a pair, bias O(c²).

    Attributes:
        step: c; None for the central-difference step of the dtype, times max(1, max|x_i|).
        samples: pairs.
        chunk: evaluations at once, None for all.

    Source: Spall 1992, IEEE TAC 37(3).
    """

    step: Any = None
    samples: int = struct.field(pytree_node=False, default=16)
    chunk: int | None = struct.field(pytree_node=False, default=None)

    def family(self) -> Directions:
        return Rademacher()


@struct.dataclass
class RandomDirections(_Differences):
    """ĝ = mean over blocks and directions of [f(x + hv) − f(x − hv)]/2h · v.

    Attributes:
        directions: a family of ``directions``, e.g. ``Haar(8)``.
        step: h; None for the central-difference step of the dtype, times max(1, max|x_i|).
        samples: independent blocks.
        chunk: evaluations at once, None for all.

    Source: Berahas et al. 2022, "A theoretical and empirical comparison of gradient
    approximations in derivative-free optimization".
    """

    directions: Directions = struct.field(pytree_node=False, default=GaussianDirections())
    step: Any = None
    samples: int = struct.field(pytree_node=False, default=16)
    chunk: int | None = struct.field(pytree_node=False, default=None)

    def family(self) -> Directions:
        return self.directions


@struct.dataclass
class ForwardGradient(Method):
    """ĝ = (1/n) Σ (∇f·v) v, the slope ∇f·v by one forward-mode pass: no tape, no step size.

    Variance (d−1)G with signs, (d+1)G with Gaussian directions.

    Attributes:
        directions: a family of ``directions``.
        samples: independent blocks.
        chunk: blocks at once, None for all.

    Source: Baydin et al. 2022, "Gradients without backpropagation".
    """

    directions: Directions = struct.field(pytree_node=False, default=Rademacher())
    samples: int = struct.field(pytree_node=False, default=16)
    chunk: int | None = struct.field(pytree_node=False, default=None)
    objective = "f"

    def check(self) -> None:
        check_count("samples", self.samples)
        check_chunk(self.chunk)

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
