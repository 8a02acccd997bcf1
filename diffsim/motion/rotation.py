"""Rotation vectors: the exponential map of SO(3) and its left Jacobian, smooth through zero."""

import functools
import math

import jax
import jax.numpy as jnp

_TERMS = 9  # of the series below 1 rad; the first one left out is under 2/20! = 8e-19 of the sum


def turning(vector: jax.Array, rate: jax.Array, home: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The rotation by a rotation vector that changes, and its angular velocity.

    R = exp([ρ]×) R_home, exp([ρ]×) = cos θ I + sin θ/θ [ρ]× + (1 − cos θ)/θ² ρ ρᵀ with θ = |ρ|, and
    Ω = sin θ/θ ρ̇ + (1 − cos θ)/θ² ρ × ρ̇ + (θ − sin θ)/θ³ ρ (ρ · ρ̇), so that Ṙ = [Ω]× R.

    Args:
        vector: rotation vector ρ, (3,), rad.
        rate: its time derivative ρ̇, (3,), rad/s.
        home: R at rotation vector zero, (3, 3).

    Returns:
        R, (3, 3), and Ω in the fixed frame, (3,), rad/s.

    Source: J. Solà, J. Deray, D. Atchuthan, A micro Lie theory for state estimation in robotics,
        arXiv:1812.01537, eq. 145: the left Jacobian.

    >>> import jax.numpy as jnp
    >>> turned, _ = turning(jnp.array([0.0, 0.0, jnp.pi / 2]), jnp.zeros(3), jnp.eye(3))
    >>> jnp.round(turned, 6).astype(int).tolist()
    [[0, -1, 0], [1, 0, 0], [0, 0, 1]]
    """
    # In scalars, which become long vectors under vmap; dots of this size do not fuse.
    c0, c1, c2, c3 = jnp.unstack(stumpff(4, jnp.sum(vector**2)))
    (x, y, z), (a, b, c) = map(jnp.unstack, (vector, rate))
    (u, v, w), (p, q, r) = (c1 * x, c1 * y, c1 * z), (c2 * x, c2 * y, c2 * z)
    columns = (
        jnp.stack([c0 + p * x, p * y + w, p * z - v]),
        jnp.stack([p * y - w, c0 + q * y, q * z + u]),
        jnp.stack([p * z + v, q * z - u, c0 + r * z]),
    )
    first, second, third = (m[:, None] * row for m, row in zip(columns, jnp.unstack(home)))
    across = jnp.stack([q * c - r * b, r * a - p * c, p * b - q * a])
    spin = c1 * rate + across + (c3 * jnp.sum(vector * rate)) * vector
    return first + second + third, spin


@jax.jit
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
        (count,)

    Source: K. Stumpff, Himmelsmechanik, vol. 1, § 41 (1959).

    >>> import jax.numpy as jnp
    >>> stumpff(3, jnp.zeros(())).tolist()
    [1.0, 1.0, 0.5]
    """
    small = square < 1
    inside, outside = jnp.where(small, square, 0.0), jnp.where(small, 1.0, square)
    power = lambda found, _: (-inside * found, found)  # noqa: E731
    powers = jax.lax.scan(power, jnp.ones_like(square), length=_TERMS, unroll=True)[1]
    factors = [[1 / math.factorial(2 * j + k) for j in range(_TERMS)] for k in range(count)]
    series = jnp.sum(jnp.asarray(factors, square.dtype) * powers, axis=1)
    angle = jnp.sqrt(outside)
    closed = [jnp.cos(angle), jnp.sin(angle) / angle]  # and up from there
    for k in range(count - 2):
        closed.append((1 / math.factorial(k) - closed[k]) / outside)
    return jnp.where(small, series, jnp.stack(closed))


@stumpff.defjvp
def _(count, primals, tangents):
    (square,), (change,) = primals, tangents
    c = stumpff(count + 2, square)
    order = jnp.arange(count, dtype=square.dtype)
    return c[:count], (order * c[2:] - c[1:-1]) / 2 * change
