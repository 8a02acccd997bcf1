"""The contract of a task: starts to draw, what the network sees, and a loss for its answer."""

from collections.abc import Callable
from typing import Protocol

import jax

from diffsim._types import Tree


class Serving(Protocol):
    """What every task has: starts, a tree of arrays each, and what the network sees of them."""

    @property
    def weight_count(self) -> int:
        """Length of the weight vector, the network's output: the loss takes any, so no one else
        can tell."""
        ...

    def sample(self, key: jax.Array) -> Tree:
        """One start, drawn at random."""
        ...

    def observe(self, start: Tree) -> jax.Array:
        """What the network sees of it, (observations,), of order 1."""
        ...


class Task(Serving, Protocol):
    """Something to achieve with one trajectory, decided at the start.

    A class that derives from it needs no :meth:`terms`.
    """

    def loss(self, weights: jax.Array, start: Tree) -> jax.Array:
        """The loss of one trajectory, (); its negative is the reward."""
        ...

    def terms(self, weights: jax.Array, start: Tree) -> dict[str, jax.Array]:
        """The summands of the loss by name, each ()."""
        return {"loss": self.loss(weights, start)}

    def measures(self, weights: jax.Array, start: Tree) -> dict[str, jax.Array]:
        """What to report of what really happens, by name.

        Whether something happened is a bool, (), of which a rate is told; a number, (), is NaN
        where there is none, and its mean is told. Other shapes are for drawing. ``sound`` (bool)
        is False where the simulation does not vouch for the rest, ``landing_error`` is in m.
        """
        ...


class HostTask(Serving, Protocol):
    """A task whose simulator is a black box on the host: its loss is not for JAX to trace."""

    @property
    def simulator(self) -> Callable[..., dict[str, float]]:
        """``simulator(weights, start, real)`` → terms and measures by name, NaN if not asked."""
        ...

    @property
    def workers(self) -> int:
        """Processes to run it in; 0 for this one."""
        ...

    @property
    def terms(self) -> tuple[str, ...]:
        """Names of the summands of the loss, found where ``real`` is False."""
        ...

    @property
    def measures(self) -> dict[str, type]:
        """What to report, found where ``real`` is True, by name: bool or float."""
        ...
