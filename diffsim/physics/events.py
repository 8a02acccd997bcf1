"""Arcs with dense output, and the first time on an arc at which the ball meets a surface."""

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial

import jax
import jax.numpy as jnp
from flax import struct
from jax.lax import stop_gradient

from diffsim.physics.state import Body
from diffsim.physics.surfaces import Path, gap, proximity
from diffsim.physics.vector import Vector
from diffsim.physics.world import World

NODES = 8  # sub-intervals of an arc on which the gap is looked at
GRAZING_SPEED = 1e-6  # m/s; slower approaches do not move the time of impact's derivative

# Stage weights of the Dormand–Prince pair; the last row is also the step.
_DORMAND_PRINCE: tuple[tuple[float, ...], ...] = (
    (),
    (1 / 5,),
    (3 / 40, 9 / 40),
    (44 / 45, -56 / 15, 32 / 9),
    (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
    (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
    (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
)
_STAGE_TIMES = (0.0, 1 / 5, 3 / 10, 4 / 5, 8 / 9, 1.0, 1.0)
# x₁ = x₀ + h v₀ + h² Σ_j (Σ_i b_i a_ij) k_j
_POSITION_WEIGHTS = tuple(
    sum(b * row[j] for b, row in zip(_DORMAND_PRINCE[-1], _DORMAND_PRINCE[:-1]) if j < len(row))
    for j in range(7)
)


@struct.dataclass
class Arc:
    """One smooth stretch of motion as polynomials in s = (t − start)/duration.

    v(s) = Σ_k velocity[k] sᵏ, w(s) = Σ_k spin[k] sᵏ, x(s) = position + duration ∫ v ds.

    Attributes:
        start: s, ().
        duration: s, ().
        position: at s = 0, m.
        velocity: five coefficients, m/s.
        spin: four coefficients, rad/s.
    """

    start: jax.Array
    duration: jax.Array
    position: Vector
    velocity: tuple[Vector, ...]
    spin: tuple[Vector, ...]

    def __call__(self, s: jax.Array) -> Body:
        """The ball at s in [0, 1]."""
        path = _horner([c * (1 / (k + 1)) for k, c in enumerate(self.velocity)], s)
        position = self.position + path * (self.duration * s)
        return Body(position, _horner(self.velocity, s), _horner(self.spin, s))


def _horner(coefficients: Sequence[Vector], s: jax.Array) -> Vector:
    total = coefficients[-1]
    for coefficient in coefficients[-2::-1]:
        total = total * s + coefficient
    return total


def fly(world: World, state: Body, start: jax.Array, duration: jax.Array) -> Arc:
    """Free flight for ``duration``: one Dormand–Prince step with quintic dense output.

    The spin decays as w₀ exp(−t/τ). The step is of order 5 (Dormand & Prince, J. Comput. Appl.
    Math. 6 (1980) 19, table 2). The position polynomial matches x, v and dv/dt at both ends
    (Hairer, Nørsett & Wanner, *Solving Ordinary Differential Equations I*, II.6): its errors are
    O(h⁶) in x and O(h⁵) in v.
    """
    h, v0, w0 = duration, state.velocity, state.spin
    decay = 1 / world.ball.spin_decay_time
    pushes: list[Vector] = []

    def advance(weights) -> Vector:
        terms = [push * c for c, push in zip(weights, pushes, strict=True) if c]
        return sum(terms[1:], start=terms[0]) * h

    v1 = v0
    for time, row in zip(_STAGE_TIMES, _DORMAND_PRINCE, strict=True):
        v1 = v0 + advance(row) if row else v0
        pushes.append(world.acceleration(v1, w0 * jnp.exp(-decay * h * time)))
    w1 = w0 * jnp.exp(-decay * h)
    mean = advance(_POSITION_WEIGHTS)  # of the velocity over the step, less v0
    a0, a1, b0, b1 = pushes[0] * h, pushes[-1] * h, w0 * (-decay * h), w1 * (-decay * h)
    dv, dw = v1 - v0, w1 - w0
    velocity = (
        v0,
        a0,
        mean * 30 - dv * 12 - a0 * 4.5 + a1 * 1.5,
        mean * -60 + dv * 28 + a0 * 6 - a1 * 4,
        mean * 30 - dv * 15 - a0 * 2.5 + a1 * 2.5,
    )
    spin = (w0, b0, dw * 3 - b0 * 2 - b1, dw * -2 + b0 + b1)
    return Arc(start, h, state.position, velocity, spin)


def stable(world: World, state: Body, duration: jax.Array) -> jax.Array:
    """Whether an explicit step of this duration follows the air instead of overshooting, ().

    The push of the air may change by 1.25 of itself over an Euler step h: for drag that is
    |a| h ≤ 1.5 |v|, and beyond |a| h = 1.65 |v| the Dormand–Prince step, stable down to −3.3/h,
    makes a ball faster that the air should slow down. A wind makes no difference.
    """
    world, state, duration = stop_gradient((world, state, duration))

    def air(
        velocity: Vector,
    ) -> Vector:  # without gravity, whose rounding would drown a slow ball's
        return world.aerodynamics(world.ball, world.air, velocity, state.spin)

    push = air(state.velocity)
    change, size = air(state.velocity + push * duration) - push, push.dot(push)
    return (change.dot(change) < 1.25**2 * size) | (size == 0)  # infinity is not below itself


def slide(arc: Arc, velocity: Vector, spin: Vector) -> Arc:
    """The arc that goes evenly from the start of ``arc`` to the given velocity and spin."""
    v, w = arc.velocity[0], arc.spin[0]
    zero = v * 0
    return dataclasses.replace(
        arc, velocity=(v, velocity - v, zero, zero, zero), spin=(w, spin - w, zero, zero)
    )


def rounding(dtype) -> float:
    """A gap below this many metres is rounding."""
    return 100 * float(jnp.finfo(dtype).eps)


def _extrema(a, b, da, db):
    """The cubic with end values a, b and end slopes da, db: its value, slope and extrema.

    Returns:
        two functions of u, and (u, whether it lies in (0, 1)) for the minimum and the maximum.
    """
    c2, c3 = 3 * (b - a) - 2 * da - db, 2 * (a - b) + da + db
    discriminant = c2 * c2 - 3 * c3 * da
    root = jnp.sqrt(jnp.maximum(discriminant, 0))

    def extremum(denominator):
        u = -da / jnp.where(denominator == 0, 1, denominator)
        return u, (discriminant > 0) & (denominator != 0) & (u > 0) & (u < 1)

    def value(u):
        return a + u * (da + u * (c2 + u * c3))

    def slope(u):
        return da + u * (2 * c2 + 3 * u * c3)

    return value, slope, extremum(c2 + root), extremum(c2 - root)


def _falls(a, b, da, db):
    """Whether the cubic, not negative at 0, is below zero at 1 or dips below it on the way."""
    value, _, (lowest, inside), _ = _extrema(a, b, da, db)
    return (b <= 0) | (inside & (value(lowest) < 0))


def _cubic_root(a, b, da, db, from_maximum):
    """First fall of the cubic through zero, u in [0, 1]; if asked, past its maximum."""
    value, slope, (lowest, dips), (highest, rises) = _extrema(a, b, da, db)
    high = jnp.where(dips & (value(lowest) < 0), lowest, 1.0)
    low = jnp.where(from_maximum & rises & (highest < high), highest, 0.0)
    secant = jnp.where(b < 0, a / jnp.where(b < 0, a - b, 1), 0.5)
    u = low + (high - low) * jnp.clip(secant, 0, 1)

    def improve(_, bracket):
        u, low, high = bracket
        f, rate = value(u), slope(u)
        low, high = jnp.where(f > 0, u, low), jnp.where(f > 0, high, u)
        step = u - f / jnp.where(rate < 0, rate, -1)
        newton = (rate < 0) & (step >= low) & (step <= high)
        return jnp.where(newton, step, 0.5 * (low + high)), low, high

    return jax.lax.fori_loop(0, 6, improve, (u, low, high))[0]


def first_contact(
    world: World, paths: tuple[Path, ...], arc: Arc, ignored: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The earliest fall of a gap through zero on the arc.

    The gap to each surface is known with its rate on ``NODES`` sub-intervals; the cubic through
    them gives the first crossing, also where the ball dips in and out within one sub-interval,
    and one Newton step on the true gap refines it. Carries no derivative: see :func:`refine`.

    Args:
        ignored: index of a surface to leave out, -1 for none.

    Returns:
        found (), s in [0, 1] (), index of the surface ().
    """
    world, arc, paths = stop_gradient((world, arc, paths))
    dtype, radius = arc.duration.dtype, world.ball.radius
    surfaces = world.plain_surfaces()

    def near_at(index, s):
        state, pose = arc(s), world.pose(index, paths, arc.start + s * arc.duration)
        near = proximity(surfaces[index], pose, radius, state.position, state.velocity)
        return stop_gradient(near)

    # Leaves (S, NODES + 1), then two ends of each sub-interval (S, NODES).
    nodes = jnp.linspace(0, 1, NODES + 1, dtype=dtype)
    near = [jax.vmap(partial(near_at, index))(nodes) for index in range(len(surfaces))]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *near)
    left = jax.tree.map(lambda leaf: leaf[:, :-1], stacked)
    right = jax.tree.map(lambda leaf: leaf[:, 1:], stacked)
    a, b = left.side * left.distance - radius, left.side * right.distance - radius
    pace = left.side * (arc.duration / NODES)
    da, db = pace * left.rate, pace * right.rate
    first_node = jnp.arange(NODES) == 0
    touches = first_node & (jnp.abs(a) <= rounding(dtype)) & (left.margin >= 0)
    a = jnp.where(touches, 0.0, a)
    starts = touches | (a > jnp.where(first_node, rounding(dtype), 0.0))
    span = jnp.abs(left.local[0] - right.local[0]) + jnp.abs(left.local[1] - right.local[1])
    # A ball that moves along a surface it touches must leave it downwards, not just not rise.
    lands = ~touches | (da < 0) | (b < -4 * float(jnp.finfo(dtype).eps))
    falls = (
        starts & lands & _falls(a, b, da, db) & (jnp.maximum(left.margin, right.margin) + span >= 0)
    )
    falls &= jnp.arange(len(surfaces))[:, None] != ignored

    def at_first_fall(values):
        first = falls & (jnp.cumsum(falls, axis=1) == 1)
        return jnp.sum(jnp.where(first, values, 0.0), axis=1)

    a, b, da, db = (at_first_fall(values) for values in (a, b, da, db))
    u = _cubic_root(a, b, da, db, from_maximum=at_first_fall(touches.astype(dtype)) > 0)
    s = at_first_fall(nodes[:-1]) + u / NODES
    refined = [_newton(arc, s[i], *gap(near_at(i, s[i]), radius)) for i in range(len(surfaces))]
    s = jnp.where(jnp.any(falls, axis=1), jnp.clip(jnp.stack(refined), 0.0, 1.0), 2.0)
    first = jnp.argmin(s)
    return jnp.any(falls), jnp.minimum(jnp.min(s), 1.0), first


def _newton(arc: Arc, s: jax.Array, gap_: jax.Array, rate: jax.Array) -> jax.Array:
    steep = (jnp.abs(rate) > GRAZING_SPEED) & (arc.duration > 0)
    return s - jnp.where(steep, gap_ / jnp.where(steep, arc.duration * rate, 1.0), 0.0)


def refine(
    near_at: Callable, radius: jax.Array, arc: Arc, s: jax.Array, found: jax.Array
) -> jax.Array:
    """Two Newton steps on gap(s) = 0 from a root without derivative.

    Each step leaves the root where it is and doubles the order to which s depends rightly on
    everything else, so first and second derivatives are those of the implicit function theorem:
    ds/dθ = −(∂gap/∂θ)/(∂gap/∂s). A grazing impact gets derivative 0 instead of infinity.

    Where no root was ``found``, s stays as it is: a Newton step from there can lead to times at
    which a path overflows, and then gradients turn NaN though the step is not used.
    """
    for _ in range(2):
        skin, rate = gap(near_at(s), radius)
        s = _newton(arc, s, skin, jnp.where(found, rate, 0.0))
    return s
