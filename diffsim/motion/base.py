"""The contract of a trajectory generator: weights in, a paddle path with exact derivatives out."""

from typing import Protocol

import jax
import jax.numpy as jnp
from flax import struct

from diffsim.physics.state import Pose


class Generator(Protocol):
    """Maps a weight vector to generalised coordinates of the paddle over time.

    The six coordinates are the centre (m) and a rotation vector (rad), both in the world frame.
    A generator is a frozen record; its fields are settings, its weights are an argument.
    """

    duration: jax.Array

    @property
    def weight_count(self) -> int:
        """Length of the weight vector."""
        ...

    def coordinates(self, weights: jax.Array, time: jax.Array) -> jax.Array:
        """Coordinates (6,) at one time in [0, duration]."""
        ...


def rotation_matrix(vector: jax.Array) -> jax.Array:
    """R = exp([vector]×), shape (3, 3)."""
    raise NotImplementedError


@struct.dataclass
class Path:
    """A generator with its weights: ``path(t)`` is the paddle's :class:`Pose`."""

    generator: Generator
    weights: jax.Array

    def __call__(self, time: jax.Array) -> Pose:
        raise NotImplementedError


__all__ = ["Generator", "Path", "Pose", "jnp", "rotation_matrix"]
