"""The contract of a contact model, and the law of one impact that all of them share."""

from typing import Protocol

import jax
import jax.numpy as jnp
from flax import struct

from diffsim.physics.state import Ball, BallState
from diffsim.physics.surfaces import Path, Proximity
from diffsim.physics.vector import Vector
from diffsim.physics.world import World


@struct.dataclass
class Trace:
    """What a contact model hands back: one row for each stretch of motion, in order of time.

    Attributes:
        time: end of the stretch, (A,), s.
        state: at its end, leaves (A, 3).
        grid: how many points of the time grid are reached by then, (A,) int.
        hit: whether an impact ended the stretch, (A,) bool.
        surface: index of the surface hit, (A,) int.
        hit_time: when that impact was, (A,), s.
        before: state just before that impact, leaves (A, 3).
    """

    time: jax.Array
    state: BallState
    grid: jax.Array
    hit: jax.Array
    surface: jax.Array
    hit_time: jax.Array
    before: BallState


class Contact(Protocol):
    """A contact model: how the motion goes on when the ball meets a surface."""

    def prepared(self, world: World, step: float) -> "Contact":
        """The model with what depends on the grid filled in, outside of any trace."""
        ...

    def trace(
        self,
        world: World,
        paths: tuple[Path, ...],
        state: BallState,
        times: jax.Array,
        max_impacts: int,
    ) -> Trace:
        """Follow the ball over the grid ``times`` (n + 1,), s, starting from ``state``."""
        ...


def impulse_law(
    ball: Ball,
    near: Proximity,
    velocity: Vector,
    spin: Vector,
    restitution: jax.Array | float,
    friction: jax.Array,
) -> tuple[Vector, Vector, jax.Array]:
    """Coulomb impact with restitution against a surface much heavier than the ball.

    u = v − r (w × n) − v_s;  J_n/m = −(1 + e) u·n;  J_t/m = −u_t / (1 + 1/a), scaled down to
    μ J_n where it is larger (slip);  v⁺ = v + J/m;  w⁺ = w + (−r n) × J_t / I,  I = a m r².
    A ball that moves away is left alone.

    Args:
        ball: its radius and inertia factor are used.
        near: the surface's normal and velocity at the contact.
        velocity, spin: before.
        restitution: e, ().
        friction: μ, ().

    Returns:
        velocity and spin after, and the normal impulse per mass J_n/m, (), m/s.
    """
    n = near.normal
    slip = velocity - ball.radius * spin.cross(n) - near.surface_velocity
    approach = slip.dot(n)
    push = jnp.where(approach < 0, -(1 + restitution) * approach, 0.0)
    stick = (slip - approach * n) * (-1 / (1 + 1 / ball.inertia_factor))
    size, limit = stick.norm(), friction * push
    sliding = size > limit
    rub = stick * jnp.where(sliding, limit / jnp.where(sliding, size, 1.0), 1.0)
    twist = rub.cross(n) * (1 / (ball.inertia_factor * ball.radius))
    return velocity + push * n + rub, spin + twist, push
