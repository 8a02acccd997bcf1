"""The surfaces of a world during flights of many balls: arrays whose last axis is the lane."""

import jax
import jax.numpy as jnp
from flax import struct

from diffsim.physics import pieces
from diffsim.physics.contact.base import Plan
from diffsim.physics.state import Body, Frame
from diffsim.physics.surfaces import Patch, Proximity, Surface, proximity
from diffsim.physics.world import World


@struct.dataclass
class Court:
    """The fixed surfaces, then the driven ones; an index counts them in this order.

    A *jet* is nine coordinates (centre, u, normal) and their time derivatives, (orders, 9, B).

    Attributes:
        patches: of all surfaces, leaves (S, B).
        fixed: coordinates of the fixed surfaces, (F, 9, B).
        series: pose of each driven surface on each interval, (K, 9, N + 1, B).
        lengths: of the intervals, (K, B), s.
        radius: of the ball, (B,), m.
        order: index in the world of each surface.
    """

    patches: Patch
    fixed: jax.Array
    series: tuple[jax.Array, ...]
    lengths: jax.Array
    radius: jax.Array
    order: tuple[int, ...] = struct.field(pytree_node=False)

    @classmethod
    def of(cls, world: World, plan: Plan) -> "Court":
        """From records with lanes."""
        known = world.surfaces or (_nothing(world),)
        order = sorted(range(len(known)), key=lambda i: known[i].driven)
        surfaces = [known[i] for i in order]
        fixed = [coordinates(surface) for surface in surfaces if not surface.driven]
        return cls(
            patches=_stacked([Patch.of(surface) for surface in surfaces]),
            fixed=_stacked(fixed) if fixed else jnp.zeros((0, 9, 1), plan.boundaries.dtype),
            series=plan.series,
            lengths=jnp.diff(plan.boundaries, axis=0),
            radius=world.ball.radius,
            order=tuple(order),
        )

    @property
    def numbers(self) -> jax.Array:
        """Indices, (S, 1)."""
        return jnp.arange(len(self.order), dtype=jnp.int32)[:, None]

    def named(self, index: jax.Array) -> jax.Array:
        """Index in the world."""
        return chosen(jnp.asarray(self.order, jnp.int32)[:, None], index)

    def patch(self, index: jax.Array) -> Patch:
        """One patch for each ball; nothing for index -1."""
        return jax.tree.map(lambda leaf: chosen(leaf, index), self.patches)

    def jets_at(self, series, interval, index, place) -> jax.Array:
        """Jets (A, 4, 9, B) of driven surfaces at places (A, B) of intervals; else zero.

        Args:
            series: of each driven surface on those intervals, (A, 9, N + 1, B).
        """
        half = pick(self.lengths, interval) / 2
        found = jnp.zeros((*place.shape[:1], 4, 9, place.shape[1]), place.dtype)
        for i, own in enumerate(series, start=self.fixed.shape[0]):
            jet = pieces.rates(jnp.moveaxis(own, 0, 2), place, half, 4)
            found = jnp.where((index == i)[:, None, None], jnp.moveaxis(jet, 2, 0), found)
        return found

    def jets_at_ends(self, jets, interval, index) -> jax.Array:
        """Jets (A, 2, 9, B) of driven surfaces at the ends of intervals (A, B); else zero.

        Args:
            jets: of each driven surface at the end of each interval, (K, 2, 9, B).
        """
        found = jnp.zeros((*interval.shape[:1], 2, 9, interval.shape[1]), self.lengths.dtype)
        for i, own in enumerate(jets, start=self.fixed.shape[0]):
            jet = jnp.moveaxis(chosen(own, interval), 2, 0)
            found = jnp.where((index == i)[:, None, None], jet, found)
        return found

    def own(self, index: jax.Array, series: list[jax.Array]) -> jax.Array:
        """The series of one driven surface of an interval's, (9, N + 1, B)."""
        if not series:
            return jnp.zeros((9, pieces.NODES + 1, 1), self.fixed.dtype)
        found = series[0]
        for i, other in enumerate(series[1:], start=self.fixed.shape[0] + 1):
            found = jnp.where(index == i, other, found)
        return found

    def jet(self, index: jax.Array, moving: jax.Array) -> jax.Array:
        """The jet of a surface: ``moving`` (orders, 9, B) for a driven one."""
        own = chosen(self.fixed, index)
        still = jnp.stack([own, *[jnp.zeros_like(own)] * (moving.shape[0] - 1)])
        return jnp.where(index >= self.fixed.shape[0], moving, still)

    def near(self, index: jax.Array, jet: jax.Array, ball: Body) -> Proximity:
        """How each ball stands to one surface."""
        return placed(self.patch(index), jet, self.radius, ball)

    def all_near(self, moving: list[jax.Array], ball: Body) -> Proximity:
        """How balls (n, B) stand to all surfaces; leaves (S, n, B).

        Args:
            moving: jets of the driven surfaces, (2, 9, n, B).
        """
        shape = ball.position.x.shape
        still = jnp.moveaxis(self.fixed, 0, 1)[:, :, None]  # (9, F, 1, B)
        frames = [(still, jnp.zeros_like(still))]
        if moving:
            values = jnp.stack(moving, axis=2)  # (2, 9, D, n, B)
            frames.append((values[0], values[1]))
        value, rate = (
            jnp.concatenate([jnp.broadcast_to(x, (9, x.shape[1], *shape)) for x in parts], axis=1)
            for parts in zip(*frames, strict=True)
        )
        all_shape = (len(self.order), *shape)
        patches = jax.tree.map(lambda x: jnp.broadcast_to(x[:, None], all_shape), self.patches)
        jet = jnp.stack([value, rate])
        ball = jax.tree.map(lambda x: jnp.broadcast_to(x[:, None], (3, *all_shape)), ball)
        return placed(patches, jet, jnp.broadcast_to(self.radius, all_shape), ball)


