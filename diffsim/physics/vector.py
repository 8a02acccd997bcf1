"""Three-vectors kept as three separate numbers, so that a batch of balls fuses into plain loops."""

import jax
import jax.numpy as jnp
from flax import struct


@struct.dataclass
class Vector:
    """(x, y, z), each a scalar array; a batch axis added by ``vmap`` stays innermost.

    Arrays of shape (…, 3) cost XLA a concatenation for each cross product and leave it a last
    axis of three to vectorise over; three scalars cost it neither.
    """

    x: jax.Array
    y: jax.Array
    z: jax.Array

    @classmethod
    def of(cls, array: jax.Array) -> "Vector":
        """From an array (3,)."""
        return cls(array[0], array[1], array[2])

    def array(self) -> jax.Array:
        """As an array (3,)."""
        return jnp.stack([self.x, self.y, self.z])

    def __add__(self, other: "Vector") -> "Vector":
        return Vector(self.x + other.x, self.y + other.y, self.z + other.z)

    def __sub__(self, other: "Vector") -> "Vector":
        return Vector(self.x - other.x, self.y - other.y, self.z - other.z)

    def __mul__(self, factor) -> "Vector":
        return Vector(self.x * factor, self.y * factor, self.z * factor)

    __rmul__ = __mul__

    def __neg__(self) -> "Vector":
        return Vector(-self.x, -self.y, -self.z)

    def dot(self, other: "Vector") -> jax.Array:
        return self.x * other.x + self.y * other.y + self.z * other.z

    def cross(self, other: "Vector") -> "Vector":
        return Vector(
            self.y * other.z - self.z * other.y,
            self.z * other.x - self.x * other.z,
            self.x * other.y - self.y * other.x,
        )

    def norm(self) -> jax.Array:
        """The length, with derivative 0 (not NaN) at zero."""
        return safe_sqrt(self.dot(self))


def safe_sqrt(squared: jax.Array) -> jax.Array:
    """√squared, with derivative 0 at zero."""
    positive = squared > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, squared, 1.0)), 0.0)


def choose(condition: jax.Array, yes, no):
    """``where`` for each leaf of two like trees."""
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), yes, no)


def select(items: list, index: jax.Array):
    """The tree ``items[index]`` by masks: no gather, so no scatter in reverse mode."""
    chosen = items[0]
    for i, item in enumerate(items[1:], start=1):
        chosen = choose(index == i, item, chosen)
    return chosen


def orthonormal(normal: jax.Array, u: jax.Array | None = None) -> jax.Array:
    """Rotation (3, 3) whose third column is along ``normal`` and whose first is along ``u``.

    ``u`` is projected on the plane; without it the world's x axis is used, or y where the normal
    is close to x.
    """
    n = _unit(normal)
    if u is None:
        x, y, _ = jnp.eye(3, dtype=n.dtype)
        u = jnp.where(jnp.abs(n[0]) < 0.9, x, y)
    u = _unit(u)
    first = _unit(u - jnp.vdot(u, n) * n)
    return jnp.stack([first, jnp.cross(n, first), n], axis=-1)


def _unit(vector: jax.Array) -> jax.Array:
    """Of length 1, whatever its squares are."""
    vector = vector / jax.lax.stop_gradient(jnp.max(jnp.abs(vector)))
    return vector / jnp.linalg.norm(vector)
