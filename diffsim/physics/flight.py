"""Free flight: the acceleration of a ball by gravity, drag and the Magnus force."""

from typing import Any, Protocol

import jax
import jax.numpy as jnp
from flax import struct

from diffsim import _check
from diffsim.physics.state import Air, Ball
from diffsim.physics.vector import Vector


class Aerodynamics(Protocol):
    """A force law of the air: acceleration from velocity and spin."""

    def __call__(self, ball: Ball, air: Air, velocity: Vector, spin: Vector) -> Vector:
        """Acceleration by the air, m/s²."""
        ...


@struct.dataclass
class ConstantCoefficients:
    """Drag and Magnus force with constant coefficients C_D and C_M.

    a = −k_D |v| v + k_M (w × v), k_D = ½ ρ C_D A / m, k_M = ½ ρ C_M A r / m, A = π r².

    >>> from diffsim.physics import Air, Ball
    >>> v, w = Vector(10.0, 0.0, 0.0), Vector(0.0, 0.0, 100.0)
    >>> a = ConstantCoefficients.create()(Ball.create(), Air.create(), v, w)
    >>> round(float(a.x), 2), round(float(a.y), 2)
    (-11.21, 3.36)
    """

    @classmethod
    def create(cls) -> "ConstantCoefficients":
        """The law; its coefficients are the ball's."""
        return cls()

    def __call__(self, ball: Ball, air: Air, velocity: Vector, spin: Vector) -> Vector:
        half_density_area = 0.5 * air.density * jnp.pi * ball.radius**2 / ball.mass
        drag = half_density_area * ball.drag_coefficient
        magnus = half_density_area * ball.magnus_coefficient * ball.radius
        return (-drag * velocity.norm()) * velocity + magnus * spin.cross(velocity)


@struct.dataclass
class SpinRatioLift:
    """Lift that saturates with the spin ratio S = r|w|/|v|, with constant drag.

    a_L = ½ ρ A |v|² C_L / m along w × v, C_L = 1 / (a + b/S); the ball's C_M is not used.
    The defaults a = 2.022, b = 0.981 are the fit for tennis balls of Štěpánek, "The aerodynamics
    of tennis balls: the topspin lob", American Journal of Physics 56 (1988) 138.

    Attributes:
        saturation: a, the inverse of the largest C_L.
        slope: b, the inverse of dC_L/dS at S = 0.
    """

    saturation: jax.Array | float = 2.022
    slope: jax.Array | float = 0.981

    @classmethod
    def create(cls, saturation=2.022, slope=0.981) -> "SpinRatioLift":
        """With checked values.

        Raises:
            ValueError: a is negative, b is not positive, or one is not finite.
        """
        return cls(
            _check.in_range("saturation", saturation, 0.0),
            _check.in_range("slope", slope, 0.0, open_low=True),
        )

    def __call__(self, ball: Ball, air: Air, velocity: Vector, spin: Vector) -> Vector:
        half_density_area = 0.5 * air.density * jnp.pi * ball.radius**2 / ball.mass
        speed = velocity.norm()
        rim_speed = ball.radius * spin.norm()
        denominator = self.saturation * rim_speed + self.slope * speed
        moving = denominator > 0
        # |v|² C_L (w × v)/(|w||v|) = r |v| (w × v) / (a r|w| + b|v|): no division by |w| or |v|.
        lift = jnp.where(moving, speed * ball.radius / jnp.where(moving, denominator, 1.0), 0.0)
        drag = (ball.drag_coefficient * speed) * velocity
        return half_density_area * (lift * spin.cross(velocity) - drag)


AERODYNAMICS: dict[str, Any] = {
    "constant-coefficients": ConstantCoefficients,
    "spin-ratio-lift": SpinRatioLift,
}  # force laws by name; what is listed here inherits the contract tests of the table
