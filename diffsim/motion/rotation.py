"""Rotation vectors: the exponential map of SO(3) and its left Jacobian, smooth through zero."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

_CROSS = np.cross(np.eye(3)[:, None], np.eye(3)).T  # ε_jki as [i, k, j]
_TERMS = 9  # of the series below 1 rad; the first one left out is under 2/20! = 8e-19 of the sum


def rotation_matrix(vector: jax.Array) -> jax.Array:
    """The rotation by a rotation vector (Rodrigues).

    exp([ρ]×) = cos θ I + sin θ/θ [ρ]× + (1 − cos θ)/θ² ρ ρᵀ, with θ = |ρ|.

    Args:
        vector: rotation vector ρ, (3,), rad.

    Returns:
        The matrix, (3, 3).

    >>> import jax.numpy as jnp
    >>> turned = rotation_matrix(jnp.array([0.0, 0.0, jnp.pi / 2]))
    >>> jnp.round(turned, 6).astype(int).tolist()
    [[0, -1, 0], [1, 0, 0], [0, 0, 1]]
    """
    square = jnp.sum(vector * vector)
    cos, c1, c2 = stumpff(3, square)
    eye = jnp.eye(3, dtype=vector.dtype)
    return cos * eye + c1 * skew(vector) + c2 * vector[:, None] * vector


def angular_velocity(vector: jax.Array, rate: jax.Array) -> jax.Array:
    """The angular velocity, in the fixed frame, of a rotation vector that changes.

    Ω = sin θ/θ ρ̇ + (1 − cos θ)/θ² ρ × ρ̇ + (θ − sin θ)/θ³ ρ (ρ · ρ̇), so that R = exp([ρ]×) has
    Ṙ = [Ω]× R.

    Args:
        vector: rotation vector ρ, (3,), rad.
        rate: its time derivative, (3,), rad/s.

    Returns:
        Ω, (3,), rad/s.

    Source: J. Solà, J. Deray, D. Atchuthan, A micro Lie theory for state estimation in robotics,
        arXiv:1812.01537, eq. 145: the left Jacobian.

    >>> import jax.numpy as jnp
    >>> angular_velocity(jnp.zeros(3), jnp.array([1.0, 2.0, 3.0])).tolist()
    [1.0, 2.0, 3.0]
    """
    square = jnp.sum(vector * vector)
    _, c1, c2, c3 = stumpff(4, square)
    along = c3 * jnp.sum(vector * rate)
    return c1 * rate + c2 * product(skew(vector), rate) + along * vector


def skew(vector: jax.Array) -> jax.Array:
    """[ρ]×, (3, 3): the matrix that takes a to ρ × a."""
    return jnp.sum(jnp.asarray(_CROSS, vector.dtype) * vector, axis=-1)


def product(left: jax.Array, right: jax.Array) -> jax.Array:
    """A (3, 3) matrix times a vector (3,) or a matrix (3, 3), by sums that fuse with the rest.

    Dots of this size do not, nor do they keep full precision on every device.
    """
    return jnp.sum(left.reshape(3, 3, *[1] * (right.ndim - 1)) * right, axis=1)


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


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def stumpff(count: int, square: jax.Array) -> jax.Array:
    """The Stumpff functions c_k(θ²) = Σ_j (−θ²)^j / (2 j + k)!, accurate with all derivatives.

    c_0 = cos θ, c_1 = sin θ/θ, c_2 = (1 − cos θ)/θ², c_3 = (θ − sin θ)/θ³, and on by
    c_{k+2} = (1/k! − c_k)/θ². Derivatives are of the family: dc_k/d(θ²) = (k c_{k+2} − c_{k+1})/2.

    Args:
        count: how many, from c_0 on, at least 2.
        square: θ², (), at least 0.

    Returns:
        (count,).

    Source: K. Stumpff, Himmelsmechanik, vol. 1, § 41 (1959).

    >>> import jax.numpy as jnp
    >>> stumpff(3, jnp.zeros(())).tolist()
    [1.0, 1.0, 0.5]
    """
    small = square < 1
    inside, outside = jnp.where(small, square, 0.0), jnp.where(small, 1.0, square)
    series = jnp.zeros(count, square.dtype)
    for j in reversed(range(_TERMS)):
        row = [1 / math.factorial(2 * j + k) for k in range(count)]
        series = jnp.asarray(row, square.dtype) - inside * series
    angle = jnp.sqrt(outside)
    closed = [jnp.cos(angle), jnp.sin(angle) / angle]
    for k in range(count - 2):
        closed.append((1 / math.factorial(k) - closed[k]) / outside)
    return jnp.where(small, series, jnp.stack(closed))


@stumpff.defjvp
def _(count, primals, tangents):
    (square,), (change,) = primals, tangents
    more = stumpff(count + 2, square)
    slope = (jnp.arange(count, dtype=more.dtype) * more[2:] - more[1:-1]) / 2
    return more[:-2], slope * change
