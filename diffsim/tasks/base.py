"""The contract of a task: starts to draw, what the network sees, and a loss for its answer."""

from collections.abc import Callable
from typing import Protocol

import jax

from diffsim.physics import BallState


class Serving(Protocol):
    """What every task has: starts, and what the network sees of them."""

    @property
    def weight_count(self) -> int:
        """Length of the trajectory's weight vector: the network's output."""
        ...

    def sample(self, key: jax.Array) -> BallState:
        """One start, drawn at random."""
        ...

    def observe(self, start: BallState) -> jax.Array:
        """What the network sees of it, (observations,), of order 1."""
        ...


class Task(Serving, Protocol):
    """Something to achieve with one trajectory, decided at the start."""

    def loss(self, weights: jax.Array, start: BallState) -> jax.Array:
        """The loss of one trajectory, (); its negative is the reward."""
        ...

    def terms(self, weights: jax.Array, start: BallState) -> dict[str, jax.Array]:
        """The summands of the loss by name, each ()."""
        ...

    def measures(self, weights: jax.Array, start: BallState) -> dict[str, jax.Array]:
        """What to report: ``hit``, ``legal`` (bool) and ``landing_error`` (m, NaN if none).

        Also ``sound`` (bool), False where the simulation does not vouch for that.
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
    def measures(self) -> tuple[str, ...]:
        """Names of what to report, found where ``real`` is True: see :meth:`Task.measures`."""
        ...
