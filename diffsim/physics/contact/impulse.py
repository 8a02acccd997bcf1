"""Impacts as events: located exactly in time, the impulse law applied there, then fresh forces."""

import dataclasses

import jax
import jax.numpy as jnp
from flax import struct

from diffsim.physics.contact.base import Trace, impulse_law
from diffsim.physics.events import GRAZING_SPEED, first_contact, fly, refine, slide, stable
from diffsim.physics.state import Body
from diffsim.physics.surfaces import gap, proximity
from diffsim.physics.vector import choose, select

NO_SURFACE = -1


@struct.dataclass
class Impulse:
    """Event-located impacts under the impulse law; the default, and exact.

    Each arc of motion ends at the next grid time or at the first impact before it. The time of
    impact is differentiated by the implicit function theorem, which gives the state after it the
    derivative known as the saltation matrix (Kong, Payne, Zhu & Johnson, "Saltation matrices:
    the essential tool for linearizing hybrid dynamical systems", Proc. IEEE 112 (2024), eq. 10).

    Attributes:
        rest_speed: a ball that would rebound more slowly than this, m/s, stays on the surface,
            slides and rolls there until it is lifted off, pushed off or leaves the patch.

    >>> from diffsim.physics import BallState, World, simulate
    >>> drop = BallState.create([0.0, 0.0, 1.06])
    >>> rollout = simulate(World.create(), drop, duration=1.0, contact=Impulse())
    >>> int(rollout.impacts.valid.sum()) > 0
    True
    """

    rest_speed: jax.Array | float = 0.01

    def prepared(self, world, step: float) -> "Impulse":
        """Itself: nothing depends on the step."""
        return self

    def trace(self, world, paths, state, times, max_impacts) -> Trace:
        """One row for each arc: ``len(times) - 1 + max_impacts`` of them."""
        last = times.shape[0] - 1
        dtype = times.dtype
        grid_step = times[-1] / last

        def step(carry, _):
            state, start, grid, rest = carry
            running = (grid < last) & stable(world, state, grid_step)
            end = jnp.where(running, grid_step * (grid + 1).astype(dtype), start)
            # A ball that has stopped is at rest for the arc: a slope of zero times infinity is NaN.
            moving = choose(running, state, jax.tree.map(jnp.zeros_like, state))
            arc = fly(world, moving, start, jnp.maximum(end - start, 0.0))
            if world.surfaces:
                carry, hit, chosen, before = self._meet(world, paths, arc, grid, rest)
            else:
                before = arc(jnp.ones((), dtype))
                carry, hit, chosen = (before, end, grid + 1, rest), jnp.asarray(False), rest
            carry = choose(running, carry, (state, start, grid, rest))
            state, time, grid, _ = carry
            row = Trace(time, state, grid, hit & running, chosen, time, before)
            return carry, row

        vectors = Body.of(state)
        start = (vectors, jnp.zeros((), dtype), jnp.asarray(0), jnp.asarray(NO_SURFACE))
        trace = jax.lax.scan(step, start, length=last + max_impacts)[1]
        return dataclasses.replace(trace, state=trace.state.state(), before=trace.before.state())

    def _meet(self, world, paths, arc, grid, rest):
        """Follow an arc to its end or its first impact, and apply the law there."""
        radius, surfaces = world.ball.radius, world.plain_surfaces()

        def near_at(s, index):
            state = arc(s)
            time = arc.start + s * arc.duration
            pose = select([world.pose(i, paths, time) for i in range(len(surfaces))], index)
            return proximity(select(surfaces, index), pose, radius, state.position, state.velocity)

        # A resting ball: the free velocity at the end of the arc, brought back to the surface by
        # a perfectly inelastic impact (Moreau's time stepping).
        one = jnp.ones_like(arc.duration)
        free = arc(one)
        velocity, spin, push = impulse_law(
            world.ball, near_at(one, rest), free.velocity, free.spin, 0.0,
            select(surfaces, rest).friction,
        )  # fmt: skip
        held = (rest >= 0) & (push > 0)
        arc = choose(held, slide(arc, velocity, spin), arc)

        found, s, chosen = first_contact(world, paths, arc, jnp.where(held, rest, NO_SURFACE))
        chosen = jnp.where(found | ~held, chosen, rest)
        surface = select(surfaces, chosen)
        s = refine(lambda s: near_at(s, chosen), radius, arc, jnp.where(found, s, one), found)
        before, near = arc(s), near_at(s, chosen)
        on_patch = near.margin >= 0
        hit = found & on_patch
        stays = held & on_patch & ~found

        skin, rate = gap(near, radius)
        restitution = jnp.maximum(surface.restitution + surface.restitution_slope * rate, 0.0)
        slow = (restitution * -rate < self.rest_speed) & (restitution < 1)
        settles = slow | (-rate < GRAZING_SPEED)
        velocity, spin, _ = impulse_law(
            world.ball, near, before.velocity, before.spin,
            jnp.where(settles, 0.0, restitution), surface.friction,
        )  # fmt: skip
        after = Body(
            before.position - near.normal * jnp.where(stays, skin, 0.0),
            choose(hit, velocity, before.velocity),
            choose(hit, spin, before.spin),
        )
        rest = jnp.where((hit & settles) | stays, chosen, NO_SURFACE)
        carry = (after, arc.start + s * arc.duration, jnp.where(found, grid, grid + 1), rest)
        return carry, hit, chosen, before
