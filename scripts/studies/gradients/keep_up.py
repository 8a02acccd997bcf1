"""Ball and paddle: keep a ball up on a heaving, tilted paddle; the loss is where it ends."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from diffsim.motion import rotation
from diffsim.physics import BallState, Compliant, Impulse, Pose, Smoothed, World, paddle, simulate

GRAVITY, RESTITUTION, FRICTION = 9.81, 0.8, 0.4
HEAVE, RATE, TILT = 0.02, 10 * math.pi, 0.25  # m, rad/s, rad: what a weight of 1 adds
WEIGHTS = (0.0, 0.3, 0.1)  # heave, and tilts about y and x: where the gradients are taken
STEP = 0.05  # s
CUTS = 12  # Runge–Kutta steps in half a period of a contact spring


@struct.dataclass
class Heaving:
    """A paddle that heaves, z = A sin ωt, and keeps its tilt.

    Attributes:
        amplitude: A, m, ().
        tilt: rotation vector, rad, (3,).
    """

    amplitude: jax.Array
    tilt: jax.Array

    def __call__(self, time: jax.Array) -> Pose:
        """The pose at one time, s."""
        zero = jnp.zeros_like(time)
        angle = RATE * time
        return Pose(
            jnp.stack([zero, zero, self.amplitude * jnp.sin(angle)]),
            rotation.turning(self.tilt, jnp.zeros(3), jnp.eye(3))[0],
            jnp.stack([zero, zero, self.amplitude * RATE * jnp.cos(angle)]),
            jnp.zeros_like(self.tilt),
        )


@struct.dataclass
class KeepUp:
    """A drop that meets the paddle ``bounces`` times in ``horizon`` seconds.

    With the paddle at rest the ball is at its highest after the last bounce when time is up. The
    heave (5 Hz, 2 cm) makes the bounces chaotic: an error in a time of impact grows by up to
    2(1 + e)Aω²/g = 7 at each of them. The tilt lets the ball drift, and where it has drifted as far
    as the paddle's radius it misses it and the loss jumps.

    Attributes:
        height: of the drop, m, ().
        contact: Impulse(), Compliant(k) or Smoothed(κ).
        radius: of the paddle, m, ().
        horizon: s.

    >>> task = KeepUp.create(horizon=0.8, bounces=2)
    >>> round(float(task.height), 3)
    0.299
    """

    height: jax.Array | float
    contact: Any
    radius: jax.Array | float
    horizon: float = struct.field(pytree_node=False)

    @classmethod
    def create(
        cls, horizon: float = 0.8, bounces: int = 2, contact: Any = None, radius: float = 0.25
    ) -> "KeepUp":
        """With the height that gives so many bounces: t₀ (1 + 2 Σ_{k<n} e^k + e^n) = horizon.

        Raises:
            ValueError: a horizon or radius that is not positive, or no bounce.
        """
        for name, value in (("horizon", horizon), ("radius", radius)):
            if not value > 0:
                raise ValueError(f"{name}: expected > 0, got {value}")
        if bounces < 1:
            raise ValueError(f"bounces: expected at least 1, got {bounces}")
        e = RESTITUTION
        arcs = 1 + 2 * sum(e**k for k in range(1, bounces)) + e**bounces
        height = GRAVITY * (horizon / arcs) ** 2 / 2
        return cls(height, Impulse() if contact is None else contact, radius, horizon)

    def __call__(self, weights: jax.Array) -> jax.Array:
        """Squared distance, m², of the ball from half the height of its drop when time is up."""
        height = jnp.asarray(self.height, weights.dtype)
        world = World.create([paddle(self.radius, RESTITUTION, FRICTION)])
        zero = jnp.zeros_like(height)
        ball = BallState.create(jnp.stack([zero, zero, world.ball.radius + height]))
        heave, pitch, roll = weights
        path = Heaving(HEAVE * (1 + heave), TILT * jnp.stack([roll, pitch, zero]))
        rollout = simulate(
            world, ball, path, duration=self.horizon, step=STEP, contact=self.contact,
            max_impacts=24,
        )  # fmt: skip
        goal = jnp.stack([zero, zero, 0.5 * height])
        return jnp.sum((rollout.final.position - goal) ** 2)


def contact(name: str) -> Impulse | Compliant | Smoothed:
    """The model of "impulse", "compliant:1e3" (stiffness, N/m) or "smoothed:1e3" (sharpness, 1/m).

    Raises:
        ValueError: another name, or a number that is missing or not positive.

    >>> contact("compliant:1e3").stiffness
    1000.0
    """
    kind, _, number = name.partition(":")
    if name == "impulse":
        return Impulse()
    try:
        value = float(number)
    except ValueError:
        value = 0.0
    if kind not in ("compliant", "smoothed") or not 0 < value < math.inf:
        raise ValueError(
            f"contact: expected impulse, compliant:STIFFNESS or smoothed:SHARPNESS, got {name!r}"
        )
    stiffness = value if kind == "compliant" else 1e3
    half_period = math.pi * math.sqrt(2.7e-3 / stiffness)
    substeps = math.ceil(STEP * CUTS / half_period)
    if kind == "compliant":
        return Compliant(value, substeps=substeps)
    return Smoothed(value, stiffness, substeps=substeps)
