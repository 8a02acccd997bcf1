"""Worlds and observations that differ from serve to serve: domain randomisation."""

import dataclasses
from typing import Any

import jax
from flax import struct

from diffsim import _check
from diffsim._types import ArrayLike
from diffsim.physics import BallState, World
from diffsim.tasks.radar_view import RadarView


@struct.dataclass
class Serve(BallState):
    """A served ball, and what else was drawn for it.

    Attributes:
        world: the world it flies in.
        target: (x, y) on the table that it is to be returned to, (2,), m.
        seen: the ball as the network sees it.
    """

    world: World
    target: jax.Array
    seen: BallState


@struct.dataclass
class Randomisation:
    """What differs from serve to serve: factors of the world, uniform, and errors of the view.

    Attributes:
        restitution: lowest and highest factor, drawn for each surface, (2,).
        friction: lowest and highest factor, drawn for each surface, (2,).
        drag: lowest and highest factor, (2,).
        latency: lowest and highest age of what the network sees, (2,), s.
        position_noise: standard deviation of each component seen, (), m.
        velocity_noise: standard deviation of each component seen, (), m/s.
        radar: what the network sees in the place of the ball, with no latency or noise but its
            own; or None.
    """

    restitution: jax.Array
    friction: jax.Array
    drag: jax.Array
    latency: jax.Array
    position_noise: jax.Array
    velocity_noise: jax.Array
    radar: RadarView | None

    @classmethod
    def create(
        cls,
        restitution: ArrayLike = (1.0, 1.0),
        friction: ArrayLike = (1.0, 1.0),
        drag: ArrayLike = (1.0, 1.0),
        latency: ArrayLike = (0.0, 0.0),
        position_noise: ArrayLike = 0.0,
        velocity_noise: ArrayLike = 0.0,
        radar: RadarView | None = None,
    ) -> "Randomisation":
        """From checked ranges; by default nothing differs.

        Raises:
            ValueError: a wrong shape, a negative number, a lower end above its upper end.

        >>> Randomisation.create(drag=(1.2, 0.8))
        Traceback (most recent call last):
        ...
        ValueError: drag: expected the lower end first, got [1.2, 0.8]
        """
        ranges = {"restitution": restitution, "friction": friction, "drag": drag}
        return cls(
            **{
                name: _check.ends(name, value, low=0.0)
                for name, value in (ranges | {"latency": latency}).items()
            },
            position_noise=_check.in_range("position_noise", position_noise, 0.0),
            velocity_noise=_check.in_range("velocity_noise", velocity_noise, 0.0),
            radar=radar,
        )

    def world(self, key: jax.Array, world: World) -> World:
        """A world near this one."""
        keys = jax.random.split(key, 3)
        count = len(world.surfaces)
        restitution = uniform(keys[0], self.restitution, (count,))
        friction = uniform(keys[1], self.friction, (count,))
        surfaces = tuple(
            dataclasses.replace(
                surface,
                restitution=surface.restitution * restitution[i],
                friction=surface.friction * friction[i],
            )
            for i, surface in enumerate(world.surfaces)
        )
        drag = world.ball.drag_coefficient * uniform(keys[2], self.drag)
        ball = dataclasses.replace(world.ball, drag_coefficient=drag)
        return dataclasses.replace(world, surfaces=surfaces, ball=ball)

    def view(self, key: jax.Array, ball: BallState, gravity: jax.Array) -> BallState:
        """The ball as it is seen: by radar, or where it was, as if in a vacuum, a while ago."""
        if self.radar is not None:
            return self.radar(key, ball)
        keys = jax.random.split(key, 3)
        age = uniform(keys[0], self.latency)
        noise = [
            deviation * jax.random.normal(each, (3,), ball.position.dtype)
            for each, deviation in zip(keys[1:], (self.position_noise, self.velocity_noise))
        ]
        before = ball.position - age * ball.velocity + 0.5 * age**2 * gravity
        return BallState(before + noise[0], ball.velocity - age * gravity + noise[1], ball.spin)


# Of one size for all: some hardware's spread, an assumption. A camera at 100 Hz is 10 ms late.
USUAL: dict[str, Any] = {
    "restitution": (0.95, 1.05),
    "friction": (0.7, 1.3),
    "drag": (0.85, 1.15),
    "latency": (0.0, 0.01),
    "position_noise": 0.005,
    "velocity_noise": 0.05,
}
# One thing at a time, at and beyond the ends of what is usual: how a policy bears the unforeseen.
SHIFTS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "restitution − 5 %": {"restitution": (0.95, 0.95)},
    "restitution + 5 %": {"restitution": (1.05, 1.05)},
    "friction − 30 %": {"friction": (0.7, 0.7)},
    "friction + 30 %": {"friction": (1.3, 1.3)},
    "drag − 15 %": {"drag": (0.85, 0.85)},
    "drag + 15 %": {"drag": (1.15, 1.15)},
    "10 ms late": {"latency": (0.01, 0.01)},
    "noise": {"position_noise": 0.005, "velocity_noise": 0.05},
    "all drawn": USUAL,
}


def shifts(task: Any) -> dict[str, Any]:
    """A task in each of the worlds and views of :data:`SHIFTS`, by name.

    Raises:
        ValueError: it is seen by radar, which has errors of its own.
    """
    if task.randomisation is not None and task.randomisation.radar is not None:
        raise ValueError("shifted: expected a network that sees the ball, got one with a radar")
    return {
        name: dataclasses.replace(task, randomisation=Randomisation.create(**shift))
        for name, shift in SHIFTS.items()
    }


def uniform(key: jax.Array, ends: jax.Array, shape: tuple[int, ...] | None = None) -> jax.Array:
    """A draw between ends, of their own shape or of ``shape``."""
    shape = ends[0].shape if shape is None else shape
    return ends[0] + (ends[1] - ends[0]) * jax.random.uniform(key, shape, ends.dtype)
