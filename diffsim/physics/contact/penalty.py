"""What the penalty models share: springs that drive the ball out, and small fixed steps."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax.lax import stop_gradient

from diffsim import _check
from diffsim.physics import pieces
from diffsim.physics.contact.base import Doubts, Flight, Marks, Plan, collect, row
from diffsim.physics.court import Court, beside, pick
from diffsim.physics.lanes import full, lane_count, lanes, sized
from diffsim.physics.proximity import Patch, Proximity, contact_frame
from diffsim.physics.search import starts_inside
from diffsim.physics.state import Ball, Body
from diffsim.physics.vector import Vector, choose

STEPS_PER_CONTACT = 30


def substeps(contact, mass, step: float) -> int:
    """Steps that cut half a period of the contact spring, π √(m/k), in STEPS_PER_CONTACT.

    More where the dashpot is so strong that m/c is shorter.

    Raises:
        ValueError: the model or the mass is traced, so that the count cannot be static; a given
            count with which a Runge–Kutta step would overshoot.
    """
    damping = 0.0 if contact.damping is None else contact.damping
    if any(isinstance(x, jax.core.Tracer) for x in (contact.stiffness, damping, mass)):
        if contact.substeps is None:
            raise ValueError("substeps: expected a number where the stiffness or mass is traced")
        return contact.substeps
    rate = np.max(np.sqrt(np.asarray(contact.stiffness) / np.asarray(mass)))  # 1/s
    decay = np.max(np.asarray(damping) / np.asarray(mass))
    if contact.substeps is None:
        wanted = max(rate * STEPS_PER_CONTACT / math.pi, decay)
        return max(1, math.ceil(step * float(wanted)))
    least = math.ceil(step * float(max(rate, decay)) / 2)
    if contact.substeps < least:
        raise ValueError(
            f"substeps: expected at least {least} for this stiffness and damping, "
            f"got {contact.substeps}"
        )
    return contact.substeps


def damping_ratio(restitution: jax.Array) -> jax.Array:
    """ζ of a spring and dashpot that never pulls, for a coefficient of restitution.

    e = exp(−2 ζ arccos(ζ) / √(1 − ζ²)), with arccosh past ζ = 1: the impact ends when the force
    does (Schwager & Pöschel, "Coefficient of restitution and linear-dashpot model revisited",
    Granular Matter 9 (2007) 465). Solved by Newton's method; e below 0.001 is taken as that.

    >>> round(float(damping_ratio(jnp.asarray(1.0))), 6) + 0.0
    0.0
    """
    wanted = -jnp.log(jnp.maximum(restitution, 1e-3))

    def exponent(ratio):
        square = 1 - ratio**2
        near = jnp.abs(square) < 1e-5
        under, over = jnp.where(square > 0, ratio, 0.0), jnp.where(square < 0, ratio, 2.0)
        angle = jnp.where(square > 0, jnp.arccos(under), jnp.arccosh(over))
        return (
            2
            * ratio
            * jnp.where(near, 1 + square / 6, angle / jnp.sqrt(jnp.where(near, 1, jnp.abs(square))))
        )

    def newton(ratio):
        value, slope = jax.jvp(exponent, (ratio,), (jnp.ones_like(ratio),))
        return ratio - (value - wanted) / slope

    ratio = wanted / jnp.pi
    for _ in range(12):
        ratio = stop_gradient(newton(ratio))
    return newton(ratio)


def created(cls, *, damping, slip_speed, substeps, **positive):
    """A penalty model with checked values.

    Raises:
        ValueError: a stiffness, sharpness or slip speed that is not positive, a negative damping,
            substeps that are not a whole number ≥ 1, or what is not finite.
    """
    values = {
        key: _check.in_range(key, value, 0.0, open_low=True)
        for key, value in (positive | {"slip_speed": slip_speed}).items()
    }
    if damping is not None:
        damping = _check.in_range("damping", damping, 0.0)
    if substeps is not None and not (isinstance(substeps, int) and substeps >= 1):
        raise ValueError(f"substeps: expected a whole number >= 1 or None, got {substeps}")
    return cls(**values, damping=damping, substeps=substeps)


def prepared(contact, world, step: float):
    """The model, checked, with ``substeps`` filled in where they are left open.

    Raises:
        ValueError: see :func:`created`; a surface with a tangential restitution, as these models
            have none.
    """
    created(type(contact), **vars(contact))
    for surface in world.surfaces:
        turn = surface.tangential_restitution
        if not isinstance(turn, jax.core.Tracer) and np.any(np.asarray(turn)):
            raise ValueError(
                f"tangential_restitution: expected 0 with a penalty model, got {turn} "
                f"on {surface.name}"
            )
    return dataclasses.replace(contact, substeps=substeps(contact, world.ball.mass, step))


def dashpot(contact, patches: Patch, mass):
    """c of surfaces, N s/m: the given one, or 2 ζ √(k m) with ζ from the restitution."""
    if contact.damping is not None:
        return contact.damping
    ratio = damping_ratio(patches.restitution)
    return 2 * ratio * jnp.sqrt(contact.stiffness * mass)


def coulomb_friction(
    ball: Ball, friction, n: Vector, moving, velocity, spin, normal_force, slip_speed
) -> Vector:
    """Coulomb friction, smooth at rest: −μ N u_t / √(|u_t|² + v_s²), N."""
    slip = velocity - ball.radius * spin.cross(n) - moving
    slip = slip - slip.dot(n) * n
    return slip * (-friction * normal_force / jnp.sqrt(slip.dot(slip) + slip_speed**2))


def fly(contact, world, plan: Plan, state, max_impacts: int) -> Flight:
    """Follow the ball with the forces of ``contact.normal_force`` in classical Runge–Kutta steps.

    A contact is reported, as an impact, when it ends: at the time it began, with the states at
    both ends.

    Args:
        contact: the model; ``normal_force(damping, near, ball)`` is that of each surface, N,
            from its dashpot.
    """
    if contact.substeps is None:
        raise ValueError("substeps: expected a number, got None; see prepared()")
    ends = plan.boundaries
    series = tuple(pieces.pieces(path, ends[:-1], ends[1:])[0] for path in plan.paths)
    data = dataclasses.replace(plan.data, series=series)
    scene = dataclasses.replace(world, surfaces=()), Court.of(world)
    return lanes(sized(_flown, max_impacts))(contact, *scene, data, state)


def _flown(contact, world, court: Court, plan: Plan, start, *, max_impacts: int) -> Flight:
    """For lanes."""
    size = lane_count((contact, world, court, plan, start))
    contact, world, court, plan, start = full((contact, world, court, plan, start), size)
    ball, ends, lengths, substeps = (
        world.ball,
        plan.boundaries,
        jnp.diff(plan.boundaries, axis=0),
        contact.substeps,
    )
    patches = Patch(jnp.moveaxis(court.rows[:, :-12], 0, 1))
    count, dtype, h = plan.grid.shape[0] - 1, ends.dtype, plan.step / substeps
    inertia = ball.inertia_factor * ball.mass * ball.radius
    damping = dashpot(contact, patches, ball.mass)

    def nearby(time, state: Body, stride) -> tuple[jax.Array, Proximity]:
        """Jets of all surfaces, and how the balls stand to them, leaves (…, S, B)."""
        if ends.shape[0] == count + 1:  # the grid alone: all lanes are on one interval
            take = lambda rows: rows[stride]  # noqa: E731
        else:
            interval = jnp.sum(ends[1:-1] <= time, axis=0, dtype=jnp.int32)
            take = lambda rows: pick(rows, interval)  # noqa: E731
        begin, length = take(ends), take(lengths)
        place = 2 * (time - begin) / jnp.where(length > 0, length, 1.0) - 1
        moving = [
            pieces.rates(take(own)[:, :, None], place[None], length / 2, 2) for own in plan.series
        ]
        _, *found = court.near(moving, beside(state))
        return jax.tree.map(lambda leaf: leaf[..., 0, :], tuple(found))

    def rates(time, state: Body, stride) -> Body:
        jet, near = nearby(time, state, stride)
        normal, moving = contact_frame(jet, near, ball.radius)
        alike = beside(state)
        force = contact.normal_force(damping, near, ball)
        moves = (alike.velocity, alike.spin, force, contact.slip_speed)
        friction = coulomb_friction(ball, patches.friction, normal, moving, *moves)
        total, torque = normal * force + friction, friction.cross(normal)
        return Body(
            state.velocity,
            world.acceleration(state.velocity, state.spin) + total.sum() * (1 / ball.mass),
            torque.sum() * (1 / inertia) - state.spin * (1 / ball.spin_decay_time),
        )

    def moved(state, rate, time):
        return jax.tree.map(lambda x, dx: x + time * dx, state, rate)

    def touched(time, state, stride):
        """Index of the deepest surface in touch, -1 for none."""
        _, near = nearby(time, state, stride)
        gap = near.gap(ball.radius)
        depth = jnp.where((gap < 0) & (gap > -ball.radius) & (near.margin >= 0), -gap, 0.0)
        depth = stop_gradient(jnp.concatenate([jnp.zeros((1, size), dtype), depth]))
        return jnp.argmax(depth, axis=0).astype(jnp.int32) - 1

    def step(carry, index):
        state, surface, since, before, impacts = carry
        time, stride = index.astype(dtype) * h, index // substeps
        k1 = rates(time, state, stride)
        k2 = rates(time + h / 2, moved(state, k1, h / 2), stride)
        k3 = rates(time + h / 2, moved(state, k2, h / 2), stride)
        k4 = rates(time + h, moved(state, k3, h), stride)
        new = jax.tree.map(
            lambda x, a, b, c, d: x + h / 6 * (a + 2 * b + 2 * c + d), state, k1, k2, k3, k4
        )
        now = touched(time + h, new, stride)
        begins, ended = (surface < 0) & (now >= 0), (surface >= 0) & (now < 0)
        line = row(new, before, since)
        before = choose(begins, state, before)
        impacts = impacts + ended.astype(jnp.int32)
        carry = new, now, jnp.where(begins, time, since), before, impacts
        reached = jnp.broadcast_to((index + 1) // substeps, (size,))
        return carry, (line, Marks(reached, impacts, surface))

    @jax.checkpoint
    def stride(carry, first):
        return jax.lax.scan(step, carry, first + jnp.arange(substeps, dtype=jnp.int32))

    body, zero = Body.of(start), jnp.zeros(size, dtype)
    carry = body, touched(zero, body, 0), zero, body, jnp.zeros(size, jnp.int32)
    out = jax.lax.scan(stride, carry, substeps * jnp.arange(count, dtype=jnp.int32))[1]
    rows, marks = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), out)
    marks = marks.replace(surface=court.named(marks.surface))
    begins = starts_inside(patches, nearby(zero, body, 0)[1], ball.radius)
    doubts = dataclasses.replace(Doubts.none(size), inside=begins)
    grid = jnp.arange(count + 1, dtype=jnp.int32)[:, None]
    return collect(start, rows, marks, grid, doubts, max_impacts)
