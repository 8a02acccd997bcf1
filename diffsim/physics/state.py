"""Records of the simulated things: the ball, the air, and their states and poses."""

import jax
import jax.numpy as jnp
from flax import struct

from diffsim import _check
from diffsim.physics.vector import Vector


@struct.dataclass
class BallState:
    """Where one ball is and how it moves, in the world frame (z up).

    Attributes:
        position: centre of the ball, (3,), m.
        velocity: (3,), m/s.
        spin: angular velocity, (3,), rad/s.
    """

    position: jax.Array
    velocity: jax.Array
    spin: jax.Array

    @classmethod
    def create(cls, position, velocity=(0.0, 0.0, 0.0), spin=(0.0, 0.0, 0.0)) -> "BallState":
        """Check shapes and dtypes and bring the three vectors to one floating type.

        That is the type of the arrays among them; plain numbers follow.

        Raises:
            ValueError: an argument is not of shape (3,).
            TypeError: an argument is not real.

        >>> BallState.create([0.0, 0.0, 1.0]).velocity.shape
        (3,)
        >>> BallState.create([0.0, 0.0])
        Traceback (most recent call last):
        ...
        ValueError: position: expected shape (3,), got (2,)
        """
        given = {"position": position, "velocity": velocity, "spin": spin}
        arrays = [_check.floating(name, value, (3,)) for name, value in given.items()]
        typed = [x for x, value in zip(arrays, given.values()) if hasattr(value, "dtype")]
        dtype = jnp.result_type(*typed or arrays)
        return cls(*(array.astype(dtype) for array in arrays))


@struct.dataclass
class Body:
    """A :class:`BallState` as the simulator carries it: three Vectors."""

    position: Vector
    velocity: Vector
    spin: Vector

    @classmethod
    def of(cls, state: BallState) -> "Body":
        """From arrays (3,)."""
        parts = (state.position, state.velocity, state.spin)
        return cls(*(Vector.of(part) for part in parts))

    def state(self) -> BallState:
        """As arrays (…, 3), the components on a last axis."""
        parts = (self.position, self.velocity, self.spin)
        return BallState(*(jnp.moveaxis(part.array, 0, -1) for part in parts))


@struct.dataclass
class Ball:
    """A sphere and its aerodynamic coefficients.

    Attributes:
        mass: kg.
        radius: m.
        inertia_factor: a in I = a m r², 2/3 for a thin shell, 2/5 for a solid ball.
        drag_coefficient: C_D.
        magnus_coefficient: C_M, lift per spin ratio r|w|/|v| at right angles.
        spin_decay_time: time constant of the spin in flight, s; inf keeps it.
    """

    mass: jax.Array
    radius: jax.Array
    inertia_factor: jax.Array
    drag_coefficient: jax.Array
    magnus_coefficient: jax.Array
    spin_decay_time: jax.Array

    @classmethod
    def create(
        cls,
        mass=2.7e-3,
        radius=0.02,
        inertia_factor=2 / 3,
        drag_coefficient=0.4,
        magnus_coefficient=0.6,
        spin_decay_time=jnp.inf,
    ) -> "Ball":
        """A ball with checked values; the defaults are a table-tennis ball.

        Raises:
            ValueError: a concrete value is negative, zero where it must not be, or not finite.

        >>> float(Ball.create(mass=0.5).mass)
        0.5
        >>> Ball.create(mass=-1.0)
        Traceback (most recent call last):
        ...
        ValueError: mass: expected in (0, inf], got -1.0
        """
        decay = _check.floating("spin_decay_time", spin_decay_time, ())
        return cls(
            mass=_check.in_range("mass", mass, 0.0, open_low=True),
            radius=_check.in_range("radius", radius, 0.0, open_low=True),
            inertia_factor=_check.in_range(
                "inertia_factor", inertia_factor, 0.0, 1.0, open_low=True
            ),
            drag_coefficient=_check.in_range("drag_coefficient", drag_coefficient, 0.0),
            magnus_coefficient=_check.in_range("magnus_coefficient", magnus_coefficient),
            spin_decay_time=decay,
        )


@struct.dataclass
class Air:
    """The air the ball flies through.

    Attributes:
        density: kg/m³; 0 is a vacuum.
    """

    density: jax.Array

    @classmethod
    def create(cls, density=1.204) -> "Air":
        """Air of the given density; the default is dry air at 20 °C and 1 atm.

        Raises:
            ValueError: a concrete density is negative or not finite.

        >>> float(Air.create(0.0).density)
        0.0
        """
        return cls(density=_check.in_range("density", density, 0.0))


@struct.dataclass
class Pose:
    """Where a moving surface is, how it is turned, and how both change.

    Attributes:
        position: its centre, (3,), m, world frame.
        rotation: world from surface frame, (3, 3); the surface's normal is the third column.
        velocity: of the centre, (3,), m/s.
        angular_velocity: (3,), rad/s, world frame.
    """

    position: jax.Array
    rotation: jax.Array
    velocity: jax.Array
    angular_velocity: jax.Array
