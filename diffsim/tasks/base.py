"""The contract of a task: starts to draw, what the network sees, and a loss for its answer."""

from typing import Protocol

import jax

from diffsim.physics import BallState


class Task(Protocol):
    """Something to achieve with one trajectory, decided at the start."""

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

    def loss(self, weights: jax.Array, start: BallState) -> jax.Array:
        """The loss of one trajectory, (); its negative is the reward."""
        ...

    def terms(self, weights: jax.Array, start: BallState) -> dict[str, jax.Array]:
        """The summands of the loss by name, each ()."""
        ...

    def measures(self, weights: jax.Array, start: BallState) -> dict[str, jax.Array]:
        """What to report: ``hit``, ``legal`` (bool) and ``landing_error`` (m, NaN if none)."""
        ...
