"""A ball and one surface, with every number of the scene in one record to differentiate in."""

import jax
import jax.numpy as jnp
from flax import struct

from diffsim.physics import Air, Ball, BallState, Surface, World, simulate
from diffsim.physics.scene import PolynomialPose
from diffsim.physics.vector import orthonormal

DURATION, STEPS, MAX_IMPACTS = 0.6, 40, 40  # one size, so that all tests share compiled code


@struct.dataclass
class Setup:
    """By default a ball over the floor in a vacuum, elastic and without friction."""

    position: jax.Array
    velocity: jax.Array
    spin: jax.Array
    gravity: jax.Array
    normal: jax.Array
    center: jax.Array  # coefficients of t⁰, t¹, t²; a surface that is not driven uses the first
    turn_rate: jax.Array  # about the y axis
    half_extents: jax.Array
    restitution: jax.Array
    restitution_slope: jax.Array
    friction: jax.Array
    radius: jax.Array
    inertia_factor: jax.Array
    density: jax.Array
    spin_decay_time: jax.Array
    driven: bool = struct.field(pytree_node=False, default=False)
    two_sided: bool = struct.field(pytree_node=False, default=False)

    @property
    def world(self) -> World:
        surface = Surface.create(
            center=self.center[0],
            normal=self.normal,
            half_extents=self.half_extents,
            restitution=self.restitution,
            restitution_slope=self.restitution_slope,
            friction=self.friction,
            two_sided=self.two_sided,
            driven=self.driven,
        )
        ball = Ball.create(
            radius=self.radius,
            inertia_factor=self.inertia_factor,
            spin_decay_time=self.spin_decay_time,
        )
        return World.create([surface], ball=ball, air=Air(self.density), gravity=self.gravity)

    @property
    def state(self) -> BallState:
        return BallState.create(self.position, self.velocity, self.spin)

    @property
    def path(self) -> PolynomialPose | None:
        if not self.driven:
            return None
        axis = jnp.asarray([0.0, 1.0, 0.0], self.normal.dtype)
        return PolynomialPose(self.center, orthonormal(self.normal), axis, self.turn_rate)


def setup(*, driven=False, two_sided=False, dtype=jnp.float64, **changes) -> Setup:
    """The default setup with changes."""
    values = {
        "position": (0.0, 0.0, 0.5),
        "velocity": (0.0, 0.0, 0.0),
        "spin": (0.0, 0.0, 0.0),
        "gravity": (0.0, 0.0, -9.81),
        "normal": (0.0, 0.0, 1.0),
        "center": ((0.0,) * 3,) * 3,
        "turn_rate": 0.0,
        "half_extents": (jnp.inf, jnp.inf),
        "restitution": 1.0,
        "restitution_slope": 0.0,
        "friction": 0.0,
        "radius": 0.02,
        "inertia_factor": 2 / 3,
        "density": 0.0,
        "spin_decay_time": jnp.inf,
    } | changes
    arrays = {key: jnp.asarray(value, dtype) for key, value in values.items()}
    return Setup(**arrays, driven=driven, two_sided=two_sided)


def play(start: Setup, duration=DURATION):
    """The rollout, in compiled code shared by every setup of the same dtype and kind."""
    return simulate(
        start.world,
        start.state,
        start.path,
        duration=duration,
        step=duration / STEPS,
        max_impacts=MAX_IMPACTS,
    )


def final(start: Setup) -> jax.Array:
    """Final position, velocity and spin after DURATION, (9,)."""
    return jnp.concatenate(jax.tree.leaves(play(start).final))


forward_jacobian = jax.jit(jax.jacfwd(final))
reverse_jacobian = jax.jit(jax.jacrev(final))
