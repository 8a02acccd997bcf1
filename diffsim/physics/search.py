"""The first time on an arc at which the ball meets a surface; it carries no derivative.

What is written here is for arrays of any shape, in the end (surfaces, …, balls).
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import struct

from diffsim.physics.arc import Arc
from diffsim.physics.device import repeat
from diffsim.physics.proximity import Patch, Proximity
from diffsim.physics.vector import choose

NODES = 8  # sub-intervals of an arc on which the gap is looked at
GRAZING_SPEED = 1e-6  # m/s; slower approaches do not move the time of impact's derivative


def rounding(size: jax.Array) -> jax.Array:
    """A gap below this is rounding, where coordinates and the radius add up to ``size``, m."""
    return 100 * float(jnp.finfo(size.dtype).eps) * size


@struct.dataclass
class Cubic:
    """The cubic on [0, 1] with given values and slopes at its ends."""

    start: jax.Array
    end: jax.Array
    start_slope: jax.Array
    end_slope: jax.Array
    c2: jax.Array
    c3: jax.Array

    @classmethod
    def through(cls, start, end, start_slope, end_slope) -> "Cubic":
        rise = end - start
        c2 = 3 * rise - 2 * start_slope - end_slope
        return cls(start, end, start_slope, end_slope, c2, start_slope + end_slope - 2 * rise)

    def value(self, u):
        return self.start + u * (self.start_slope + u * (self.c2 + u * self.c3))

    def slope(self, u):
        return self.start_slope + u * (2 * self.c2 + 3 * u * self.c3)

    def minimum(self):
        """u, and whether it lies within (0, 1)."""
        discriminant = self.c2 * self.c2 - 3 * self.c3 * self.start_slope
        denominator = self.c2 + jnp.sqrt(jnp.maximum(discriminant, 0))
        u = -self.start_slope / jnp.where(denominator == 0, 1, denominator)
        return u, (discriminant > 0) & (denominator != 0) & (u > 0) & (u < 1)

    def sinks(self, most):
        """Whether it, above zero at 0, is at 1 below zero, or below ``most`` and falling."""
        return (self.end <= 0) | ((self.end <= most) & (self.end_slope < 0))

    def falls(self, most):
        """Whether it does, or dips below zero on the way."""
        lowest, inside = self.minimum()
        return self.sinks(most) | (inside & (self.value(lowest) < 0))

    def root(self):
        """Its first fall through zero, u in [0, 1]."""
        lowest, dips = self.minimum()
        high = jnp.where(dips & (self.value(lowest) < 0), lowest, 1.0)
        low = jnp.zeros_like(high)
        down = self.end < 0
        secant = jnp.where(down, self.start / jnp.where(down, self.start - self.end, 1), 0.5)

        def improve(bracket):
            u, low, high = bracket
            f, rate = self.value(u), self.slope(u)
            low, high = jnp.where(f > 0, u, low), jnp.where(f > 0, high, u)
            step = u - f / jnp.where(rate < 0, rate, -1)
            newton = (rate < 0) & (step >= low) & (step <= high)
            return jnp.where(newton, step, 0.5 * (low + high)), low, high

        start = low + (high - low) * jnp.clip(secant, 0, 1)
        return repeat(6, improve, (start, low, high))[0]


def touch(near: Proximity, radius: jax.Array, size: jax.Array) -> tuple[jax.Array, ...]:
    """Whether a ball touches a surface or is in it, by less than its radius.

    Args:
        near: how it stands to it.
        radius: of the ball, m.
        size: of its coordinates, m.

    Returns:
        whether it does, the gap where it does, and what is rounding, m.
    """
    tiny = rounding(size + radius + jnp.sum(jnp.abs(near.local), axis=0))
    gap = near.gap(radius)
    touches = (gap <= tiny / 25) & (gap > -radius) & (near.margin >= 0)
    return touches, jnp.where(touches, gap, 0.0), tiny


def starts_inside(patch: Patch, near: Proximity, radius: jax.Array) -> jax.Array:
    """Whether a ball is in a surface by its radius or more, as a search would not find, (…, B).

    Behind an unbounded one-sided surface it is however far; behind a patch it may pass below.

    Args:
        patch, near: of all surfaces, and how the ball stands to them, leaves (…, S, …, B).
        radius: of the ball, m.
    """
    within = (near.distance > -radius) | jnp.isinf(near.margin)
    solid = ~patch.two_sided
    if near.edge_radius is not None:
        solid |= near.edge_radius >= 0
    return jnp.any(solid & (near.distance <= 0) & (near.margin >= 0) & within, axis=0)


def depth_in(near: Proximity, radius: jax.Array, size: jax.Array) -> jax.Array:
    """How deep a ball is in a surface, m; 0 where that is the radius or more, or rounding.

    Args:
        near, radius, size: see :func:`touch`.
    """
    depth = -near.gap(radius)
    within = (near.margin >= 0) & (depth > rounding(size + radius)) & (depth < radius)
    return jnp.where(within, depth, 0.0)


def crossing(
    left: Proximity,
    right: Proximity,
    duration: jax.Array,
    zero: jax.Array,
    least: jax.Array,
    most: jax.Array,
) -> tuple[jax.Array, Cubic]:
    """Whether the gap falls through zero on a sub-interval of an arc, and the cubic through it.

    Args:
        left, right: at its ends.
        duration: of the sub-interval, s.
        zero: the distance at which the gap is zero, m.
        least: what is above zero at its start, m.
        most: what is not above zero at its end, m.
    """
    pace = left.side * duration
    start, end = left.side * left.distance - zero, left.side * right.distance - zero
    slopes = pace * left.rate, pace * right.rate
    if left.edge_radius is not None:  # g + g²/2R = (|x − q|² − R²)/2R: on a straight way a parabola
        curvature = jnp.where(left.edge_radius >= 0, 1 / (zero + left.edge_radius), 0.0)
        slopes = slopes[0] * (1 + curvature * start), slopes[1] * (1 + curvature * end)
        start, end = start + curvature / 2 * start**2, end + curvature / 2 * end**2
    cubic = Cubic.through(start, end, *slopes)
    way = jnp.sum(jnp.abs(left.local - right.local)[:2], axis=0)
    near = jnp.maximum(left.margin, right.margin) + way >= 0
    falls = cubic.falls(most)
    if left.edge_radius is not None:  # the lowest place of a plate is a node
        falls = jnp.where(left.edge_radius >= 0, cubic.sinks(most), falls)
    return (start > least) & falls & near, cubic


def nearest(
    near: Proximity, near_at: Callable, duration: jax.Array, radius: jax.Array
) -> tuple[Proximity, jax.Array]:
    """Nodes of which one is moved, for each plate that is passed closely, to where it is nearest.

    There the gap may turn from one parabola to another (from a face to an edge, along its border),
    which a cubic between the other nodes would not show. A plate is convex: on an even way there
    is one such place.

    Args:
        near: see :func:`first_contact`.
        near_at: s of each surface (S, B) to how the balls stand then, leaves (…, S, 1, B).
        duration, radius: (B,).

    Returns:
        the nodes and their places in sub-intervals, (S, NODES + 1, B).
    """

    def slope(near):  # of |x − q|²/2
        return (near.distance + near.edge_radius) * near.rate * duration / NODES

    number = jnp.arange(NODES + 1, dtype=duration.dtype)[:, None]
    value, slopes = (near.distance + near.edge_radius) ** 2 / 2, slope(near)
    (v0, v1), (d0, d1) = ((leaf[:, :-1], leaf[:, 1:]) for leaf in (value, slopes))
    turns = (d0 < 0) & (d1 > 0) & (near.edge_radius[:, 1:] >= 0)
    meet = (v1 - d1 - v0) / jnp.where(turns, d0 - d1, 1.0)  # of the tangents, below the gap
    turns &= v0 + d0 * meet < 0.6 * (radius + near.edge_radius[:, 1:]) ** 2
    here = turns & (jnp.cumsum(turns, axis=1) == 1)
    low = jnp.sum(jnp.where(here, number[:-1], 0), axis=1)
    down, up = (jnp.sum(jnp.where(here, leaf, 0), axis=1) for leaf in (d0, d1))
    one = jnp.ones_like(low)

    def illinois(bracket):
        a, b, down, up, *best = bracket
        u = a - down * (b - a) / jnp.where(up > down, up - down, 1.0)
        near = jax.tree.map(lambda leaf: leaf[:, 0], near_at((low + u) / NODES))
        new, falls = slope(near), near.rate < 0
        best = choose(near.distance < best[1], [u, near.distance], best)
        a, b = jnp.where(falls, u, a), jnp.where(falls, b, u)
        return a, b, jnp.where(falls, new, down / 2), jnp.where(falls, up / 2, new), *best

    u = repeat(8, illinois, (0 * one, one, down, up, one, jnp.inf * one))[4]
    moved, found = low + u, near_at((low + u) / NODES)
    there = jnp.concatenate([jnp.zeros_like(here[:, :1]), here], axis=1)
    near = jax.tree.map(lambda new, old: jnp.where(there, new, old), found, near)
    return near, jnp.where(there, moved[:, None], number)


def first_contact(
    near: Proximity,
    duration: jax.Array,
    radius: jax.Array,
    size: jax.Array,
    allowed: jax.Array,
    nodes: jax.Array | None = None,
) -> tuple[jax.Array, ...]:
    """The earliest fall of a gap through zero on an arc, to the accuracy of cubics.

    Also where the ball dips in and out within one sub-interval.

    Args:
        near: at the ends of the ``NODES`` sub-intervals, leaves (…, S, NODES + 1, B).
        duration: of the arc, (B,), s.
        radius: of the ball, (B,), m.
        size: of its coordinates, (B,), m.
        allowed: which surfaces count on which sub-interval, (S, NODES, B).
        nodes: ends of the sub-intervals where they are not equal, see :func:`nearest`.

    Returns:
        found, s in [0, 1], index of the surface, the gap there, each (B,), and where there are
        ``nodes`` the ends of the sub-interval of each surface in which it is, (2, S, B).
    """
    left = jax.tree.map(lambda leaf: leaf[..., :-1, :], near)
    right = jax.tree.map(lambda leaf: leaf[..., 1:, :], near)
    number = jnp.arange(NODES)[:, None]
    touches, depth, tiny = touch(jax.tree.map(lambda leaf: leaf[..., 0, :], near), radius, size)
    # What a ball errs by that moves along a surface it touches; it must leave it downwards.
    slack = jnp.where(touches, tiny / 25, 0.0)
    first = jnp.where(number == 0, tiny[:, None] / 30, 0.0)
    last = jnp.where(number == NODES - 1, tiny[:, None] / 2, 0.0)
    zero = (radius + depth - slack)[:, None]
    pace = duration / NODES
    if nodes is not None:
        width = jnp.diff(nodes, axis=1)
        pace = pace * width
    falls, cubic = crossing(left, right, pace, zero, first, last)
    falls &= allowed
    node = jnp.argmax(falls, axis=1)
    here = (number == node[:, None]) & falls

    cubic = jax.tree.map(lambda leaf: jnp.sum(jnp.where(here, leaf, 0), axis=1), cubic)
    at_once = touches & (node == 0) & (cubic.start_slope <= 0)
    begin, share = node.astype(duration.dtype), jnp.where(at_once, 0.0, cubic.root())
    if nodes is not None:
        begin, width = (jnp.sum(jnp.where(here, x, 0), axis=1) for x in (nodes[:, :-1], width))
        share, within = share * width, jnp.stack([begin, begin + width]) / NODES
    s = (begin + share) / NODES
    s = jnp.where(jnp.any(falls, axis=1), s, 2.0)
    index = jnp.argmin(s, axis=0)
    here = jnp.arange(s.shape[0], dtype=index.dtype)[:, None] == index
    depth = jnp.sum(jnp.where(here, depth, 0), axis=0)
    found = jnp.any(falls, axis=(0, 1)), jnp.min(s, axis=0), index, depth
    return found if nodes is None else (*found, within)


def pushed(rate: jax.Array) -> jax.Array:
    """Up to which of rising times a ball that flies freely goes ever faster into a surface, (B,).

    Args:
        rate: of the gap at those times, (n, B), m/s.
    """
    turns = jnp.concatenate([jnp.diff(rate, axis=0) >= 0, jnp.ones_like(rate[:1], bool)])
    return jnp.argmax(turns, axis=0).astype(jnp.int32)


def leaving(
    near: Proximity, own: jax.Array, held: jax.Array, last: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """When a resting ball leaves its surface on an arc.

    If the surface holds it, over the edge. If not, the ball flies freely from the start of the
    arc, and is pushed as long as it would go ever faster into the surface.

    Args:
        near: at the ends of the ``NODES`` sub-intervals, leaves (S, NODES + 1, B).
        own: which surface it rests on, (S, B).
        held: whether that holds it to the end, (B,).
        last: node up to which it is pushed, (B,).

    Returns:
        whether it leaves, and s in [0, 1] if so, each (B,).
    """
    number, own = jnp.arange(NODES + 1, dtype=jnp.int32)[:, None], own[:, None]
    rate = jnp.sum(jnp.where(own, near.gap_rate, 0), axis=0)
    margin = jnp.sum(jnp.where(own, near.margin, 0), axis=0)

    def at(values, index):
        return jnp.sum(jnp.where(number == index, values, 0), axis=0)

    off = jnp.argmax(margin < 0, axis=0).astype(jnp.int32)
    before, after = at(margin, off - 1), at(margin, off)
    over = (after < 0) & held
    beyond = float(jnp.finfo(rate.dtype).eps) ** (1 / 3)  # so that it does not rest there again
    share = jnp.minimum(before / jnp.where(over, before - after, 1.0) + beyond, 1.0)

    middle = jnp.clip(last, 1, NODES - 1)  # of the parabola through three rates
    low, mid, high = (at(rate, middle + i) for i in (-1, 0, 1))
    curvature, fall = low - 2 * mid + high, (low - high) / 2
    within = middle.astype(rate.dtype)
    turn = jnp.minimum(fall / jnp.where(curvature > 0, curvature, 1.0), NODES - within)
    deepest = mid - turn * (fall - turn / 2 * curvature)
    turn += within
    lifts = ~held & (curvature > 0) & (turn > 0) & (deepest < -GRAZING_SPEED)

    s = jnp.where(over, off.astype(rate.dtype) - 1 + share, turn) / NODES
    return over | lifts, s


def newton(arc: Arc, s: jax.Array, gap: jax.Array, rate: jax.Array) -> jax.Array:
    """One step of Newton's method on gap(s) = 0; none where the ball only grazes."""
    steep = (jnp.abs(rate) > GRAZING_SPEED) & (arc.duration > 0)
    return s - jnp.where(steep, gap / jnp.where(steep, arc.duration * rate, 1.0), 0.0)


def bracketed(
    near_at: Callable, zero: jax.Array, arc: Arc, s: jax.Array, low: jax.Array, high: jax.Array
) -> jax.Array:
    """The same in a world with plates.

    There a cubic is a guess, but the gap of a plate falls through zero between low and high.
    """

    def step(bracket):
        s, low, high = bracket
        near = near_at(s)
        gap, rate = near.gap(zero), near.gap_rate
        low, high = jnp.where(gap > 0, s, low), jnp.where(gap > 0, high, s)
        better = newton(arc, s, gap, rate)
        inside = (better >= low) & (better <= high) | (jnp.abs(rate) <= GRAZING_SPEED)
        halved = jnp.where(inside, better, 0.5 * (low + high))
        return jnp.where(near.edge_radius >= 0, halved, jnp.clip(better, 0.0, 1.0)), low, high

    return repeat(8, step, (s, low, high))[0]


def refined(near_at: Callable, zero: jax.Array, arc: Arc, s: jax.Array) -> jax.Array:
    """The time near ``s`` at which the distance itself is ``zero``: two Newton steps."""

    def step(s):
        near = near_at(s)
        return jnp.clip(newton(arc, s, near.gap(zero), near.gap_rate), 0.0, 1.0)

    return repeat(2, step, s)