@jax.jit
def placed(patch: Patch, jet: jax.Array, radius: jax.Array, ball: Body) -> Proximity:
    """How a ball stands to a patch where its jet begins."""
    return proximity(patch, Frame.moving(jet[0], jet[1]), radius, ball.position, ball.velocity)


def shifted(jet: jax.Array, time: jax.Array) -> jax.Array:
    """The jet's coordinates and rates at ``time`` as far as that differs from where it was taken.

    That is nothing: only derivatives see it. (4, 9, B) to (2, 9, B).
    """
    on = time - jax.lax.stop_gradient(time)
    value, first, second, third = jet
    return jnp.stack(
        [value + on * (first + on / 2 * (second + on / 3 * third)),
         first + on * (second + on / 2 * third)]
    )  # fmt: skip


def wide(tree, shape: tuple[int, ...]):
    """Every leaf (…, B) in (…, *shape), whose last axis is the lanes."""

    def widened(leaf):
        head, ones = leaf.shape[:-1], (1,) * (len(shape) - 1)
        return jnp.broadcast_to(leaf.reshape(*head, *ones, leaf.shape[-1]), (*head, *shape))

    return jax.tree.map(widened, tree)


def pick(rows: jax.Array, index: jax.Array) -> jax.Array:
    """``rows[index]`` for each lane: (K, …, B) and (…′, B) to (…′, …, B); no derivative."""
    wide = rows.reshape(rows.shape[0], -1, rows.shape[-1])
    flat = index.reshape(-1, 1, index.shape[-1])
    found = jnp.take_along_axis(wide, flat, axis=0, mode="promise_in_bounds")
    return found.reshape(*index.shape[:-1], *rows.shape[1:-1], found.shape[-1])


def chosen(items: jax.Array, index: jax.Array) -> jax.Array:
    """The same by masks, for few rows: its derivative has no scatter; zero for index -1.

    (S, …, B) and (…′, B): (…, …′, B).
    """
    extra = (1,) * (index.ndim - 1)
    items = items.reshape(*items.shape[:-1], *extra, items.shape[-1])
    number = jnp.arange(items.shape[0], dtype=index.dtype)
    here = number.reshape(-1, *[1] * (items.ndim - 1)) == index
    if items.dtype == bool:
        return jnp.any(here & items, axis=0)
    return jnp.sum(jnp.where(here, items, 0), axis=0, dtype=items.dtype)


def _nothing(world: World) -> Surface:
    """A surface without an inside."""
    lanes = (1,) * (world.gravity.ndim - 1)
    one = Surface.create(half_extents=(jnp.inf, jnp.inf))
    one = jax.tree.map(lambda leaf: leaf.reshape(*leaf.shape, *lanes), one)
    one = jax.tree.map(lambda x: x if x.dtype == bool else x.astype(world.gravity.dtype), one)
    return one.replace(half_extents=-one.half_extents)


def coordinates(surface: Surface) -> jax.Array:
    """Centre, u and normal of a fixed surface, (9, …)."""
    turn = surface.rotation
    parts = jnp.broadcast_arrays(surface.center, turn[:, 0], turn[:, 2])
    return jnp.concatenate(parts)


def _stacked(trees: list):
    return jax.tree.map(lambda *leaves: jnp.stack(jnp.broadcast_arrays(*leaves)), *trees)
