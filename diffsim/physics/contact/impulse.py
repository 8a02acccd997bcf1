"""Impacts as events: located exactly in time, the impulse law applied there, then fresh forces."""

import jax
import jax.numpy as jnp
from flax import struct

from diffsim.physics.contact.base import Trace, impulse_law, select, stack
from diffsim.physics.events import first_contact, fly, gap, refine, slide
from diffsim.physics.state import BallState

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

    def trace(self, world, paths, state, times, max_impacts) -> Trace:
        """One row for each arc: ``len(times) - 1 + max_impacts`` of them."""
        surfaces = stack(world.surfaces) if world.surfaces else None
        last = times.shape[0] - 1
        dtype = state.position.dtype
        grid_step = times[-1] / last

        def arc_step(carry):
            state, start, grid, rest = carry
            duration = jnp.maximum(grid_step * (grid + 1).astype(dtype) - start, 0.0)
            arc = fly(world, state, start, duration)
            if surfaces is None:
                s, found, chosen = jnp.ones_like(start), jnp.asarray(False), rest
                end = arc(s)
                return (end, start + duration, grid + 1, rest), (found, chosen, end)

            def near_at(s):
                here, time = arc(s), start + s * duration
                return world.proximities(paths, time, here.position, here.velocity)

            # A resting ball: the free velocity at the end of the arc, brought back to the
            # surface by a perfectly inelastic impact (Moreau's time stepping).
            arc, held = jax.lax.cond(
                rest >= 0, lambda: self._hold(world, surfaces, near_at, arc, rest),
                lambda: (arc, jnp.asarray(False)),
            )  # fmt: skip
            found, s, chosen = first_contact(
                world, surfaces, paths, arc, ignored=jnp.where(held, rest, NO_SURFACE)
            )
            chosen = jnp.where(found | ~held, chosen, rest)
            surface = select(surfaces, chosen)
            s = jnp.where(
                found, refine(world, surface, lambda s: select(near_at(s), chosen), arc, s), 1.0
            )
            before, near = arc(s), select(near_at(s), chosen)
            on_patch = near.margin >= 0
            hit = found & on_patch

            approach = -gap(surface, world.ball.radius, near)[1]
            restitution = jnp.maximum(
                surface.restitution - surface.restitution_slope * approach, 0.0
            )
            settles = (restitution * approach < self.rest_speed) & (restitution < 1)
            velocity, spin, _ = impulse_law(
                world.ball, near, before.velocity, before.spin,
                jnp.where(settles, 0.0, restitution), surface.friction,
            )  # fmt: skip
            after = BallState(before.position, velocity, spin)
            lift = gap(surface, world.ball.radius, near)[0] * near.normal
            on_surface = before.replace(position=before.position - lift)
            stays = held & on_patch & ~found
            end = _choose(hit, after, _choose(stays, on_surface, before))
            rest = jnp.where((hit & settles) | stays, chosen, NO_SURFACE)
            time = start + s * duration
            return (end, time, jnp.where(found, grid, grid + 1), rest), (hit, chosen, before)

        def step(carry, _):
            done = carry[2] >= last
            idle = (jnp.asarray(False), jnp.asarray(0), carry[0])
            carry, (hit, chosen, before) = jax.lax.cond(
                done, lambda carry: (carry, idle), arc_step, carry
            )
            state, time, grid, _ = carry
            return carry, Trace(time, state, grid, hit, chosen, time, before)

        start = (state, jnp.zeros((), dtype), jnp.asarray(0), jnp.asarray(NO_SURFACE))
        return jax.lax.scan(step, start, length=last + max_impacts)[1]

    def _hold(self, world, surfaces, near_at, arc, rest):
        """The arc of a ball held on surface ``rest``, and whether it is still pressed on it."""
        free, near = arc(jnp.ones_like(arc.start)), select(near_at(jnp.ones_like(arc.start)), rest)
        velocity, spin, push = impulse_law(
            world.ball, near, free.velocity, free.spin, 0.0, select(surfaces, rest).friction
        )
        held = push > 0
        return _choose(held, slide(arc, velocity, spin), arc), held


def _choose(condition, yes, no):
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), yes, no)
