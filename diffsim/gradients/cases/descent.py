"""Plain stochastic gradient descent with any estimator: what the published comparisons run."""

from collections.abc import Callable

import jax

from diffsim.gradients.base import Method, surrogate


def descend(
    loss: Callable, method: Method, start: jax.Array, key: jax.Array, *, rate: float, steps: int
) -> jax.Array:
    """x ← x − rate ĝ(x), ``steps`` times, with a fresh key each; the last x.

    >>> from diffsim.gradients.pathwise import Pathwise
    >>> half = descend(lambda x: x @ x, Pathwise(), jnp.ones(1), jax.random.key(0), rate=0.25,
    ...     steps=1)
    >>> half.tolist()
    [0.5]
    """
    slope = jax.grad(surrogate(loss, method))

    def step(x, key):
        return x - rate * slope(x, key=key), None

    return jax.lax.scan(step, start, jax.random.split(key, steps))[0]
