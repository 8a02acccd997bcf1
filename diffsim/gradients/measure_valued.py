"""Measure-valued derivatives: the Gaussian's derivative as a difference of two laws."""

import jax
import jax.numpy as jnp
from flax import struct

from diffsim import _check
from diffsim._types import ArrayLike
from diffsim.gradients.base import Draws, Sampled


@struct.dataclass
class MeasureValued(Sampled):
    """Per coordinate, with the others drawn at random:

    mean:  [f(μ + σw) − f(μ − σw)] / (√(2π) σ), w ~ Rayleigh(1)
    scale: [f(μ + σm) − f(μ + σz)] / σ, m double-sided Maxwell, z standard normal

    Both sides share the other coordinates and (coupled) their own draw: the same w, and z = m u
    with u uniform, which is normal. 2d evaluations a sample (4d with the scale), no derivative,
    jumps allowed. On a quadratic the variance a sample is (4/π − 1)G + (4/π)σ² Σ_{i≠j} A_ij² in
    the mean and G + σ²F in the scale, coupled.

    Attributes:
        sigma: deviation for a plain x; a ``Distribution`` brings its own.
        coupled: share the draw between the two sides; False draws each for itself.

    Source: Pflug 1996; Mohamed et al. 2020, §6, table 1; coupling: Heidergott et al. 2008.
    """

    sigma: ArrayLike = 0.1
    samples: int = struct.field(pytree_node=False, default=8, kw_only=True)
    coupled: bool = struct.field(pytree_node=False, default=True)
    spreads = True

    def check(self, least: int = 1) -> None:
        super().check(least)
        _check.in_range("sigma", self.sigma, 0.0, open_low=True)

    def draw(self, problem) -> Draws:
        d, dtype = problem.dimension, problem.x.dtype
        mean = problem.x[:d]
        sigma = problem.x[d:] if problem.spread else jnp.asarray(self.sigma).astype(dtype)
        shape = (self.samples, d)
        rest_key, up_key, down_key, maxwell_key, sign_key, uniform_key = jax.random.split(
            problem.key, 6
        )
        rest = jax.random.normal(rest_key, shape, dtype)
        up = jax.random.rayleigh(up_key, 1.0, shape, dtype)
        down = up if self.coupled else jax.random.rayleigh(down_key, 1.0, shape, dtype)
        sides = [up, -down]
        if problem.spread:
            maxwell = jax.random.maxwell(maxwell_key, shape, dtype)
            maxwell = maxwell * jax.random.rademacher(sign_key, shape, dtype)
            if self.coupled:
                normal = maxwell * jax.random.uniform(uniform_key, shape, dtype)
            else:
                normal = jax.random.normal(uniform_key, shape, dtype)
            sides += [maxwell, normal]
        own = jnp.stack(sides, axis=1)[..., None]  # (n, sides, d, 1): the coordinate's own draw
        noise = jnp.where(jnp.eye(d, dtype=bool), own, rest[:, None, None, :])
        values = problem.evaluate(mean + sigma * noise, self.chunk)  # (n, sides, d)
        terms = (values[:, 0] - values[:, 1]) / (jnp.sqrt(2 * jnp.pi).astype(dtype) * sigma)
        if problem.spread:
            wider = problem.fold_scale((values[:, 2] - values[:, 3]) / sigma)
            terms = jnp.concatenate([terms, wider], axis=1)
        objective = problem.evaluate(mean + sigma * rest, self.chunk)
        return Draws(objective, terms, evaluations=values.size)
