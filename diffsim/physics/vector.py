"""Three-vector algebra that stays elementwise, so a batch of balls fuses into one loop."""

import jax
import jax.numpy as jnp


def dot(a: jax.Array, b: jax.Array) -> jax.Array:
    """a · b along the last axis."""
    return jnp.sum(a * b, axis=-1)


def cross(a: jax.Array, b: jax.Array) -> jax.Array:
    """a × b along the last axis."""
    return jnp.roll(a, -1, -1) * jnp.roll(b, -2, -1) - jnp.roll(a, -2, -1) * jnp.roll(b, -1, -1)


def norm(a: jax.Array) -> jax.Array:
    """|a| along the last axis, with derivative 0 (not NaN) at a = 0."""
    squared = dot(a, a)
    positive = squared > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, squared, 1.0)), 0.0)


def orthonormal(normal: jax.Array, u: jax.Array | None = None) -> jax.Array:
    """Rotation (3, 3) whose third column is along ``normal`` and whose first is along ``u``.

    ``u`` is projected on the plane; without it the world axis farthest from the normal is used.
    """
    n = normal / norm(normal)
    if u is None:
        u = jnp.where(jnp.abs(n[0]) < 0.9, jnp.array([1.0, 0.0, 0.0], n.dtype),
                      jnp.array([0.0, 1.0, 0.0], n.dtype))  # fmt: skip
    first = u - dot(u, n) * n
    first = first / norm(first)
    return jnp.stack([first, cross(n, first), n], axis=-1)
