"""The contract of a trajectory generator: weights in, a paddle path with exact derivatives out."""

import abc
from typing import Any, Protocol, Self

import jax
import jax.numpy as jnp
from flax import struct

from diffsim import _check
from diffsim.motion import rotation
from diffsim.physics.state import Pose


class Curve(Protocol):
    """The coordinates over phase, a callable pytree.

    Six of them are the centre (m, world frame) and a rotation vector (rad, world frame) of a
    paddle; the joints of an arm (:mod:`diffsim.motion.arm`) are as many as it has.
    """

    def __call__(self, phase: jax.Array) -> jax.Array:
        """Coordinates (axes,) at a phase in [0, 1]; differentiate it for those in time."""


@struct.dataclass
class Path:
    """A paddle's motion: ``path(t)`` is its :class:`Pose`, exact derivatives included.

    The phase is t / duration, held at 0 before the start and at 1 after the end, so there the
    paddle stands still. Velocities are the derivatives of the coordinates, not approximations.

    Attributes:
        curve: coordinates over phase.
        duration: s.
        orientation: world-from-surface rotation at rotation vector zero, (3, 3).
    """

    curve: Curve
    duration: jax.Array
    orientation: jax.Array

    @property
    def breaks(self) -> jax.Array:
        """Times at which the motion is not smooth, s: ends of the curve's pieces, and its end."""
        return self.duration * jnp.append(getattr(self.curve, "breaks", jnp.zeros(0)), 1.0).astype(
            self.duration.dtype
        )

    def coordinates(self, time: jax.Array | float) -> jax.Array:
        """Centre (m) and rotation vector (rad) at one time (s), (6,); or joints (axes,)."""
        phase = instant(time, self.duration.dtype) / self.duration
        # Selected, not clipped: at the very ends the derivative is the motion's own, not half.
        return self.curve(jnp.where(phase < 0, 0.0, jnp.where(phase > 1, 1.0, phase)))

    def __call__(self, time: jax.Array | float) -> Pose:
        """The pose at one time (s), a scalar of the path's dtype.

        R = exp([ρ]×) R_home, v = ċ, Ω = J_l(ρ) ρ̇ for coordinates (c, ρ).

        Raises:
            ValueError: ``time`` is not a scalar, or the coordinates are not six.
            TypeError: ``time`` is not real, or is an array of another precision than the path.
        """
        return _pose(self, instant(time, self.duration.dtype))

    def rates(self, time: jax.Array | float) -> tuple[Pose, Pose]:
        """The pose at one time (s), and its time derivative.

        The derivative's ``velocity`` is the acceleration of the centre (m/s²), its
        ``angular_velocity`` the angular acceleration (rad/s²).
        """
        time = instant(time, self.duration.dtype)
        return jax.jvp(self, (time,), (jnp.ones_like(time),))


@struct.dataclass
class Generator(abc.ABC):
    """Turns a weight vector into a :class:`Path`; a frozen record whose fields are its settings.

    Weights are dimensionless and of order 1: ``scale`` gives them their size. Zero weights keep the
    paddle at home, unless a setting says otherwise. Weights are ordered by rows of six (or as many
    as ``home`` has), one row per parameter of the curve. The path has the dtype of the weights.

    Whatever costs time is done in ``generator(weights)``, so that ``path(t)`` is cheap.

    Attributes:
        duration: of the motion, s.
        home: start coordinates: centre (m) and rotation vector (rad), (6,).
        orientation: world-from-surface rotation at rotation vector zero, (3, 3).
        scale: displacement of each coordinate for a weight of 1, (6,), m and rad.
    """

    duration: jax.Array
    home: jax.Array
    orientation: jax.Array
    scale: jax.Array

    @property
    @abc.abstractmethod
    def weight_count(self) -> int:
        """Length of the weight vector."""

    @property
    def axes(self) -> int:
        """How many coordinates: six for a paddle, or the joints of an arm."""
        return self.home.shape[-1]

    @property
    def starts_at_rest(self) -> bool:
        """Whether every path starts at home with zero velocity."""
        return True

    @abc.abstractmethod
    def curve(self, weights: jax.Array) -> Curve:
        """The coordinates over phase; the settings already have the dtype of the weights."""

    def __call__(self, weights: jax.Array) -> Path:
        """The path of these weights, (weight_count,).

        Raises:
            ValueError: the weights have another shape.
            TypeError: the weights are not real numbers.
        """
        weights = _check.floating("weights", weights, (self.weight_count,))
        settings = self.astype(weights.dtype)
        return Path(settings.curve(weights), settings.duration, settings.orientation)

    def astype(self, dtype: Any) -> Self:
        """The same generator with its settings in another floating dtype."""
        return jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), self)

    def displacements(self, weights: jax.Array) -> jax.Array:
        """Weights as rows, times ``scale``: (n, axes), m and rad."""
        return weights.reshape(-1, self.axes) * self.scale


def settings(
    duration: Any = 1.0,
    home: Any = (0.0,) * 6,
    normal: Any = (0.0, 0.0, 1.0),
    scale: Any = (0.2, 0.2, 0.2, 0.5, 0.5, 0.5),
    axes: int = 6,
) -> dict[str, jax.Array]:
    """The settings every generator has, checked; each ``create`` takes them as keywords.

    Args:
        duration: of the motion, s.
        home: start coordinates: centre (m) and rotation vector (rad), (6,).
        normal: the paddle's normal at rotation vector zero, any length, (3,).
        scale: displacement of each coordinate for a weight of 1, (6,), m and rad.
        axes: how many coordinates; other than six are joints, with ``home`` and ``scale`` (axes,).

    Raises:
        ValueError: a shape is wrong, a number not finite, the duration not positive.
        TypeError: a setting is not real.
    """
    normal = setting("normal", normal, (3,))
    if not isinstance(normal, jax.core.Tracer) and not normal.any():
        raise ValueError("normal: expected a vector other than zero, got [0, 0, 0]")
    return {
        "duration": setting("duration", duration, positive=True),
        "home": setting("home", home, (axes,)),
        "orientation": rotation.facing(normal),
        "scale": setting("scale", scale, (axes,)),
    }


def setting(
    name: str, value: Any, shape: tuple[int, ...] = (), *, positive: bool = False
) -> jax.Array:
    """Return a real setting, checked to be finite and of its shape, and positive if it must be."""
    array = _check.floating(name, value, shape)
    array = _check.in_range(name, array, 0.0 if positive else -jnp.inf, open_low=positive)
    return array.astype(array.dtype)  # no longer weakly typed, so that jit does not retrace


def count(name: str, value: int, low: int) -> int:
    """Return an integer setting, checked to be at least ``low``."""
    if isinstance(value, bool) or not isinstance(value, int) or value < low:
        raise ValueError(f"{name}: expected an integer of at least {low}, got {value!r}")
    return value


def _pose(path, time):
    place, rate = jax.jvp(path.coordinates, (time,), (jnp.ones_like(time),))
    if place.shape != (6,):
        raise ValueError(f"coordinates: expected shape (6,) for a pose, got {place.shape}")
    turned, spin = rotation.turning(place[3:], rate[3:], path.orientation)
    return Pose(place[:3], turned, rate[:3], spin)


def instant(time: Any, dtype: Any) -> jax.Array:
    """One time as a scalar of the dtype, checked."""
    array = jnp.asarray(time)
    exact = not array.weak_type and jnp.issubdtype(array.dtype, jnp.floating)
    if exact and array.dtype != dtype:
        raise TypeError(f"time: expected {dtype}, the dtype of the weights, got {array.dtype}")
    return _check.floating("time", array, ()).astype(dtype)
