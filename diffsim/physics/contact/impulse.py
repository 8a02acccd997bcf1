"""Impacts as events: located exactly in time, the impulse law applied there, then fresh forces."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from diffsim import _check
from diffsim.physics import pieces
from diffsim.physics.arc import coarse, stable
from diffsim.physics.contact.base import Doubts, Flight, Marks, Plan, collect, impact_rows, row
from diffsim.physics.contact.resting import at_rest, sliding
from diffsim.physics.contact.tape import (
    Tape,
    after_arc,
    free_arc,
    jets_along,
    replayed,
    restitution_at,
)
from diffsim.physics.court import Court, beside, pick
from diffsim.physics.device import each, where_any
from diffsim.physics.lanes import full, lane_count, lanes, sized
from diffsim.physics.proximity import Patch, proximity
from diffsim.physics.search import (
    GRAZING_SPEED,
    NODES,
    bracketed,
    depth_in,
    first_contact,
    leaving,
    nearest,
    pushed,
    refined,
    starts_inside,
)
from diffsim.physics.state import Body
from diffsim.physics.vector import choose

NO_SURFACE = -1
EVEN = 1e-3  # a normal that turns by more while it holds the ball is not followed exactly


@struct.dataclass
class Impulse:
    """Event-located impacts under the impulse law; the default, and exact.

    Each arc of motion ends at the next grid time or at the first impact before it. The time of
    impact is differentiated by the implicit function theorem, which gives the state after it the
    derivative known as the saltation matrix (Kong, Payne, Zhu & Johnson, "Saltation matrices:
    the essential tool for linearizing hybrid dynamical systems", Proc. IEEE 112 (2024), eq. 10).

    Attributes:
        rest_speed: a ball that would rebound more slowly than this, m/s, stays on the surface,
            slides and rolls there until it is lifted off, thrown off or leaves the patch. The last
            impulse of a surface that moves away from it is reported as an impact.

    >>> from diffsim.physics import BallState, World, simulate
    >>> drop = BallState.create([0.0, 0.0, 1.06])
    >>> rollout = simulate(World.create(), drop, duration=1.0, contact=Impulse())
    >>> int(rollout.impacts.valid.sum()) > 0
    True
    """

    rest_speed: jax.Array | float = 0.01

    @classmethod
    def create(cls, rest_speed=0.01) -> "Impulse":
        """With a checked speed.

        Raises:
            ValueError: it is negative or not finite.
        """
        return cls(_check.in_range("rest_speed", rest_speed, 0.0))

    def prepared(self, world, step: float) -> "Impulse":
        """Itself, checked: nothing depends on the step."""
        self.create(self.rest_speed)
        return self

    def fly(self, world, plan, state, max_impacts) -> Flight:
        """See :class:`~diffsim.physics.contact.base.Contact`."""
        scene = dataclasses.replace(world, surfaces=()), Court.of(world)
        fixed = jax.lax.stop_gradient((*scene, plan.data, state, jnp.asarray(self.rest_speed)))
        record = lanes(sized(_searched, max_impacts))(*fixed)
        moving = _moving(plan, record, max_impacts)
        rows = _differentiable((*scene, state, moving), (plan.data, record))
        whole = lanes(sized(collect, max_impacts))
        return whole(state, rows, record.marks, plan.grid, record.doubts)


@struct.dataclass
class Record:
    """A flight as the search found it.

    Attributes:
        rows: of :func:`~diffsim.physics.contact.base.collect`, (A, 16, B).
        tape: what its derivative needs of it.
        marks: how the rows make up the flight.
        doubts: what may be wrong with it.
    """

    rows: jax.Array
    tape: Tape
    marks: Marks
    doubts: Doubts


@jax.custom_jvp
def _differentiable(inputs, found) -> jax.Array:
    """The rows that were found, with derivatives in the inputs from the tape: no search there.

    Args:
        inputs: world, court and start, and how driven surfaces move where that counts.
        found: the plan and the record.
    """
    return found[1].rows


def _differentiable_jvp(primals, tangents):
    (inputs, (plan, record)), (ways, _) = primals, tangents
    zero = jax.custom_derivatives.SymbolicZero
    leaves, tree = jax.tree.flatten(inputs)
    ways = jax.tree.leaves(ways, is_leaf=lambda x: isinstance(x, zero))
    moved = [i for i, way in enumerate(ways) if not isinstance(way, zero)]

    def along(*values):
        changed = dict(enumerate(leaves)) | dict(zip(moved, values, strict=True))
        world, court, start, moving = jax.tree.unflatten(tree, changed.values())
        jets = lanes(jets_along)(court, moving, plan, record.tape, record.marks) if moving else None
        return lanes(replayed)(world, court, start, jets, record.tape, record.rows)

    change = jax.jvp(along, [leaves[i] for i in moved], [ways[i] for i in moved])[1]
    return _differentiable(*primals), change


_differentiable.defjvp(_differentiable_jvp, symbolic_zeros=True)


def _moving(plan: Plan, record: Record, max_impacts: int):
    """Series of each driven surface on the intervals with an impact, and jets at all ends.

    Only there do derivatives need them: (max_impacts, 12, N + 1) and (K, 2, 12).
    """
    marks = jax.tree.map(lambda leaf: leaf[:, None], record.marks)
    rows, interval = impact_rows(marks, max_impacts)[:, 0], record.tape.interval
    ends = jax.lax.stop_gradient(plan.boundaries)
    begin, end = ends[interval[rows]], ends[interval[rows] + 1]
    at = pieces.nodes(begin, end)

    def moves(path):
        jets = pieces.sampled(path, jnp.append(at, ends[1:]))
        value, rate = (x[: at.size].reshape(*at.shape, 12).swapaxes(1, 2) for x in jets)
        series = pieces.fitted(value, rate, (end - begin) / 2)
        return series, jnp.stack([x[at.size :] for x in jets], axis=1)

    return [moves(path) for path in plan.paths]


def _searched(world, court: Court, plan: Plan, start, rest_speed, *, max_impacts: int) -> Record:
    """Fly and search, arc by arc; for lanes."""
    size = lane_count((world, court, plan, start, rest_speed))
    world, court, start, rest_speed = full((world, court, start, rest_speed), size)
    last, dtype, radius = plan.grid[-1], start.position.dtype, world.ball.radius
    patches = Patch(jnp.moveaxis(court.rows[:, :-12], 0, 1)[:, :, None])
    even = np.arange(NODES + 1) / NODES
    shares, looks = (
        full(jnp.asarray(s, dtype)[:, None], size) for s in (even, np.insert(even, NODES, 0.98))
    )

    def was_hit(gone):  # each surface, if it is hit but once
        return (gone >> court.numbers) & 1 > 0

    def search(carry, left):
        body, interval, late, (rest, face), gone, doubts, sunk, impacts = carry
        begun = pick(plan.boundaries, interval)
        length = pick(plan.boundaries, jnp.minimum(interval + 1, last)) - begun
        steady = stable(world, body, plan.step)
        flies = interval < last
        running = flies & steady
        duration = jnp.where(running, jnp.maximum(length - late, 0.0), 0.0)
        arc = free_arc(world, body, running, duration)
        one, coefficients = jnp.ones_like(duration), [pick(c, interval) for c in plan.series]

        half = length / 2
        unit = jnp.where(half > 0, half, 1.0)
        place = lambda s: late / unit - 1 + s * (duration / unit)  # noqa: E731  on the interval

        def near_at(s, index):
            moving = pieces.rates(court.own(index, coefficients), place(s), half, 2)
            patch, jet = court.chosen(index, moving)
            return patch, jet, proximity(patch, jet, arc(s), jnp.where(index == rest, face, 0.0))

        # A resting ball. Its slip ends an arc; where no row is left for that, it is told as coarse.
        def hold(arc):
            found = each(lambda s: near_at(s, rest), looks)
            patch, jet, near = jax.tree.map(lambda leaf: leaf[-1], found)
            slides, grips = sliding(world, patch, jet, near, arc)
            short = (slides > 0) & (slides < 1) & (left < last - interval)
            slides, grips = jnp.where(short, 0.0, slides), grips & ~short
            along = at_rest(world, patch, jet, near, arc, slides)
            error = jnp.where(short, jnp.inf, along.error)
            along = dataclasses.replace(along, error=error)
            node = pushed(found[2].gap_rate)
            held = (near.gap_rate < 0) & (node > NODES)
            return choose(held, along, arc), held, node, jnp.where(held, slides, 0.0), grips

        free = lambda arc: (arc, no, rest, 0 * one, no)  # noqa: E731
        arc, held, node, slides, grips = where_any(rest >= 0, hold, free, arc)
        rough = coarse(arc)

        moving = [pieces.rates(c[:, :, None], place(shares), half, 2) for c in coefficients]
        bare = dataclasses.replace(arc, spin=arc.spin[:1])  # does not matter there
        spread = beside(bare)
        own = court.numbers == rest
        faces = jnp.where(own, face, 0.0)[:, None]
        near = court.near(moving, spread(shares), faces)[2]
        leaves, until = leaving(near, own, held, node)
        allowed = ~(was_hit(gone) | (held & own))
        allowed = allowed[:, None] & ~(
            own[:, None] & (jnp.arange(NODES, dtype=jnp.int32)[:, None] <= node)
        )
        nodes = None
        if court.plates:
            twice = beside(spread)

            def around(s):  # each surface at a time of its own
                at = [place(s[court.fixed + i])[None] for i in range(len(coefficients))]
                moving = [pieces.rates(c[:, :, None], p, half, 2) for c, p in zip(coefficients, at)]
                return court.near(moving, twice(s[:, None]), faces)[2]

            rough |= _rolls_over(near, own & (face == 0) & held)
            near, nodes = nearest(near, around, duration, radius)
        far = jnp.sum(jnp.abs(body.position.array), axis=0)
        found, s, chosen, depth, *within = first_contact(
            near, duration, radius, far, allowed, nodes
        )
        parts = (slides > 0) & (slides < jnp.where(leaves, until, 1.0))
        until = jnp.where(parts, slides, until)
        ends = (leaves | parts) & (until <= s)
        found = (found | ends) & running
        chosen = jnp.where(found & ~ends | (rest < 0), chosen.astype(jnp.int32), rest)
        root = lambda s: near_at(s, chosen)[2], radius + depth, arc, jnp.minimum(s, 1.0)
        if court.plates:
            s = bracketed(*root, *(pick(end, chosen) for end in within[0]))
        else:
            s = refined(*root)
        s = jnp.where(ends, until, jnp.where(found, s, one))

        depths = jnp.where((own | was_hit(gone))[:, None], 0.0, depth_in(near, radius, far))
        first = (interval == 0) & (late == 0)
        sunk = jnp.where(first, jnp.max(depths[:, 0], axis=0), sunk)
        early = (shares if nodes is None else nodes / NODES) < s
        deeper = depths > sunk + radius / 1000
        new = Doubts(
            coarse=running & rough,
            too_fast=flies & ~steady,
            inside=first & starts_inside(patches, near, radius)[0],
            crossed=running & jnp.any(early & deeper, axis=(0, 1)),
        )

        (patch, jet, near), before = near_at(s, chosen), arc(s)
        rate = near.gap_rate
        restitution = restitution_at(patch, rate)
        slow = (restitution * -rate < rest_speed) & (restitution < 1)
        on_patch = near.margin >= 0
        tape = Tape(
            interval=interval, begun=begun, length=length, s=s, place=place(s), surface=chosen,
            rest=jnp.where(held, rest, NO_SURFACE),
            face=jnp.where(held | (chosen == rest), face, 0.0), slides=slides,
            grips=grips & parts & ends, running=running, found=found,
            hit=found & on_patch & ~(held & ends),
            settles=slow | (rate > -GRAZING_SPEED) | ends,
            stays=on_patch & ((held & ~found) | ends) & running,
        )  # fmt: skip
        late = late + s * duration
        body = choose(running, after_arc(world, tape, patch, jet, near, before), body)
        line = row(body, before, begun + late)
        settled, passed = (tape.hit & tape.settles) | tape.stays, running & ~found
        carry = (
            body,
            interval + passed.astype(jnp.int32),
            jnp.where(passed, 0.0, late),
            (jnp.where(settled, chosen, NO_SURFACE), near.face),
            gone | jnp.where(tape.hit & patch.once, jnp.left_shift(1, chosen), 0),
            jax.tree.map(jnp.logical_or, doubts, new),
            sunk,
            impacts + tape.hit.astype(jnp.int32),
        )
        return carry, (line, tape, court.named(chosen))

    def wait(carry):
        body, interval, late, (rest, face), *_ = carry
        fixed = (late, late, late, late, rest, rest, face, late)
        tape = Tape(interval, *fixed, no, no, no, no, no, no)
        return carry, (row(body, body, late), tape, rest)

    def step(carry, left):
        fly = lambda carry: search(carry, left)  # noqa: E731
        carry, (line, tape, name) = where_any(carry[1] < last, fly, wait, carry)
        return carry, (line, tape, Marks(carry[1], carry[-1], name))

    zero, number = jnp.zeros(size, dtype), jnp.zeros(size, jnp.int32)
    body = Body.of(start)
    no = jnp.zeros(size, bool)
    rest = number + NO_SURFACE, zero
    carry = (body, number, zero, rest, number, Doubts.none(size), zero, number)
    count = plan.boundaries.shape[0] - 1 + max_impacts
    rows_left = np.arange(count, dtype=np.int32)[::-1].copy()
    carry, (rows, tape, marks) = jax.lax.scan(step, carry, rows_left)
    return Record(rows, tape, marks, carry[5])


def _rolls_over(near, own: jax.Array) -> jax.Array:
    """Whether a ball held by the edge ``own`` (S, B) of a plate turns about it in one arc, (B,)."""
    turn = jnp.max(jnp.abs(near.normal[:, :, -1] - near.normal[:, :, 0]), axis=0)
    return jnp.any(own & (turn > EVEN), axis=0)
