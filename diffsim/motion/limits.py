"""What a motion asks of the robot that makes it, against what that robot can do."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from diffsim import _check
from diffsim.motion.base import Path, count
from diffsim.physics.state import Pose

# What counts as standing still at the end, m/s and rad/s.
STILL, STILL_ANGULAR = 0.01, 0.1


@struct.dataclass
class Limits:
    """What a paddle may do: rates, and the box that its centre stays in.

    A motion is measured in shares of these, |v| / speed and so on, and |x − middle| / half for
    each axis of the box: at most 1 while it keeps a limit.

    Attributes:
        speed: largest |v|, (), m/s.
        acceleration: largest |dv/dt|, (), m/s².
        angular_speed: largest |Ω|, (), rad/s.
        angular_acceleration: largest |dΩ/dt|, (), rad/s².
        middle: of the box, (3,), m.
        half: extents of the box, (3,), m.
    """

    speed: jax.Array
    acceleration: jax.Array
    angular_speed: jax.Array
    angular_acceleration: jax.Array
    middle: jax.Array
    half: jax.Array

    @classmethod
    def create(cls, *, box: Any = None, **rates: Any) -> "Limits":
        """Limits from checked numbers; what is not given is not limited.

        Args:
            box: lowest and highest position of the paddle's centre, (2, 3), m.
            rates: ``speed``, ``acceleration``, ``angular_speed``, ``angular_acceleration``.

        Raises:
            ValueError: a limit that is not positive, a lower end not below its upper end.
            TypeError: a name that is not a limit.

        >>> Limits.create(speed=-1.0)
        Traceback (most recent call last):
        ...
        ValueError: speed: expected in (0, inf], got -1.0
        """
        names = ("speed", "acceleration", "angular_speed", "angular_acceleration")
        if unknown := set(rates) - set(names):
            raise TypeError(f"limits: expected some of {', '.join(names)}, got {sorted(unknown)}")
        given = {
            name: _check.in_range(name, rates[name], 0.0, open_low=True)
            if name in rates
            else jnp.asarray(jnp.inf)
            for name in names
        }
        if box is None:
            return cls(**given, middle=jnp.zeros(3), half=jnp.full(3, jnp.inf))
        low, high = _check.ends("box", box, (2, 3), apart=True)
        return cls(**given, middle=(low + high) / 2, half=(high - low) / 2)

    def squares(self, pose: Pose, rate: Pose) -> jax.Array:
        """Squared shares of the limits at one time, rates first, then the box, (7,)."""
        return jnp.concatenate([
            jnp.stack([
                jnp.sum((pose.velocity / self.speed) ** 2),
                jnp.sum((rate.velocity / self.acceleration) ** 2),
                jnp.sum((pose.angular_velocity / self.angular_speed) ** 2),
                jnp.sum((rate.angular_velocity / self.angular_acceleration) ** 2),
            ]),
            ((pose.position - self.middle) / self.half) ** 2,
        ])  # fmt: skip


def limit_penalty(path: Path, limits: Limits, *, share: Any = 1.0, points: int = 64) -> jax.Array:
    """How far a path exceeds its limits, zero while it keeps them, once differentiable throughout.

    Σ_limits mean_t max(0, share of the limit − ``share``)², over the middles of ``points`` equal
    intervals of the motion. It does not see peaks between them: a ``share`` below 1 leaves room.

    Args:
        path: the motion.
        limits: of the robot.
        share: of each limit, from which on it costs something.
        points: number of times, at least 2.

    Returns:
        The penalty, (), dimensionless.

    >>> import jax.numpy as jnp
    >>> from diffsim.motion import Polynomial
    >>> path = Polynomial.create(degree=1, at_rest=False)(jnp.array([10.0, 0, 0, 0, 0, 0]))
    >>> limits = Limits.create(speed=1.0, acceleration=1.0)
    >>> round(float(limit_penalty(path, limits)), 4)  # at 2 m/s
    1.0
    """
    share = jnp.asarray(share, path.duration.dtype)
    squares = _squares(limits, *_middles(path, count("points", points, 2)))
    # The maximum is taken under the root, which then never sees zero.
    return jnp.sum(jnp.mean((jnp.sqrt(jnp.maximum(squares, share**2)) - share) ** 2, axis=0))


def load(path: Path, limits: Limits, *, points: int = 128) -> jax.Array:
    """The largest share of any limit that a motion takes: it is feasible up to 1.

    Over evenly spaced times, both ends included. A motion that does not come to rest at its end,
    after which the paddle stands still, asks for an infinite acceleration there.

    Args:
        path, limits: as of :func:`limit_penalty`.
        points: number of times, at least 2.

    Returns:
        The load, (), dimensionless.

    >>> import jax.numpy as jnp
    >>> from diffsim.motion import MinimumJerk
    >>> path = MinimumJerk.create(via_times=[])(jnp.array([5.0, 0, 0, 0, 0, 0]))  # 1 m in 1 s
    >>> round(float(load(path, Limits.create(speed=1.875))), 3)
    1.0
    """
    grid = jnp.linspace(0.0, 1.0, count("points", points, 2), dtype=path.duration.dtype)
    pose, rate = jax.vmap(path.rates)(grid * path.duration)
    largest = jnp.sqrt(jnp.max(_squares(limits, pose, rate)))
    ends = jnp.linalg.norm(pose.velocity[-1]), jnp.linalg.norm(pose.angular_velocity[-1])
    moving = (ends[0] > STILL) & jnp.isfinite(limits.acceleration)
    moving |= (ends[1] > STILL_ANGULAR) & jnp.isfinite(limits.angular_acceleration)
    return jnp.where(moving, jnp.inf, largest)


def effort(path: Path, *, lever: Any = 0.1, points: int = 64) -> jax.Array:
    """Mean squared acceleration over a motion.

    mean_t (|dv/dt|² + lever² |dΩ/dt|²) by the midpoint rule.

    Args:
        path: the motion.
        lever: arm at which an angular acceleration counts as a linear one, m.
        points: number of times.

    Returns:
        The effort, (), m²/s⁴.

    >>> import jax.numpy as jnp
    >>> from diffsim.motion import Polynomial
    >>> path = Polynomial.create(degree=2)(jnp.array([5.0, 0, 0, 0, 0, 0]))  # 2 m/s² throughout
    >>> round(float(effort(path)), 4)
    4.0
    """
    _, rate = _middles(path, count("points", points, 1))
    turning = jnp.asarray(lever, path.duration.dtype) * rate.angular_velocity
    return jnp.mean(jnp.sum(rate.velocity**2 + turning**2, axis=1))


def _middles(path: Path, points: int) -> tuple[Pose, Pose]:
    """Pose and rate at the middles of equal intervals."""
    middles = (jnp.arange(points, dtype=path.duration.dtype) + 0.5) / points
    return jax.vmap(path.rates)(middles * path.duration)


def _squares(limits: Limits, pose: Pose, rate: Pose) -> jax.Array:
    limits = jax.tree.map(lambda leaf: jnp.asarray(leaf, pose.position.dtype), limits)
    return jax.vmap(limits.squares)(pose, rate)
