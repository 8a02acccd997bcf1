"""Flight where there is nothing to meet: no search for impacts, whatever the contact model."""

import jax
import jax.numpy as jnp

from diffsim.physics.arc import coarse, stable
from diffsim.physics.contact.base import Doubts, Flight, Marks, Plan, collect, row
from diffsim.physics.contact.tape import free_arc
from diffsim.physics.lanes import full, lane_count, lanes, sized
from diffsim.physics.state import Body
from diffsim.physics.vector import choose


def fly_freely(world, plan: Plan, state, max_impacts: int) -> Flight:
    """As a :class:`~diffsim.physics.contact.base.Contact` does in a world without surfaces."""
    return lanes(sized(_flown, max_impacts))(world, plan, state)


def _flown(world, plan: Plan, start, *, max_impacts: int) -> Flight:
    """For lanes."""
    size = lane_count((world, plan, start))
    world, start = full((world, start), size)

    def step(carry, length):
        body, flying, rough = carry
        flying &= stable(world, body, plan.step)
        arc = free_arc(world, body, flying, jnp.where(flying, length, 0.0))
        body = choose(flying, arc(jnp.ones_like(arc.duration)), body)
        line = row(body, body, jnp.zeros_like(arc.duration))
        return (body, flying, rough | (flying & coarse(arc))), (line, flying)

    no = jnp.zeros(size, bool)
    lengths = jnp.diff(plan.boundaries, axis=0)
    step = jax.checkpoint(step, prevent_cse=False)
    (_, flying, rough), (rows, flown) = jax.lax.scan(step, (Body.of(start), ~no, no), lengths)
    reached = jnp.cumsum(flown, axis=0, dtype=jnp.int32)
    marks = Marks(reached, jnp.zeros_like(reached), jnp.full_like(reached, -1))
    return collect(start, rows, marks, plan.grid, Doubts(rough, ~flying, no, no), max_impacts)
