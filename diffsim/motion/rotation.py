"""Rotation vectors: the exponential map of SO(3) and its left Jacobian, smooth through zero."""

import math

import jax
import jax.numpy as jnp

_TERMS = 10  # of the series used below 1 rad; the first one left out is under 1 / 21! = 2e-20


def rotate(vector: jax.Array, columns: jax.Array) -> jax.Array:
    """Turn vectors by a rotation vector.

    exp([ρ]×) x = x + sin θ/θ ρ × x + (1 − cos θ)/θ² ρ × (ρ × x), with θ = |ρ| (Rodrigues).

    Args:
        vector: rotation vector ρ, (3,), rad.
        columns: x, (3,), or one x a column, (3, n).

    Returns:
        The turned vectors, shaped as ``columns``.

    >>> import jax.numpy as jnp
    >>> turned = rotate(jnp.array([0.0, 0.0, jnp.pi / 2]), jnp.array([1.0, 0.0, 0.0]))
    >>> [round(float(x), 6) + 0.0 for x in turned]
    [0.0, 1.0, 0.0]
    """
    first, second, _ = _coefficients(jnp.sum(vector**2))
    return _combine(vector, columns, first, second)


def angular_velocity(vector: jax.Array, rate: jax.Array) -> jax.Array:
    """The angular velocity of exp([ρ(t)]×) in the fixed frame.

    Ω = J_l(ρ) ρ̇ = ρ̇ + (1 − cos θ)/θ² ρ × ρ̇ + (θ − sin θ)/θ³ ρ × (ρ × ρ̇), so that Ṙ = [Ω]× R.

    Args:
        vector: rotation vector ρ, (3,), rad.
        rate: its time derivative ρ̇, (3,), rad/s.

    Returns:
        Ω, (3,), rad/s.

    Source: J. Solà, J. Deray, D. Atchuthan, A micro Lie theory for state estimation in robotics,
        arXiv:1812.01537, eq. 145.

    >>> import jax.numpy as jnp
    >>> [float(x) for x in angular_velocity(jnp.zeros(3), jnp.array([1.0, 2.0, 3.0]))]
    [1.0, 2.0, 3.0]
    """
    _, second, third = _coefficients(jnp.sum(vector**2))
    return _combine(vector, rate, second, third)


def facing(normal: jax.Array) -> jax.Array:
    """A rotation matrix with third column along ``normal``, smooth on either side of z = 0.

    For an upward normal it is the smallest rotation that takes z to it.

    Args:
        normal: any non-zero vector, (3,).

    Returns:
        World-from-surface rotation, (3, 3).

    Source: T. Duff et al., Building an orthonormal basis, revisited, JCGT 6 (2017), listing 3.

    >>> import jax.numpy as jnp
    >>> facing(jnp.array([-2.0, 0.0, 0.0])).astype(int).tolist()
    [[0, 0, -1], [0, 1, 0], [1, 0, 0]]
    """
    x, y, z = normal / jnp.sqrt(jnp.sum(normal**2))
    sign = jnp.where(z >= 0, 1.0, -1.0).astype(z.dtype)
    factor = -1 / (sign + z)
    mixed = x * y * factor
    return jnp.array(
        [
            [1 + sign * x * x * factor, mixed, x],
            [sign * mixed, sign + y * y * factor, y],
            [-sign * x, -y, z],
        ]
    )


def _combine(vector, columns, first, second):
    axis = vector.reshape((3,) + (1,) * (columns.ndim - 1))
    once = jnp.cross(axis, columns, axis=0)
    return columns + first * once + second * jnp.cross(axis, once, axis=0)


def _coefficients(square):
    """sin θ/θ, (1 − cos θ)/θ² and (θ − sin θ)/θ³ as functions of θ².

    Below 1 rad they come from their series: the closed forms lose digits to cancellation, the more
    so the more often they are differentiated. Each branch is fed a harmless number where the other
    is taken, so that no derivative is NaN.
    """
    small = square < 1
    inside = jnp.where(small, square, 0.0)
    outside = jnp.where(small, 1.0, square)
    angle = jnp.sqrt(outside)
    sine = jnp.sin(angle) / angle
    closed = (sine, (1 - jnp.cos(angle)) / outside, (1 - sine) / outside)
    return tuple(jnp.where(small, _series(inside, k), value) for k, value in enumerate(closed, 1))


def _series(square, first):
    """Σ (−θ²)^k / (2 k + first)! by Horner's rule."""
    total = jnp.zeros_like(square)
    for k in reversed(range(_TERMS)):
        total = 1 / math.factorial(2 * k + first) - square * total
    return total
