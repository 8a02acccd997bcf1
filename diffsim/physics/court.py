"""The surfaces of a world as numbers, during flights of many balls: the last axis is the lane."""

import jax
import jax.numpy as jnp
from flax import struct

from diffsim.physics import pieces
from diffsim.physics.device import gathered, where_any
from diffsim.physics.proximity import Patch, proximity
from diffsim.physics.state import Body
from diffsim.physics.surfaces import Surface
from diffsim.physics.world import World


@struct.dataclass
class Court:
    """The fixed surfaces, then the driven ones; an index counts them in this order.

    A *jet* is twelve coordinates (centre, and the axes) and their time derivatives,
    (orders, 12, B).

    Attributes:
        rows: of each surface the patch and, if it is fixed, the coordinates, (S, 9 or 10 + 12, B).
        order: index in the world of each surface.
        fixed: how many are fixed.
    """

    rows: jax.Array
    order: tuple[int, ...] = struct.field(pytree_node=False)
    fixed: int = struct.field(pytree_node=False)

    @classmethod
    def of(cls, world: World) -> "Court":
        """Of a world that has surfaces, for one ball: without lanes."""
        known = world.surfaces
        edged = any(surface.edge_radius is not None for surface in known)
        order = sorted(range(len(known)), key=lambda i: known[i].driven)
        rows = [jnp.append(Patch.of(known[i], edged).rows, _still(known[i])) for i in order]
        return cls(jnp.stack(rows), tuple(order), len(known) - world.driven_count)

    @property
    def plates(self) -> bool:
        """Whether a surface has an edge that can be hit."""
        return self.rows.shape[1] > 9 + 12

    @property
    def numbers(self) -> jax.Array:
        """Indices, (S, 1)."""
        return jnp.arange(len(self.order), dtype=jnp.int32)[:, None]

    def named(self, index: jax.Array) -> jax.Array:
        """Index in the world; -1 for none."""
        return pick(jnp.asarray((-1, *self.order), jnp.int32)[:, None], index + 1)

    def chosen(self, index: jax.Array, moving: jax.Array) -> tuple[Patch, jax.Array]:
        """One surface for each ball, and its jet; nothing for index -1.

        By masks, as they are few: their derivative has no scatter.

        Args:
            moving: the jet where the surface is a driven one, (orders, 12, B).
        """
        here = (self.numbers == index)[:, None]
        own = jnp.sum(jnp.where(here, self.rows, 0), axis=0, dtype=self.rows.dtype)
        rest = jnp.zeros((moving.shape[0] - 1, 12, own.shape[-1]), own.dtype)
        still = jnp.concatenate([own[None, -12:], rest])
        return Patch(own[:-12]), jnp.where(index >= self.fixed, moving, still)

    def own(self, index: jax.Array, series: list[jax.Array]) -> jax.Array:
        """The series of one driven surface of an interval's, (12, N + 1, B)."""
        if not series:
            return jnp.zeros((12, pieces.NODES + 1, 1), self.rows.dtype)
        found = series[0]
        for i, other in enumerate(series[1:], start=self.fixed + 1):
            found = jnp.where(index == i, other, found)
        return found

    def jets_at(self, moving, lengths, interval, index, place) -> jax.Array:
        """Jets (A, 4, 12, B) of driven surfaces at places (A, B) of intervals; else zero.

        Args:
            moving: series of each driven surface on those intervals, (A, 12, N + 1, B).
            lengths: of all intervals, (K, B), s.
        """
        half = pick(lengths, interval) / 2
        found = jnp.zeros((*place.shape[:1], 4, 12, place.shape[1]), place.dtype)
        for i, series in enumerate(moving, start=self.fixed):
            jet = pieces.rates(jnp.moveaxis(series, 0, 2), place, half, 4)
            found = jnp.where((index == i)[:, None, None], jnp.moveaxis(jet, 2, 0), found)
        return found

    def jets_at_ends(self, jets, interval, index) -> jax.Array:
        """Jets (A, 2, 12, B) of driven surfaces at the ends of intervals (A, B); else zero.

        Args:
            jets: of each driven surface at the end of each interval, (K, 2, 12, B).
        """

        def picked(jets):
            found = jnp.zeros((*interval.shape[:1], 2, 12, interval.shape[1]), self.rows.dtype)
            for i, own in enumerate(jets, start=self.fixed):
                jet = gathered(own, interval)
                found = jnp.where((index == i)[:, None, None], jet, found)
            return found

        none = jax.eval_shape(picked, jets)
        rests = index >= self.fixed
        return where_any(rests, picked, lambda _: jnp.zeros(none.shape, none.dtype), jets)

    def near(self, moving: list[jax.Array], ball: Body, face=None):
        """All surfaces, their jets, and how balls (n, B) stand to them; leaves (…, S, n, B).

        Args:
            moving: jets of the driven surfaces, (2, 12, n, B).
            ball: (n, B), or a place of its own for each surface, (S, n, B).
            face: see :func:`~diffsim.physics.proximity.proximity`, (S, n, B).

        Returns:
            Patch, jets, Proximity.
        """
        shape = (len(self.order), *ball.position.x.shape[-2:])
        rows = jnp.moveaxis(self.rows, 0, 1)[:, :, None]
        rows = jnp.broadcast_to(rows, (rows.shape[0], *shape))
        still = rows[-12:]
        jet = jnp.stack([still, jnp.zeros_like(still)])
        if moving:
            jet = jnp.concatenate([jet[:, :, : self.fixed], jnp.stack(moving, axis=2)], axis=2)
        patch = Patch(rows[:-12])
        return patch, jet, proximity(patch, jet, ball, face)


def shifted(jet: jax.Array, time: jax.Array) -> jax.Array:
    """The jet's coordinates and rates at ``time`` as far as that differs from where it was taken.

    That is nothing: only derivatives see it. (4, 12, B) to (2, 12, B).
    """
    on = time - jax.lax.stop_gradient(time)
    return jet[:2] + on * (jet[1:3] + on / 2 * jnp.stack([jet[2] + on / 3 * jet[3], jet[3]]))


def beside(tree):
    """Every leaf (…, B) as (…, 1, B): one that stands beside several a lane."""
    return jax.tree.map(lambda leaf: jnp.expand_dims(leaf, -2), tree)


@jax.jit
def pick(rows: jax.Array, index: jax.Array) -> jax.Array:
    """``rows[index]`` for each lane: (K, …, B) and (…′, B) to (…′, …, B); no derivative."""
    wide = rows.reshape(rows.shape[0], -1, rows.shape[-1])
    flat = index.reshape(-1, 1, index.shape[-1])
    found = jnp.take_along_axis(wide, flat, axis=0, mode="promise_in_bounds")
    return found.reshape(*index.shape[:-1], *rows.shape[1:-1], found.shape[-1])


def _still(surface: Surface) -> jax.Array:
    """Coordinates of a fixed surface, (12,); zero for a driven one."""
    if surface.driven:
        return jnp.zeros(12, surface.center.dtype)
    return jnp.concatenate([surface.center, surface.rotation.T.ravel()])
