"""One smooth stretch of motion: a Runge–Kutta step with dense output."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import struct
from jax.lax import stop_gradient

from diffsim.physics.device import call
from diffsim.physics.state import Body
from diffsim.physics.vector import Vector
from diffsim.physics.world import World

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
# The step less the embedded one of order 4.
_ERROR = (71 / 57600, 0.0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40)
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
        duration: s.
        position: at s = 0, m.
        velocity: five coefficients, m/s.
        spin: four coefficients, rad/s.
        error: estimate of what the velocity errs by at the end, m/s.
    """

    duration: jax.Array
    position: Vector
    velocity: tuple[Vector, ...]
    spin: tuple[Vector, ...]
    error: jax.Array

    @call
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


@call
def acceleration(world: World, velocity: Vector, spin: Vector) -> Vector:
    """Of the free ball, see :meth:`~diffsim.physics.world.World.acceleration`."""
    return world.acceleration(velocity, spin)


@call
def fly(world: World, state: Body, duration: jax.Array) -> Arc:
    """Free flight for ``duration``: one Dormand–Prince step with quintic dense output.

    The spin decays as w₀ exp(−t/τ). The step is of order 5 (Dormand & Prince, J. Comput. Appl.
    Math. 6 (1980) 19, table 2). The position polynomial matches x, v and dv/dt at both ends
    (Hairer, Nørsett & Wanner, *Solving Ordinary Differential Equations I*, II.6): its errors are
    O(h⁶) in x and O(h⁵) in v; its error is estimated by the embedded step of order 4.
    """
    h, v0, w0 = duration, state.velocity, state.spin
    decay = 1 / world.ball.spin_decay_time
    stages: list[Vector] = []

    def advance(weights) -> Vector:
        terms = [stage * c for c, stage in zip(weights, stages, strict=True) if c]
        return sum(terms[1:], start=terms[0])

    v1, w1 = v0, w0
    for before, time, row in zip((0.0, *_STAGE_TIMES), _STAGE_TIMES, _DORMAND_PRINCE):
        v1 = v0 + advance(row) if row else v0
        w1 = w0 * jnp.exp(-decay * h * time) if time > before else w1
        stages.append(acceleration(world, v1, w1) * h)
    mean = advance(_POSITION_WEIGHTS)  # of the velocity over the step, less v0
    a0, a1, b0, b1 = stages[0], stages[-1], w0 * (-decay * h), w1 * (-decay * h)
    dv, dw = v1 - v0, w1 - w0
    turn, bend, twist = a0 - a1, a0 + a1 - dv * 2, b0 + b1 - dw * 2
    last = (mean - dv * 0.5) * 30 - turn * 2.5
    velocity = (v0, a0, last - bend * 1.5 - turn * 0.5, bend - last * 2, last)
    spin = (w0, b0, dw - b0 - twist, twist)
    error = stop_gradient(advance(_ERROR))
    return Arc(h, state.position, velocity, spin, error.norm())


def stable(world: World, state: Body, duration: jax.Array) -> jax.Array:
    """Whether an explicit step of this duration follows the air instead of overshooting, ().

    The acceleration by the air may change by 1.25 of itself over an Euler step h: for drag that is
    |a| h ≤ 1.5 |v|, and beyond |a| h = 1.65 |v| the Dormand–Prince step, stable down to −3.3/h,
    makes a ball faster that the air should slow down. A wind makes no difference.
    """
    world, state, duration = stop_gradient((world, state, duration))

    def air(
        velocity: Vector,
    ) -> Vector:  # without gravity, whose rounding would drown a slow ball's
        return world.aerodynamics(world.ball, world.air, velocity, state.spin)

    start = air(state.velocity)
    change, size = air(state.velocity + start * duration) - start, start.dot(start)
    return (change.dot(change) < 1.25**2 * size) | (size == 0)  # infinity is not below itself


def coarse(arc: Arc) -> jax.Array:
    """Whether the step was too long for the air: the arc errs by some 1e-6 of itself or more.

    The estimate is of order 5, as measured 2 to 3 times the error of the arc, which is of order 6.
    How much the velocity changes counts as well: a ball that rises and falls is slow in between,
    where |v| v is not smooth. There the estimate tells less: straight up and down, an arc of 0.05 s
    errs by 2e-6 m/s.
    """
    start, end = arc.velocity[0], sum(arc.velocity[1:], start=arc.velocity[0])
    squares = start.array**2 + end.array**2 + arc.velocity[1].array ** 2
    return ~(arc.error <= 2e-6 * jnp.sqrt(jnp.sum(squares, axis=0)))
