"""The world one ball flies in: what it is made of, and how it stands to the ball at one time."""

from collections.abc import Sequence
from typing import Any

import jax
from flax import struct

from diffsim import _check
from diffsim.physics.flight import AERODYNAMICS, Aerodynamics, ConstantCoefficients
from diffsim.physics.state import Air, Ball
from diffsim.physics.surfaces import Surface, floor, net, table
from diffsim.physics.vector import Vector


@struct.dataclass
class World:
    """A ball, the air, gravity and the surfaces.

    Attributes:
        ball: the one ball.
        air: the still air.
        gravity: (3,), m/s².
        surfaces: what the ball can hit; the driven ones take their pose from a path, in order.
        aerodynamics: force law of the air.
    """

    ball: Ball
    air: Air
    gravity: jax.Array
    surfaces: tuple[Surface, ...]
    aerodynamics: Aerodynamics

    @classmethod
    def create(
        cls,
        surfaces: Sequence[Surface] | None = None,
        *,
        ball: Ball | None = None,
        air: Air | None = None,
        gravity=(0.0, 0.0, -9.81),
        aerodynamics: Aerodynamics | None = None,
    ) -> "World":
        """A world with checked parts; by default a table, a net and the floor.

        Raises:
            TypeError: an entry of ``surfaces`` is not a Surface.
            ValueError: gravity is not three finite numbers; two surfaces of one name; a force law
                with a setting out of range.

        >>> [surface.name for surface in World.create().surfaces]
        ['table', 'net', 'floor']

        Worlds by the batch, for domain randomisation: every number may be drawn.

        >>> import jax.numpy as jnp
        >>> from diffsim.physics import Ball, BallState, simulate
        >>> def height(restitution, drag, tilt):
        ...     ground = Surface.create(restitution=restitution, normal=jnp.stack([tilt, 0.0, 1.0]))
        ...     world = World.create([ground], ball=Ball.create(drag_coefficient=drag))
        ...     drop = BallState.create([0.0, 0.0, 0.3])
        ...     return simulate(world, drop, duration=0.4).final.position[2]
        >>> drawn = jnp.array([0.7, 0.8]), jnp.array([0.4, 0.5]), jnp.array([0.0, 0.1])
        >>> slopes = jax.vmap(jax.grad(height))(*drawn)
        >>> slopes.shape, bool(jnp.all(slopes > 0))
        ((2,), True)
        """
        surfaces = (table(), net(), floor()) if surfaces is None else tuple(surfaces)
        for surface in surfaces:
            if not isinstance(surface, Surface):
                raise TypeError(f"surfaces: expected Surface records, got {surface!r}")
        names = [surface.name for surface in surfaces]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"surfaces: expected each its own name, got two {name!r}")
        law: Any = type(aerodynamics)
        if law in AERODYNAMICS.values():
            law.create(**vars(aerodynamics))
        return cls(
            ball=Ball.create() if ball is None else ball,
            air=Air.create() if air is None else air,
            gravity=_check.in_range("gravity", _check.floating("gravity", gravity, (3,))),
            surfaces=surfaces,
            aerodynamics=ConstantCoefficients() if aerodynamics is None else aerodynamics,
        )

    @property
    def driven_count(self) -> int:
        """How many surfaces need a path."""
        return sum(surface.driven for surface in self.surfaces)

    def acceleration(self, velocity: Vector, spin: Vector) -> Vector:
        """Gravity and air: dv/dt in free flight, m/s²."""
        air = self.aerodynamics(self.ball, self.air, velocity, spin)
        return Vector.of(self.gravity) + air
