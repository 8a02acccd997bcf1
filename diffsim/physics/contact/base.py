"""The contract of a contact model, and the law of one impact that all of them share."""

import dataclasses
from typing import Protocol

import jax
import jax.numpy as jnp
from flax import struct

from diffsim.physics.device import call, gathered
from diffsim.physics.lanes import full
from diffsim.physics.state import Ball, BallState, Body
from diffsim.physics.surfaces import Path
from diffsim.physics.vector import Vector
from diffsim.physics.world import World

MANY = 1 << 20  # pairs of a stretch of motion and a time, more than which are not compared


@struct.dataclass
class Plan:
    """When and where things are, known before the flight.

    Attributes:
        boundaries: ends of the intervals of time, (K + 1,), s.
        grid: which of them are the time grid, (n + 1,) int.
        step: of the grid, s.
        series: pose of each driven surface on each interval (:mod:`diffsim.physics.pieces`),
            without derivative, (K, 12, N + 1).
        paths: from which they were made.
    """

    boundaries: jax.Array
    grid: jax.Array
    step: jax.Array
    series: tuple[jax.Array, ...]
    paths: tuple[Path, ...] = ()

    @property
    def data(self) -> "Plan":
        """Without the paths."""
        return dataclasses.replace(self, paths=())


@struct.dataclass
class Impacts:
    """The impacts of a rollout in order of time; rows past the last are not valid.

    Attributes:
        time: (M,), s.
        surface: index into ``world.surfaces``, (M,) int.
        before, after: the ball just before and just after, leaves (M, 3).
        valid: (M,) bool.
    """

    time: jax.Array
    surface: jax.Array
    before: BallState
    after: BallState
    valid: jax.Array


@struct.dataclass
class Doubts:
    """What may be wrong with a flight, () bool each.

    Attributes:
        coarse: whether a step was too long for the air, for friction that turns round, or for a
            way over an edge.
        too_fast: whether the ball stopped where a step would not be stable.
        inside: whether it started in a surface by its radius or more.
        crossed: whether it was in a surface later without having met it.
    """

    coarse: jax.Array
    too_fast: jax.Array
    inside: jax.Array
    crossed: jax.Array

    @classmethod
    def none(cls, size: int) -> "Doubts":
        """For lanes, (B,)."""
        return cls(*[jnp.zeros(size, bool)] * 4)


@struct.dataclass
class Flight:
    """What a contact model hands back.

    Attributes:
        states: on the grid, leaves (n + 1, 3).
        impacts: all of them.
        final: at the end, leaves (3,).
        finished: whether that is the end of the grid, () bool.
        doubts: what may be wrong with it.
    """

    states: BallState
    impacts: Impacts
    final: BallState
    finished: jax.Array
    doubts: Doubts


@struct.dataclass
class Marks:
    """How stretches of motion, one row each in order of time, make up a flight.

    Attributes:
        reached: boundaries passed by the end of the stretch, (A, B) int.
        impacts: impacts by then, (A, B) int.
        surface: index of the surface hit, (A, B) int.
    """

    reached: jax.Array
    impacts: jax.Array
    surface: jax.Array


class Contact(Protocol):
    """A contact model: how the motion goes on when the ball meets a surface."""

    def prepared(self, world: World, step: float) -> "Contact":
        """The model with what depends on the grid filled in, outside of any trace."""
        ...

    def fly(self, world: World, plan: Plan, state: BallState, max_impacts: int) -> Flight:
        """Follow the ball over the plan, starting from ``state``."""
        ...


def row(after: Body, before: Body, time: jax.Array) -> jax.Array:
    """A stretch of motion as numbers, (16, …): its end, and of its impact the time and before."""
    parts = (after.position, after.velocity, after.spin, before.velocity, before.spin)
    return jnp.concatenate([part.array for part in parts] + [time[None]])


def end_of(row: jax.Array) -> Body:
    """The ball at the end of a stretch (16, …)."""
    return Body(*(Vector.of(row[i : i + 3]) for i in (0, 3, 6)))


