"""What a search of impacts leaves behind, and the derivative of a flight from that."""

import jax
import jax.numpy as jnp
from flax import struct

from diffsim.physics.arc import Arc, fly
from diffsim.physics.contact.base import Marks, Plan, end_of, impact_rows, impulse_law, row
from diffsim.physics.contact.impact_time import impact_time
from diffsim.physics.contact.resting import at_rest, gripped
from diffsim.physics.court import Court, pick, shifted
from diffsim.physics.device import gathered
from diffsim.physics.given import known
from diffsim.physics.lanes import full, lane_count
from diffsim.physics.proximity import contact_frame, proximity
from diffsim.physics.state import Body
from diffsim.physics.vector import choose


@struct.dataclass
class Tape:
    """What the search found, for each arc in order: all that its derivative needs of it.

    Leaves (A, B) for A arcs of B balls.

    Attributes:
        interval: on which of the plan's intervals the arc is.
        begun: when that begins, s.
        length: of the interval, s.
        s: where it ends, as a share of the arc without an impact.
        place: the same in the coordinate of the interval, from -1 to 1.
        surface: that it meets there, or rests on.
        rest: the surface that holds the ball during the arc, -1 for none.
        face: by which face that does, or did before the ball left, 1 or -1; 0 by an edge or none.
        slides: up to which share of the arc a step goes that slides on it; 0 where it rolls.
        grips: whether it rolls from there on.
        running: whether there was such an arc.
        found: whether it ends before the interval does.
        hit: whether there was an impact.
        settles: whether that is without a rebound.
        stays: whether the ball is still held at the end, or pushed for the last time.
    """

    interval: jax.Array
    begun: jax.Array
    length: jax.Array
    s: jax.Array
    place: jax.Array
    surface: jax.Array
    rest: jax.Array
    face: jax.Array
    slides: jax.Array
    grips: jax.Array
    running: jax.Array
    found: jax.Array
    hit: jax.Array
    settles: jax.Array
    stays: jax.Array


def jets_along(court: Court, moving, plan: Plan, tape: Tape, marks: Marks):
    """Where driven surfaces are at the ends of intervals and of arcs, (A, 2 and 4, 12, B)."""
    rows, lengths = impact_rows(marks, moving[0][0].shape[0]), jnp.diff(plan.boundaries, axis=0)
    at = [pick(x, rows) for x in (tape.interval, tape.surface, tape.place)]
    at_impact = court.jets_at([series for series, _ in moving], lengths, *at)
    ends = court.jets_at_ends([jets for _, jets in moving], tape.interval, tape.rest)
    still = jnp.concatenate([ends, jnp.zeros_like(ends)], axis=1)
    own = gathered(at_impact, marks.impacts - 1)
    return ends, jnp.where(tape.hit[:, None, None], own, still)


def replayed(world, court: Court, start, jets, tape: Tape, rows: jax.Array) -> jax.Array:
    """The same rows from a tape, with their derivatives; for lanes.

    No arc waits for the one before it but in its derivative, so that a transpose needs no way
    forward.

    Args:
        jets: of driven surfaces, if there are any, see :func:`jets_along`.
    """
    size = lane_count((world, court, start, jets, tape))
    world, court, start, tape, rows = full((world, court, start, tape, rows), size)
    carry = Body.of(start), jnp.zeros(size, start.position.dtype)
    waits = jnp.where(tape.found, (tape.place + 1) * (tape.length / 2), 0.0)
    first = row(carry[0], carry[0], carry[1])
    begins = [jnp.concatenate([x[None], xs[:-1]]) for x, xs in [(first, rows), (carry[1], waits)]]
    still = jnp.zeros((4, 12, size), start.position.dtype)

    def step(carry, data):
        (begin, wait), tape, jets = data
        body, late = jax.tree.map(known, (end_of(begin), wait), carry)
        end, own = (still[:2], still) if jets is None else jets
        duration = jnp.where(tape.running, tape.length - late, 0.0)
        arc = free_arc(world, body, tape.running, duration)
        ahead = Body(body.position + body.velocity * duration, body.velocity, body.spin)
        patch, jet = court.chosen(tape.rest, end)
        near = proximity(patch, jet, ahead, tape.face)
        held = at_rest(world, patch, jet, near, arc, tape.slides)
        arc = choose(tape.rest >= 0, held, arc)

        patch, jet = court.chosen(tape.surface, own)
        root = impact_time(tape.s, arc, late, jet, world.ball.radius, patch)
        s = jnp.where(tape.hit & ~tape.stays, root, tape.s)
        late = late + s * duration
        before, jet = arc(s), shifted(jet, late)
        face = jnp.where((tape.rest < 0) | (tape.rest == tape.surface), tape.face, 0.0)
        after = after_arc(world, tape, patch, jet, proximity(patch, jet, before, face), before)
        body = choose(tape.running, after, body)
        line = row(body, before, tape.begun + late)
        return (body, jnp.where(tape.found, late, 0.0)), line

    step = jax.checkpoint(step, prevent_cse=False)
    return jax.lax.scan(step, carry, (begins, tape, jets))[1]


def free_arc(world, body: Body, running, duration) -> Arc:
    """Free flight. A ball that has stopped is at rest: a slope of zero times infinity is NaN."""
    return fly(world, choose(running, body, jax.tree.map(jnp.zeros_like, body)), duration)


def restitution_at(patch, rate):
    """e(u) at the rate at which the gap changes, (B,)."""
    return jnp.maximum(patch.restitution + patch.restitution_slope * rate, 0.0)


def after_arc(world, tape: Tape, patch, jet, near, before: Body) -> Body:
    """The ball after what the tape says happens at the end of an arc."""
    ball = world.ball
    normal, moving = contact_frame(jet, near, ball.radius)
    before = choose(tape.grips, gripped(ball, normal, before), before)
    restitution = jnp.where(tape.settles, 0.0, restitution_at(patch, near.gap_rate))
    turn_round = jnp.where(tape.settles, 0.0, patch.tangential_restitution)
    velocity, spin = impulse_law(
        ball, normal, moving, before.velocity, before.spin, restitution, patch.friction, turn_round
    )
    return Body(
        before.position - normal * jnp.where(tape.stays, near.gap(ball.radius), 0.0),
        choose(tape.hit, velocity, before.velocity),
        choose(tape.hit, spin, before.spin),
    )
