"""Arcs with dense output, and the first time on an arc at which the ball meets a surface."""

import jax
import jax.numpy as jnp
from flax import struct
from jax.lax import stop_gradient

from diffsim.physics.state import BallState
from diffsim.physics.surfaces import Path, Proximity, Surface
from diffsim.physics.vector import norm
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
        position: at s = 0, (3,), m.
        velocity: coefficients, (5, 3), m/s.
        spin: coefficients, (4, 3), rad/s.
    """

    start: jax.Array
    duration: jax.Array
    position: jax.Array
    velocity: jax.Array
    spin: jax.Array

    def __call__(self, s: jax.Array) -> BallState:
        """The state at s in [0, 1]."""
        velocity, spin, path = self.velocity[-1], self.spin[-1], self.velocity[-1] / 5
        for k in (3, 2, 1, 0):
            velocity = velocity * s + self.velocity[k]
            path = path * s + self.velocity[k] / (k + 1)
        for k in (2, 1, 0):
            spin = spin * s + self.spin[k]
        return BallState(self.position + self.duration * s * path, velocity, spin)


def fly(world: World, state: BallState, start: jax.Array, duration: jax.Array) -> Arc:
    """Free flight for ``duration``: one Dormand–Prince step with quintic dense output.

    The step is of order 5 (Dormand & Prince, J. Comput. Appl. Math. 6 (1980) 19, table 2). The
    position polynomial matches x, v and dv/dt at both ends (Hairer, Nørsett & Wanner, *Solving
    Ordinary Differential Equations I*, II.6): its errors are O(h⁶) in x and O(h⁵) in v.
    """
    h, v0, w0 = duration, state.velocity, state.spin
    stages: list[tuple[jax.Array, jax.Array]] = []

    def advance(weights, of: int):
        return h * sum(c * stage[of] for c, stage in zip(weights, stages, strict=True) if c)

    for row in _DORMAND_PRINCE:
        v1 = v0 + advance(row, 0) if row else v0
        w1 = w0 + advance(row, 1) if row else w0
        stages.append((world.acceleration(v1, w1), world.spin_rate(w1)))
    (a0, b0), (a1, b1) = stages[0], stages[-1]
    mean = advance(_POSITION_WEIGHTS, 0)  # of the velocity over the step, less v0
    dv, dw = v1 - v0, w1 - w0
    velocity = [
        v0,
        h * a0,
        30 * mean - 12 * dv - h * (4.5 * a0 - 1.5 * a1),
        -60 * mean + 28 * dv + h * (6 * a0 - 4 * a1),
        30 * mean - 15 * dv - 2.5 * h * (a0 - a1),
    ]
    spin = [w0, h * b0, 3 * dw - h * (2 * b0 + b1), -2 * dw + h * (b0 + b1)]
    return Arc(start, h, state.position, jnp.stack(velocity), jnp.stack(spin))


def slide(arc: Arc, velocity: jax.Array, spin: jax.Array) -> Arc:
    """The arc that goes evenly from the start of ``arc`` to the given velocity and spin."""
    v, w = arc.velocity[0], arc.spin[0]
    return arc.replace(
        velocity=jnp.zeros_like(arc.velocity).at[0].set(v).at[1].set(velocity - v),
        spin=jnp.zeros_like(arc.spin).at[0].set(w).at[1].set(spin - w),
    )


def gap(surface: Surface, radius: jax.Array, near: Proximity) -> tuple[jax.Array, jax.Array]:
    """Distance of the ball's skin from the plane, on the ball's side, and its rate, m and m/s."""
    side = jnp.where(surface.two_sided & (near.distance < 0), -1, 1).astype(near.distance.dtype)
    return side * near.distance - radius, side * near.rate


def touching(dtype) -> float:
    """A gap below this many metres is rounding."""
    return 100 * float(jnp.finfo(dtype).eps)


def _cubic_root(a, b, da, db, from_maximum):
    """First fall of a cubic through zero: u in [0, 1], and whether there is one.

    The cubic has end values a, b and end slopes da, db. Where ``from_maximum`` it starts at zero
    and the search begins at its maximum.
    """
    c2, c3 = 3 * (b - a) - 2 * da - db, 2 * (a - b) + da + db
    discriminant = c2 * c2 - 3 * c3 * da
    root = jnp.sqrt(jnp.maximum(discriminant, 0))

    def extremum(denominator):
        u = -da / jnp.where(denominator == 0, 1, denominator)
        return u, (discriminant > 0) & (denominator != 0) & (u > 0) & (u < 1)

    def value(u):
        return a + u * (da + u * (c2 + u * c3))

    lowest, has_lowest = extremum(c2 + root)
    highest, has_highest = extremum(c2 - root)
    dips = has_lowest & (value(lowest) < 0)
    high = jnp.where(dips, lowest, 1.0)
    low = jnp.where(from_maximum & has_highest & (highest < high), highest, 0.0)
    u = low + (high - low) * jnp.where(b < 0, a / jnp.where(b < 0, a - b, 1), 0.5)
    u = jnp.clip(u, low, high)
    for _ in range(6):  # Newton, kept inside a bracket that shrinks
        f, slope = value(u), da + u * (2 * c2 + 3 * u * c3)
        low, high = jnp.where(f > 0, u, low), jnp.where(f > 0, high, u)
        step = u - f / jnp.where(slope < 0, slope, -1)
        newton = (slope < 0) & (step >= low) & (step <= high)
        u = jnp.where(newton, step, 0.5 * (low + high))
    return u, dips | (b <= 0)


def first_contact(
    world: World, surfaces: Surface, paths: tuple[Path, ...], arc: Arc, ignored: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The earliest fall of a gap through zero on the arc.

    The gap to each surface is known with its rate on ``NODES`` sub-intervals; the cubic through
    them gives the first crossing, also where the ball dips in and out within one sub-interval,
    and one Newton step on the true gap refines it. Carries no derivative: see :func:`refine`.

    Args:
        surfaces: stacked, leaves (S, …).
        ignored: index of a surface to leave out, -1 for none.

    Returns:
        found (), s in [0, 1] (), index of the surface ().
    """
    world, arc, paths = stop_gradient((world, arc, paths))
    surfaces = stop_gradient(surfaces)
    dtype, radius = arc.position.dtype, world.ball.radius
    tolerance = touching(dtype)

    def near_at(s, index=None):
        state, time = arc(s), arc.start + s * arc.duration
        where = (paths, time, state.position, state.velocity)
        near = world.proximities(*where) if index is None else world.proximity(index, *where)
        return stop_gradient(near)

    near = jax.vmap(near_at)(jnp.linspace(0, 1, NODES + 1, dtype=dtype))  # leaves (NODES + 1, S, …)
    from_, to = (
        jax.tree.map(lambda leaf: leaf[:-1], near),
        jax.tree.map(lambda leaf: leaf[1:], near),
    )
    side = jnp.where(surfaces.two_sided & (from_.distance < 0), -1, 1).astype(dtype)
    a, b = side * from_.distance - radius, side * to.distance - radius
    slope = side * arc.duration / NODES
    nodes = jnp.arange(NODES, dtype=dtype)[:, None]
    at_start = nodes == 0
    touches = at_start & (jnp.abs(a) <= tolerance) & (from_.margin >= 0)
    da = slope * from_.rate
    u, falls = _cubic_root(
        jnp.where(touches, 0.0, a), b, da, slope * to.rate, from_maximum=touches & (da > 0)
    )
    reach = jnp.maximum(from_.margin, to.margin) + norm(to.local - from_.local)
    counts = jnp.arange(surfaces.friction.shape[0]) != ignored
    starts = jnp.where(at_start, touches | (a > tolerance), a > 0)
    falls &= starts & (reach >= 0) & counts
    s = jnp.where(falls, (nodes + u) / NODES, 2.0).min(axis=0)
    found = s <= 1

    def refined(i, s):
        surface = jax.tree.map(lambda leaf: leaf[i], surfaces)
        return _newton(arc, s, *gap(surface, radius, near_at(s, i)))

    s = jnp.stack([refined(i, s[i]) for i in range(len(world.surfaces))])
    s = jnp.where(found, jnp.clip(s, 0.0, 1.0), 2.0)
    return jnp.any(found), jnp.minimum(jnp.min(s), 1.0), jnp.argmin(s)


def _newton(arc: Arc, s: jax.Array, gap_: jax.Array, rate: jax.Array) -> jax.Array:
    change = arc.duration * rate
    steep = (jnp.abs(rate) > GRAZING_SPEED) & (arc.duration > 0)
    return s - jnp.where(steep, gap_ / jnp.where(steep, change, 1.0), 0.0)


def refine(world, surface: Surface, near_at, arc: Arc, s: jax.Array) -> jax.Array:
    """Two Newton steps on gap(s) = 0 from a root without derivative.

    Each step leaves the root where it is and doubles the order to which s depends rightly on
    everything else, so first and second derivatives are those of the implicit function theorem:
    ds/dθ = −(∂gap/∂θ)/(∂gap/∂s). A grazing impact gets derivative 0 instead of infinity.
    """
    for _ in range(2):
        s = _newton(arc, s, *gap(surface, world.ball.radius, near_at(s)))
    return s
