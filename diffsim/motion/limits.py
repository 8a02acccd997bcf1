"""What a motion costs: how far it breaks the limits of a robot, and how hard it works."""

from typing import Any

import jax
import jax.numpy as jnp

from diffsim.motion.base import Path, count


def limit_penalty(
    path: Path,
    *,
    speed: Any = None,
    acceleration: Any = None,
    angular_speed: Any = None,
    angular_acceleration: Any = None,
    points: int = 64,
) -> jax.Array:
    """How far a path exceeds its limits, zero while it keeps them, once differentiable throughout.

    Σ_limits mean_t max(0, |x(t)| / limit − 1)², over evenly spaced times from 0 to duration. It
    sees neither peaks between them nor the jump to a standstill at the end.

    Args:
        path: the motion.
        speed: largest |v|, m/s; None is no limit, here and below.
        acceleration: largest |dv/dt|, m/s².
        angular_speed: largest |Ω|, rad/s.
        angular_acceleration: largest |dΩ/dt|, rad/s².
        points: number of times, at least 2.

    Returns:
        The penalty, (), dimensionless.

    >>> import jax.numpy as jnp
    >>> from diffsim.motion import Polynomial
    >>> path = Polynomial.create(degree=1, at_rest=False)(jnp.array([10.0, 0, 0, 0, 0, 0]))
    >>> round(float(limit_penalty(path, speed=1.0, acceleration=1.0)), 4)  # at 2 m/s
    1.0
    """
    dtype = path.duration.dtype
    grid = jnp.linspace(0.0, 1.0, count("points", points, 2), dtype=dtype)
    pose, rate = jax.vmap(path.rates)(grid * path.duration)
    total = jnp.zeros((), dtype)
    for values, limit in (
        (pose.velocity, speed),
        (rate.velocity, acceleration),
        (pose.angular_velocity, angular_speed),
        (rate.angular_velocity, angular_acceleration),
    ):
        if limit is not None:
            ratio = jnp.sum((values / jnp.asarray(limit, dtype)) ** 2, axis=1)
            # The maximum is taken under the root, which then never sees zero.
            total += jnp.mean((jnp.sqrt(jnp.maximum(ratio, 1.0)) - 1) ** 2)
    return total


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
    dtype = path.duration.dtype
    middles = (jnp.arange(count("points", points, 1), dtype=dtype) + 0.5) / points
    _, rate = jax.vmap(path.rates)(middles * path.duration)
    turning = jnp.asarray(lever, dtype) * rate.angular_velocity
    return jnp.mean(jnp.sum(rate.velocity**2 + turning**2, axis=1))
