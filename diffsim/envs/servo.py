"""How a paddle follows its target in a step-wise task: a critically damped servo on each axis."""

import jax
import jax.numpy as jnp
from flax import struct

from diffsim.physics import Pose


@struct.dataclass
class Servo:
    """ẍ = ω² (target − x) − 2 ω ẋ, solved in closed form; called, it is a path for the simulator.

    x(t) = target + (e + d t) e^{−ωt},  e = x₀ − target,  d = ẋ₀ + ω e.  The paddle is turned first
    about its u, then about its turned v: two rotations in closed form, so a pose costs little.

    Attributes:
        place: at t = 0: centre (m), and tilts about u and v (rad), (5,).
        rate: its time derivative, (5,).
        target: of the place, (5,).
        omega: ω, 1/s.
        orientation: world-from-surface rotation at tilt zero, (3, 3).

    >>> step = Servo(jnp.zeros(5), jnp.zeros(5), jnp.ones(5), jnp.asarray(20.0), jnp.eye(3))
    >>> step.at(jnp.asarray(0.5))[0][:2].round(2).tolist()
    [1.0, 1.0]
    """

    place: jax.Array
    rate: jax.Array
    target: jax.Array
    omega: jax.Array
    orientation: jax.Array

    def at(self, time: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Place and rate at a time (s), (5,) each."""
        error = self.place - self.target
        drift = self.rate + self.omega * error
        offset, decay = error + drift * time, jnp.exp(-self.omega * time)
        return self.target + offset * decay, (drift - self.omega * offset) * decay

    def __call__(self, time: jax.Array) -> Pose:
        """The pose at a time, s."""
        place, rate = self.at(time)
        (sin_u, sin_v), (cos_u, cos_v) = jnp.sin(place[3:]), jnp.cos(place[3:])
        u, v, n = (self.orientation[:, i] for i in range(3))
        v, n = cos_u * v + sin_u * n, cos_u * n - sin_u * v
        turned = jnp.stack([cos_v * u - sin_v * n, v, cos_v * n + sin_v * u], axis=-1)
        return Pose(place[:3], turned, rate[:3], rate[3] * u + rate[4] * v)
