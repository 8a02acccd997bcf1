"""Three-vectors whose components are the first axis, so that a batch of balls is the last."""

import jax
import jax.numpy as jnp

from diffsim._linalg import safe_sqrt


@jax.tree_util.register_pytree_node_class
class Vector:
    """(x, y, z), numbers or arrays of one shape: in the end an array (3, …).

    >>> v = Vector(1.0, 2.0, 2.0)
    >>> float(v.norm()), (2 * v).cross(Vector(0.0, 0.0, 1.0)).array.tolist()
    (3.0, [4.0, -2.0, 0.0])
    """

    def __init__(self, x, y, z):
        self.array = jnp.stack(jnp.broadcast_arrays(x, y, z))

    @classmethod
    def of(cls, array: jax.Array) -> "Vector":
        """From an array (3, …)."""
        vector = object.__new__(cls)
        vector.array = array
        return vector

    def tree_flatten(self):
        return (self.array,), None

    @classmethod
    def tree_unflatten(cls, _, leaves):
        return cls.of(*leaves)

    @property
    def x(self) -> jax.Array:
        return self.array[0]

    @property
    def y(self) -> jax.Array:
        return self.array[1]

    @property
    def z(self) -> jax.Array:
        return self.array[2]

    def __add__(self, other: "Vector") -> "Vector":
        a, b = _alike(self, other)
        return Vector.of(a + b)

    def __sub__(self, other: "Vector") -> "Vector":
        a, b = _alike(self, other)
        return Vector.of(a - b)

    def __mul__(self, factor) -> "Vector":
        return Vector.of(_wide(self.array, jnp.ndim(factor)) * factor)

    __rmul__ = __mul__

    def __neg__(self) -> "Vector":
        return Vector.of(-self.array)

    def dot(self, other: "Vector") -> jax.Array:
        a, b = _alike(self, other)
        return jnp.sum(a * b, axis=0)

    def sum(self) -> "Vector":
        """Over the first axis of the components."""
        return Vector.of(jnp.sum(self.array, axis=1))

    def cross(self, other: "Vector") -> "Vector":
        return _cross(self, other)

    def norm(self) -> jax.Array:
        """The length, with derivative 0 (not NaN) at zero."""
        return safe_sqrt(self.dot(self))


@jax.jit
def _cross(one: Vector, other: Vector) -> Vector:
    (a, b, c), (x, y, z) = jnp.unstack(one.array), jnp.unstack(other.array)
    return Vector(b * z - c * y, c * x - a * z, a * y - b * x)


def _wide(array: jax.Array, axes: int) -> jax.Array:
    """Components with at least so many axes behind them: one vector stands beside many."""
    return array.reshape(3, *[1] * (axes + 1 - array.ndim), *array.shape[1:])


def _alike(one: Vector, other: Vector) -> tuple[jax.Array, jax.Array]:
    most = max(one.array.ndim, other.array.ndim) - 1
    return _wide(one.array, most), _wide(other.array, most)


def choose(condition: jax.Array, yes, no):
    """``where`` for each leaf of two like trees."""
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), yes, no)


@jax.jit  # operation by operation it is some twenty programs to compile
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
    first = _unit(u - jnp.sum(u * n) * n)
    return jnp.stack([first, jnp.cross(n, first), n], axis=-1)


def _unit(vector: jax.Array) -> jax.Array:
    """Of length 1, whatever its squares are."""
    vector = vector / jax.lax.stop_gradient(jnp.max(jnp.abs(vector)))
    return vector / jnp.linalg.norm(vector)
