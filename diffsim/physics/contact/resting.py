"""A ball that a surface holds: it slides until its slip is gone, and then it rolls."""

import dataclasses

import jax
import jax.numpy as jnp

from diffsim.physics.arc import Arc, acceleration
from diffsim.physics.contact.base import slip_factor, turned_by
from diffsim.physics.device import call, repeat
from diffsim.physics.proximity import contact_frame
from diffsim.physics.state import Ball, Body
from diffsim.physics.vector import Vector, choose
from diffsim.physics.world import World

LEAST = 1e-5  # of the speed: a slip below it is none
SHORT = 1e-3  # of the radius: a way to slide that one step ends, so much of its time too early
UNEVEN = 2000  # times what a step errs by at most is its change of velocity of order 3, c₃ s³
TINY = 1e-30  # instead of zero, where the quotient does not matter


def at_rest(world: World, patch, jet, near, arc: Arc, slides) -> Arc:
    """How a surface holds a ball that else would fly along ``arc``, to order 4 on a fixed plane.

    Where the surface moves or turns, the ball is brought evenly to the motion that the surface has
    where the free ball would be at the end, as by a perfectly inelastic impact: to order 2.

    Args:
        patch, jet, near: the surface at the end of the arc, and how the free ball stands to it.
        slides: see :func:`sliding`. What ``arc`` becomes is right up to there.
    """
    normal, moving = contact_frame(jet, near, world.ball.radius)
    rolls, start = slides == 0, motion(arc)
    share = jnp.where(rolls, 1.0, slides)
    h = arc.duration * share
    ahead = slip_of(world.ball, normal, start) - moving
    lag = ahead * jnp.where(rolls, 1 / jnp.maximum(h, 1e-9), 0.0)
    one, four, end = step(world, normal, patch.friction, lag, rolls, start, h)
    rise, both = end - start, one + four
    square, cube = rise * 3 - one - both, both - rise * 2
    cubic = start, one / share, square / share**2, cube / share**3
    velocity, spin = ([Vector.of(x) for x in part] for part in zip(*map(jnp.unstack, cubic)))
    error = Vector.of(jax.lax.stop_gradient(cube[0])).norm() * (share / UNEVEN)
    velocity.append(velocity[0] * 0)
    return dataclasses.replace(arc, velocity=tuple(velocity), spin=tuple(spin), error=error)


def sliding(world: World, patch, jet, near, arc: Arc) -> tuple[jax.Array, jax.Array]:
    """Up to which share of an arc a step goes that slides on a fixed plane, 0 for one that rolls.

    The slip u is gone at the share τ ≈ s + |u|²/(-u·du/ds), from s = 0 and then from 0.9 τ. It may
    turn ever faster towards its end, so that a step takes six tenths of what is left, until that is
    short. Where friction would not hold the ball, it slides on to the end.

    Returns:
        the share, and whether friction holds the ball from there on.
    """
    normal, moving = contact_frame(jet, near, world.ball.radius)
    start, h = motion(arc), arc.duration
    setting = world, normal, patch.friction, moving * 0, jnp.zeros(h.shape, bool)

    def improve(state):
        share, _ = state
        now = step(*setting, start, h * share)[-1]
        change, holds = rates(*setting, now)
        slip = slip_of(world.ball, normal, now)
        closing = -slip.dot(slip_of(world.ball, normal, change)) * h
        left = slip.dot(slip) / jnp.where(closing > 0, closing, 1.0)
        gone = jnp.where((closing > 0) & holds, share + left, 2.0)
        return jnp.minimum(share + 0.9 * (gone - share), 1.0), gone

    gone = repeat(2, improve, (jnp.zeros_like(h),) * 2)[1]
    slip = slip_of(world.ball, normal, start).norm()
    speed = jnp.sum(jnp.abs(start[0]) + world.ball.radius * jnp.abs(start[1]), axis=0)
    slips = (slip > LEAST * speed) & jnp.all(jet[1] == 0, axis=0) & (near.face != 0)
    last = slip * gone * h < SHORT * world.ball.radius
    share = gone * jnp.where(last, 1 - SHORT, 0.6)
    return jnp.where(slips, jnp.minimum(share, 1.0), 0.0), slips & last & (share < 1)


@call
def step(world: World, normal: Vector, friction, lag: Vector, rolls, start: jax.Array, h):
    """By Runge and Kutta's method of order 4: h times its first and last stage, and the end."""
    at = lambda now: rates(world, normal, friction, lag, rolls, now)[0] * h  # noqa: E731
    one = at(start)
    two = at(start + one / 2)
    three = at(start + two / 2)
    four = at(start + three)
    return one, four, start + (one + 2 * (two + three) + four) / 6


@call
def rates(world: World, normal: Vector, friction, lag: Vector, rolls, motion: jax.Array):
    """dv/dt and dw/dt of a ball that is held by a plane, and whether friction could hold it.

    With a the free acceleration and ``lag``, what is to be lost of the motion against the plane:
    N/m = −n·a. Where it slides f/m = −μ N/m u/|u|, and where it rolls f/m = −(a_t + r (w × n)/τ)/
    (1 + 1/a), which keeps u = 0, but no more than μ N/m.
    """
    ball, decay = world.ball, 1 / world.ball.spin_decay_time
    velocity, spin = map(Vector.of, jnp.unstack(motion))
    free = acceleration(world, velocity, spin)
    wanted = free + lag
    across = normal.dot(wanted)
    most = friction * jnp.maximum(-across, 0.0)
    grip = wanted - normal * across + spin.cross(normal) * (ball.radius * decay)
    grip = grip * (-1 / slip_factor(ball))
    slip = slip_of(ball, normal, motion)
    strength, size = grip.norm(), slip.norm()
    kept = grip * jnp.minimum(most / jnp.maximum(strength, TINY), 1.0)
    force = choose(rolls, kept, slip * (-most / jnp.maximum(size, TINY)))
    velocity = free - normal * across + force
    spin = turned_by(ball, normal, force) - spin * decay
    return jnp.stack([velocity.array, spin.array]), strength <= most


def gripped(ball: Ball, normal: Vector, body: Body) -> Body:
    """Without the slip that is left of it at the end of its time; its derivative is all there."""
    left = slip_of(ball, normal, jnp.stack([body.velocity.array, body.spin.array]))
    force = left * (-1 / slip_factor(ball))
    turn = turned_by(ball, normal, force)
    return Body(body.position, body.velocity + force, body.spin + turn)


def motion(arc: Arc) -> jax.Array:
    """Velocity and spin at the start of an arc, (2, 3, B)."""
    return jnp.stack([arc.velocity[0].array, arc.spin[0].array])


@jax.jit
def slip_of(ball: Ball, normal: Vector, motion: jax.Array) -> Vector:
    """v − r (w × n), m/s: on a fixed plane the slip; of rates of change, its rate."""
    velocity, spin = map(Vector.of, jnp.unstack(motion))
    return velocity - spin.cross(normal) * ball.radius
