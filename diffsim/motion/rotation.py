"""Rotation vectors: the exponential map of SO(3) and its left Jacobian, smooth through zero."""

import functools
import math

import jax
import jax.numpy as jnp

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
    return jnp.array(_combine(vector, 0))


def left_jacobian(vector: jax.Array) -> jax.Array:
    """What takes the rate of a rotation vector to the angular velocity in the fixed frame.

    J_l(ρ) = sin θ/θ I + (1 − cos θ)/θ² [ρ]× + (θ − sin θ)/θ³ ρ ρᵀ, so that R = exp([ρ]×) has
    Ṙ = [J_l(ρ) ρ̇]× R.

    Args:
        vector: rotation vector ρ, (3,), rad.

    Returns:
        The matrix, (3, 3).

    Source: J. Solà, J. Deray, D. Atchuthan, A micro Lie theory for state estimation in robotics,
        arXiv:1812.01537, eq. 145.

    >>> import jax.numpy as jnp
    >>> left_jacobian(jnp.zeros(3)).tolist()
    [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    """
    return jnp.array(_combine(vector, 1))


def product(left: jax.Array, right: jax.Array) -> jax.Array:
    """A (3, 3) matrix times a vector (3,) or a matrix (3, 3), written out like the rest.

    Dots of this size neither fuse nor, on some devices, keep full precision.
    """
    a, b, c = right
    return jnp.stack([x * a + y * b + z * c for x, y, z in left])


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
def stumpff(order: int, square: jax.Array) -> jax.Array:
    """The Stumpff function c_k(θ²) = Σ_j (−θ²)^j / (2 j + k)!, accurate with all its derivatives.

    c_0 = cos θ, c_1 = sin θ/θ, c_2 = (1 − cos θ)/θ², c_3 = (θ − sin θ)/θ³, and on by
    c_{k+2} = (1/k! − c_k)/θ². Derivatives are of the family: dc_k/d(θ²) = (k c_{k+2} − c_{k+1})/2.

    Args:
        order: k.
        square: θ², (), at least 0.

    Source: K. Stumpff, Himmelsmechanik, vol. 1, § 41 (1959).

    >>> import jax.numpy as jnp
    >>> [float(stumpff(k, jnp.zeros(()))) for k in range(3)]
    [1.0, 1.0, 0.5]
    """
    small = square < 1
    inside, outside = jnp.where(small, square, 0.0), jnp.where(small, 1.0, square)
    series = jnp.zeros_like(square)
    for j in reversed(range(_TERMS)):
        series = 1 / math.factorial(2 * j + order) - inside * series
    angle = jnp.sqrt(outside)
    closed = jnp.sin(angle) / angle if order % 2 else jnp.cos(angle)
    for k in range(order % 2, order, 2):
        closed = (1 / math.factorial(k) - closed) / outside
    return jnp.where(small, series, closed)


@stumpff.defjvp
def _(order, primals, tangents):
    (square,), (change,) = primals, tangents
    slope = (order * stumpff(order + 2, square) - stumpff(order + 1, square)) / 2
    return stumpff(order, square), slope * change


def _combine(vector, order):
    """c_k I + c_{k+1} [ρ]× + c_{k+2} ρ ρᵀ, the k-th integral of exp([ρ]×) over its length.

    Written out in scalars: under vmap each becomes one long vector.
    """
    x, y, z = vector
    square = x * x + y * y + z * z
    even, odd = stumpff(2, square), stumpff(3, square)
    c = [1 - square * even, 1 - square * odd, even, odd]
    p, q, r = c[order : order + 3]
    return [
        [p + r * x * x, r * x * y - q * z, r * x * z + q * y],
        [r * x * y + q * z, p + r * y * y, r * y * z - q * x],
        [r * x * z - q * y, r * y * z + q * x, p + r * z * z],
    ]
