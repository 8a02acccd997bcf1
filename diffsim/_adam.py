"""Descent by Adam, compiled as one loop."""

from collections.abc import Callable

import jax
import optax

from diffsim._types import Tree


def adam(
    loss: Callable[[Tree, Tree], jax.Array], start: Tree, steps: Tree, rate: optax.ScalarOrSchedule
) -> Tree:
    """x after a step down the slope of loss(x, row) for each row of ``steps``.

    Args:
        loss: (tree, row) → scalar.
        start: x, a tree of floats.
        steps: such as a key or a number each; leaves (n, …).
        rate: of learning.

    Source: Kingma & Ba, Adam: a method for stochastic optimization, 2015.

    >>> import jax.numpy as jnp
    >>> found = adam(lambda x, aim: (x - aim) ** 2, jnp.zeros(()), jnp.ones(300), 0.1)
    >>> round(float(found), 2)
    1.0
    """
    optimiser = optax.adam(rate)

    def step(carry, row):
        x, memory = carry
        slope = jax.grad(loss)(x, row)
        with jax.numpy_dtype_promotion("standard"):  # optax mixes an integer count into floats
            updates, memory = optimiser.update(slope, memory, x)
        return (optax.apply_updates(x, updates), memory), None

    return jax.lax.scan(step, (start, optimiser.init(start)), steps)[0][0]