def below(counts: jax.Array, wanted: jax.Array) -> jax.Array:
    """How many of the rising counts (A, B) are below each of (n, 1), (n, B)."""
    if counts.shape[0] * wanted.shape[0] <= MANY:  # at once: it fuses, and needs no gather
        return jnp.sum(counts[None] < wanted[:, None], axis=1, dtype=jnp.int32)
    wanted = jnp.broadcast_to(wanted, (wanted.shape[0], counts.shape[1]))
    return jax.vmap(jnp.searchsorted, in_axes=1, out_axes=1)(counts, wanted).astype(jnp.int32)


def impact_rows(marks: Marks, max_impacts: int) -> jax.Array:
    """The row of each impact, or the last one, (M, B)."""
    ahead = jnp.arange(1, max_impacts + 1, dtype=jnp.int32)[:, None]
    return jnp.clip(below(marks.impacts, ahead), max=marks.impacts.shape[0] - 1)


def collect(
    start: BallState,
    rows: jax.Array,
    marks: Marks,
    grid: jax.Array,
    doubts: Doubts,
    max_impacts: int,
) -> Flight:
    """The flight that rows (A, 16, B) make up, see :func:`row`; ``start`` has leaves (3, B)."""
    start = full(start, rows.shape[-1])

    def states(found):
        return BallState(found[:, :3], found[:, 3:6], found[:, 6:9])

    ahead = jnp.arange(1, max_impacts + 1, dtype=jnp.int32)[:, None]
    valid = marks.impacts[-1] >= ahead
    which = impact_rows(marks, max_impacts)
    hits = jnp.where(valid[:, None], gathered(rows, which), 0)
    impacts = Impacts(
        time=hits[:, 15],
        surface=jnp.where(valid, gathered(marks.surface, which), -1),
        before=BallState(hits[:, :3], hits[:, 9:12], hits[:, 12:15]),
        after=states(hits),
        valid=valid,
    )
    on_grid = gathered(rows, below(marks.reached, grid[1:]))
    return Flight(
        states=jax.tree.map(
            lambda first, rest: jnp.concatenate([first[None], rest]), start, states(on_grid)
        ),
        impacts=impacts,
        final=jax.tree.map(lambda leaf: leaf[0], states(rows[-1:])),
        finished=marks.reached[-1] >= grid[-1],
        doubts=doubts,
    )


@call
def impulse_law(
    ball: Ball,
    normal: Vector,
    moving: Vector,
    velocity: Vector,
    spin: Vector,
    restitution: jax.Array | float,
    friction: jax.Array,
    tangential_restitution: jax.Array | float = 0.0,
) -> tuple[Vector, Vector]:
    """Coulomb impact with restitution against a surface much heavier than the ball.

    u = v − r (w × n) − v_s;  J_n/m = −(1 + e) u·n;  J_t/m = −(1 + e_t) u_t / (1 + 1/a), scaled
    down to μ J_n where it is larger (slip);  v⁺ = v + J/m;  w⁺ = w + (−r n) × J_t / I,
    I = a m r². A ball that moves away is left alone. With e_t > 0 the contact gives back part of
    what it stored along the surface, as rubber does: u_t⁺ = −e_t u_t (R. Cross, "Grip-slip
    behavior of a bouncing ball", American Journal of Physics 70 (2002) 1093).

    Args:
        ball: its radius and inertia factor are used.
        normal, moving: the surface's unit normal towards the ball, and its velocity there.
        velocity, spin: before.
        restitution: e, ().
        friction: μ, ().
        tangential_restitution: e_t, ().

    Returns:
        velocity and spin after.
    """
    n = normal
    slip = velocity - ball.radius * spin.cross(n) - moving
    approach = slip.dot(n)
    normal_impulse = jnp.where(approach < 0, -(1 + restitution) * approach, 0.0)
    stick = (slip - approach * n) * (-(1 + tangential_restitution) / slip_factor(ball))
    size, limit = stick.norm(), friction * normal_impulse
    sliding = size > limit
    tangential = stick * jnp.where(sliding, limit / jnp.where(sliding, size, 1.0), 1.0)
    return velocity + normal_impulse * n + tangential, spin + turned_by(ball, n, tangential)


def slip_factor(ball: Ball):
    """By how much a force per mass at the contact changes the slip, 1 + 1/a."""
    return 1 + 1 / ball.inertia_factor


def turned_by(ball: Ball, normal: Vector, force: Vector) -> Vector:
    """Change of the spin by a force per mass along the surface, −n × F/(a r)."""
    return force.cross(normal) * (1 / (ball.inertia_factor * ball.radius))
