"""The first time on an arc at which the ball meets a surface; it carries no derivative.

What is written here is for arrays of any shape, in the end (surfaces, …, balls).
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import struct

from diffsim.physics.arc import Arc
from diffsim.physics.surfaces import Proximity, gap

NODES = 8  # sub-intervals of an arc on which the gap is looked at
GRAZING_SPEED = 1e-6  # m/s; slower approaches do not move the time of impact's derivative


def rounding(dtype) -> float:
    """A gap below this many metres is rounding."""
    return 100 * float(jnp.finfo(dtype).eps)


@struct.dataclass
class Cubic:
    """The cubic on [0, 1] with given values and slopes at its ends."""

    start: jax.Array
    end: jax.Array
    start_slope: jax.Array
    end_slope: jax.Array

    def value(self, u):
        c2, c3 = self._top()
        return self.start + u * (self.start_slope + u * (c2 + u * c3))

    def slope(self, u):
        c2, c3 = self._top()
        return self.start_slope + u * (2 * c2 + 3 * u * c3)

    def _top(self):
        rise = self.end - self.start
        c2 = 3 * rise - 2 * self.start_slope - self.end_slope
        return c2, self.start_slope + self.end_slope - 2 * rise

    def extrema(self):
        """(u, whether it lies within (0, 1)) of the minimum and of the maximum."""
        c2, c3 = self._top()
        discriminant = c2 * c2 - 3 * c3 * self.start_slope
        root = jnp.sqrt(jnp.maximum(discriminant, 0))

        def extremum(denominator):
            u = -self.start_slope / jnp.where(denominator == 0, 1, denominator)
            return u, (discriminant > 0) & (denominator != 0) & (u > 0) & (u < 1)

        return extremum(c2 + root), extremum(c2 - root)

    def falls(self):
        """Whether it, not negative at 0, is below zero at 1 or dips below it on the way."""
        (lowest, inside), _ = self.extrema()
        return (self.end <= 0) | (inside & (self.value(lowest) < 0))

    def root(self, from_maximum):
        """Its first fall through zero, u in [0, 1]; if asked, past its maximum."""
        (lowest, dips), (highest, rises) = self.extrema()
        high = jnp.where(dips & (self.value(lowest) < 0), lowest, 1.0)
        low = jnp.where(from_maximum & rises & (highest < high), highest, 0.0)
        down = self.end < 0
        secant = jnp.where(down, self.start / jnp.where(down, self.start - self.end, 1), 0.5)

        def improve(_, bracket):
            u, low, high = bracket
            f, rate = self.value(u), self.slope(u)
            low, high = jnp.where(f > 0, u, low), jnp.where(f > 0, high, u)
            step = u - f / jnp.where(rate < 0, rate, -1)
            newton = (rate < 0) & (step >= low) & (step <= high)
            return jnp.where(newton, step, 0.5 * (low + high)), low, high

        start = low + (high - low) * jnp.clip(secant, 0, 1)
        return jax.lax.fori_loop(0, 6, improve, (start, low, high))[0]


def crossing(
    left: Proximity, right: Proximity, duration: jax.Array, radius: jax.Array, first: jax.Array
) -> tuple[jax.Array, jax.Array, Cubic]:
    """Whether the gap falls through zero on a sub-interval of an arc, and the cubic through it.

    Args:
        left, right: at its ends.
        duration: of the sub-interval, s.
        radius: of the ball, m.
        first: whether it begins the arc, where a gap of zero counts as a touch.

    Returns:
        falls, touches, the gap over the sub-interval.
    """
    tiny = rounding(left.distance.dtype)
    pace = left.side * duration
    start, end = left.side * left.distance - radius, left.side * right.distance - radius
    touches = first & (jnp.abs(start) <= tiny) & (left.margin >= 0)
    start = jnp.where(touches, 0.0, start)
    cubic = Cubic(start, end, pace * left.rate, pace * right.rate)
    begins = touches | (start > jnp.where(first, tiny, 0.0))
    # A ball that moves along a surface it touches must leave it downwards, not just not rise.
    lands = ~touches | (cubic.start_slope < 0) | (end < -tiny / 25)
    way = [jnp.abs(a - b) for a, b in zip(left.local, right.local, strict=True)]
    near = jnp.maximum(left.margin, right.margin) + way[0] + way[1] >= 0
    return begins & lands & cubic.falls() & near, touches, cubic


def first_contact(
    near: Proximity, duration: jax.Array, radius: jax.Array, allowed: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The earliest fall of a gap through zero on an arc, to the accuracy of cubics.

    Also where the ball dips in and out within one sub-interval.

    Args:
        near: at the ends of the ``NODES`` sub-intervals, leaves (S, NODES + 1, B).
        duration: of the arc, (B,), s.
        radius: of the ball, (B,), m.
        allowed: which surfaces count, (S, B).

    Returns:
        found, s in [0, 1], index of the surface, each (B,).
    """
    left = jax.tree.map(lambda leaf: leaf[:, :-1], near)
    right = jax.tree.map(lambda leaf: leaf[:, 1:], near)
    first = (jnp.arange(NODES) == 0)[:, None]
    falls, touches, cubic = crossing(left, right, duration / NODES, radius, first)
    falls &= allowed[:, None]
    node = jnp.argmax(falls, axis=1)
    here = (jnp.arange(NODES)[:, None] == node[:, None]) & falls

    cubic = jax.tree.map(lambda leaf: jnp.sum(jnp.where(here, leaf, 0), axis=1), cubic)
    root = cubic.root(jnp.any(here & touches, axis=1))
    s = (node.astype(duration.dtype) + root) / NODES
    s = jnp.where(jnp.any(falls, axis=1), s, 2.0)
    return jnp.any(falls, axis=(0, 1)), jnp.min(s, axis=0), jnp.argmin(s, axis=0)


def newton(arc: Arc, s: jax.Array, gap_: jax.Array, rate: jax.Array) -> jax.Array:
    """One step of Newton's method on gap(s) = 0; none where the ball only grazes."""
    steep = (jnp.abs(rate) > GRAZING_SPEED) & (arc.duration > 0)
    return s - jnp.where(steep, gap_ / jnp.where(steep, arc.duration * rate, 1.0), 0.0)


def refined(near_at: Callable, radius: jax.Array, arc: Arc, s: jax.Array) -> jax.Array:
    """The root near ``s`` of the gap itself: two Newton steps."""

    def step(_, s):
        return jnp.clip(newton(arc, s, *gap(near_at(s), radius)), 0.0, 1.0)

    return jax.lax.fori_loop(0, 2, step, s)
