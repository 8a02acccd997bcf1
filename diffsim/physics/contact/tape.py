"""What a search of impacts leaves behind, and the derivative of a flight from that."""

import jax
import jax.numpy as jnp
from flax import struct

from diffsim.physics.arc import Arc, fly, slide
from diffsim.physics.contact.base import Marks, Plan, end_of, impact_rows, impulse_law, row
from diffsim.physics.contact.impact_time import impact_time
from diffsim.physics.court import Court, pick, shifted
from diffsim.physics.given import known
from diffsim.physics.lanes import call, full, gathered, lane_count
from diffsim.physics.proximity import contact_frame, proximity
from diffsim.physics.state import Body
from diffsim.physics.vector import Vector, choose


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
        arc, one = free_arc(world, body, tape.running, duration), jnp.ones_like(duration)
        free = arc(one)
        patch, jet = court.chosen(tape.rest, end)
        near = proximity(patch, jet, free, tape.face)
        held, *_ = at_rest(world, patch, jet, near, arc, free)
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


def at_rest(world, patch, jet, near, arc: Arc, free: Body):
    """What a perfectly inelastic impact makes of a free ball.

    Returns an arc, the impulse per mass, and whether the slip turns back.

    The air is that of the way along the surface: a free ball falls, and that has drag and lift.
    What grows with s or s² is on average 3/4 of what it is at s = 2/3.
    """
    normal, moving = contact_frame(jet, near, world.ball.radius)
    falls = arc.velocity[0] * (1 / 3) + free.velocity * (2 / 3)
    along = falls - normal * normal.dot(falls - moving)
    acceleration = call(world.acceleration)
    air = acceleration(along, free.spin) - acceleration(falls, free.spin)
    forced = free.velocity + air * (0.75 * arc.duration)
    velocity, spin, impulse, slips = impulse_law(
        world.ball, normal, moving, forced, free.spin, 0.0, patch.friction
    )
    slip = arc.velocity[0] - arc.spin[0].cross(normal) * world.ball.radius
    slip = choose(jnp.all(jet[1] == 0, axis=0), slip, slip * 0)  # else that at the start is another
    factor = 1 + 1 / world.ball.inertia_factor
    rubbed, most = velocity - forced - normal * impulse, patch.friction * impulse
    bend, turns, lost = lagging(factor, slip, rubbed, most)
    return slide(arc, velocity, spin, bend), impulse, lost & (turns | ~slips)


def lagging(factor, slip: Vector, rubbed: Vector, most) -> tuple[Vector, jax.Array, jax.Array]:
    """Six times what the mean velocity differs by from that of an even change, m/s.

    Friction acts with all its force until the slip u is gone, and what remains of its impulse T is
    less. In one direction the slip is gone after the share τ of the time at which
    u + τ (u_free − u − k μ J_n u/|u|) = 0, with k = 1 + 1/a and T = −u_free/k if it ends at 0:
    1 − τ = k P/(k P + |u|), P = μ J_n + T·u/|u|. Its mean is τ u/2 then, and the velocity of the
    ball is u/k and what friction does not change. P = 0 where the ball slides on.

    Args:
        factor: k.
        slip: u at the start.
        rubbed: T per mass.
        most: μ J_n per mass.

    Returns:
        that; whether T is along the slip at the start, which then has turned back; whether
        friction cannot hold a ball whose slip is gone. T is then not what it was taken to be.
    """
    size = slip.norm()
    spare = jnp.maximum(most + rubbed.dot(slip) / jnp.where(size > 0, size, 1.0), 0.0)
    whole = spare * factor + size
    bend = slip * (-3 * spare / jnp.where(whole > 0, whole, 1.0))
    return bend, spare > most + 1e-5, whole > 2.00002 * factor * most


def restitution_at(patch, rate):
    """e(u) at the rate at which the gap changes, (B,)."""
    return jnp.maximum(patch.restitution + patch.restitution_slope * rate, 0.0)


def after_arc(world, tape: Tape, patch, jet, near, before: Body) -> Body:
    """The ball after what the tape says happens at the end of an arc."""
    ball = world.ball
    normal, moving = contact_frame(jet, near, ball.radius)
    restitution = jnp.where(tape.settles, 0.0, restitution_at(patch, near.gap_rate))
    turn_round = jnp.where(tape.settles, 0.0, patch.tangential_restitution)
    velocity, spin, *_ = impulse_law(
        ball, normal, moving, before.velocity, before.spin, restitution, patch.friction, turn_round
    )
    return Body(
        before.position - normal * jnp.where(tape.stays, near.gap(ball.radius), 0.0),
        choose(tape.hit, velocity, before.velocity),
        choose(tape.hit, spin, before.spin),
    )
