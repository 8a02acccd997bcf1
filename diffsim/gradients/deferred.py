"""A method in two halves: the points it asks for, and the estimate once their losses are known.

Every method that uses nothing but values says where it wants them by ``problem.evaluate``. Its
``draw`` is traced twice with one key: first to note the points, then to be given the losses. So
a loss that JAX cannot call needs no second copy of any method, and all points of an estimate are
known at once.
"""

import math

import jax
import jax.numpy as jnp

from diffsim.gradients.base import Draws, Method
from diffsim.gradients.problem import Problem

_REFUSED = (
    "method: expected one that uses the loss's values at real points alone, got one that "
    "differentiates it or looks inside; a black box lets nobody"
)


class Deferred(Problem):
    """A problem whose losses come from outside: :func:`points`, then :func:`draws`."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.asked: list[jax.Array] = []
        self.answers: jax.Array | None = None

    def evaluate(self, points: jax.Array, chunk: int | None = None) -> jax.Array:
        shape = points.shape[:-1]
        if jnp.iscomplexobj(points):
            raise TypeError(_REFUSED)
        if self.answers is None:
            self.asked.append(points.reshape(-1, points.shape[-1]))
            return jnp.full(shape, jnp.nan, self.x.dtype)  # points that depend on it turn NaN too
        count = math.prod(shape)
        values, self.answers = self.answers[:count], self.answers[count:]
        return self.settle(values.reshape(shape))

    def call(self, point, key):
        raise TypeError(_REFUSED)


def points(method: Method, problem: Deferred) -> jax.Array:
    """Where the method wants the loss, (m, d), all at once.

    Raises:
        TypeError: the method differentiates the loss, or looks inside an unrolled loss.
    """
    problem.asked, problem.answers = [], None
    method.draw(problem)
    return jnp.concatenate(problem.asked)


def draws(method: Method, problem: Deferred, losses: jax.Array) -> Draws:
    """The method's terms from the losses (m,) at its :func:`points`; NaN for one that failed."""
    problem.answers = losses
    return method.draw(problem)
