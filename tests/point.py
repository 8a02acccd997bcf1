"""A task that costs nothing: point at the start; traced, or with a simulator on the host."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from diffsim.physics import BallState


@struct.dataclass
class Point:
    """Two weights that should be the start's x and y; NaN for starts with x beyond ``poison``."""

    poison: float = 2.0
    weight_count: int = struct.field(pytree_node=False, default=2)

    def sample(self, key):
        place = jax.random.uniform(key, (3,), minval=-1.0)
        return BallState(place, jnp.zeros(3), jnp.zeros(3))

    def observe(self, start):
        return start.position

    def terms(self, weights, start):
        bad = start.position[0] > self.poison
        return {
            "distance": jnp.sum((weights - start.position[:2]) ** 2),
            "size": jnp.where(bad, jnp.nan, 1e-3 * jnp.sum(weights**2)),
        }

    def loss(self, weights, start):
        return sum(self.terms(weights, start).values())

    def measures(self, weights, start):
        error = jnp.linalg.norm(weights - start.position[:2])
        legal = error < 0.5
        return {
            "hit": error < 1, "legal": legal, "landing_error": jnp.where(legal, error, jnp.nan)
        }  # fmt: skip


def simulate(weights, start, real):
    """``Point`` in NumPy."""
    way = weights - start.position[:2]
    error = np.sqrt(np.sum(way**2))
    return {
        "distance": np.sum(way**2),
        "size": 1e-3 * np.sum(weights**2),
        "hit": float(error < 1),
        "legal": float(error < 0.5),
        "landing_error": error if error < 0.5 else np.nan,
    }


@dataclasses.dataclass(frozen=True, eq=False)
class HostPoint:
    """The task of ``Point``, its simulator a black box."""

    simulator: object = staticmethod(simulate)
    workers: int = 0
    weight_count: int = 2
    terms: tuple = ("distance", "size")
    measures = {"hit": bool, "legal": bool, "landing_error": float}  # noqa: RUF012
    sample = Point.sample
    observe = Point.observe
