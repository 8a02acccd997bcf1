"""Stochastic gradient descent with any estimator: what the published comparisons run."""

from collections.abc import Callable

import jax

from diffsim.gradients.alpha_order import AlphaOrder
from diffsim.gradients.base import Method, surrogate
from diffsim.gradients.baselines import AtPoint
from diffsim.gradients.concentration import Bernstein
from diffsim.gradients.laws import Gaussian
from diffsim.gradients.pathwise import Pathwise
from diffsim.gradients.score_function import ScoreFunction


def contenders(
    sigma: float, batch: int, gamma: float, largest: float | None = None
) -> dict[str, Method]:
    """The three estimators that the source compares, over noise of deviation σ; L as it sets it."""
    law = Gaussian(sigma)
    return {
        "pathwise": Pathwise(law, samples=batch),
        "score function": ScoreFunction(law, AtPoint(), samples=batch),
        "alpha-order": AlphaOrder(law, samples=batch, gamma=gamma, bound=Bernstein(largest)),
    }


def descend(
    loss: Callable, method: Method, start: jax.Array, keys: jax.Array, *, rate: float, steps: int
) -> jax.Array:
    """The last x of x ← x − rate ĝ(x), ``steps`` times, for each of the keys.

    >>> import jax.numpy as jnp
    >>> keys = jax.random.split(jax.random.key(0), 2)
    >>> descend(lambda x: x @ x, Pathwise(), jnp.ones(1), keys, rate=0.25, steps=1).tolist()
    [[0.5], [0.5]]
    """
    slope = jax.grad(surrogate(loss, method))

    def step(x, key):
        return x - rate * slope(x, key=key), None

    def one(key):
        return jax.lax.scan(step, start, jax.random.split(key, steps))[0]

    return jax.jit(jax.vmap(one))(keys)
