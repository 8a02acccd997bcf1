"""Scale, shift and order: diagonal weights, bias, actnorm, permutation."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike

from diffsim._types import ArrayLike, Tree
from diffsim.invertible.base import Layer, Linear, Orthogonal, normal, parameter, reciprocal


class Diagonal(Linear):
    """y = d ∘ x.

    >>> Diagonal([2.0, 0.0]).inverse(jnp.array([4.0, 1.0])).tolist()  # singular
    [2.0, nan]
    """

    structured = True

    def __init__(self, scale: ArrayLike):
        self.scale = parameter("scale", scale, ("n",))
        self.size = self.scale.shape[0]

    @classmethod
    def random(cls, size: int, *, rngs: nnx.Rngs, dtype: DTypeLike | None = None) -> "Diagonal":
        return cls(jnp.exp(0.3 * normal(rngs, (size,), dtype)))

    def forward(self, x: jax.Array) -> jax.Array:
        return self.scale[...] * x

    def inverse(self, y: jax.Array, factor: Tree = None) -> jax.Array:
        return y * reciprocal(self.scale[...])

    def log_abs_det(self) -> jax.Array:
        return jnp.sum(jnp.log(jnp.abs(self.scale[...])))

    def condition(self, x: jax.Array | None = None) -> jax.Array:
        sizes = jnp.abs(self.scale[...])
        return jnp.max(sizes) / jnp.min(sizes)


class Bias(Layer):
    """y = x + b."""

    structured = True

    def __init__(self, bias: ArrayLike):
        self.bias = parameter("bias", bias, ("n",))
        self.size = self.bias.shape[0]

    @classmethod
    def random(cls, size: int, *, rngs: nnx.Rngs, dtype: DTypeLike | None = None) -> "Bias":
        return cls(normal(rngs, (size,), dtype))

    def forward(self, x: jax.Array) -> jax.Array:
        return x + self.bias[...]

    def inverse(self, y: jax.Array, factor: Tree = None) -> jax.Array:
        return y - self.bias[...]

    def log_det(self, x: jax.Array) -> jax.Array:
        return jnp.zeros((), x.dtype)

    def condition(self, x: jax.Array | None = None) -> jax.Array:
        return jnp.ones((), self.bias.dtype)


class ActNorm(Layer):
    """y = exp(s) ∘ (x − m): statistics of one batch made parameters (Glow, section 3.1).

    >>> layer = ActNorm.fitted(jnp.array([[1.0, 5.0], [3.0, 9.0]]))
    >>> jax.vmap(layer)(jnp.array([[1.0, 5.0], [3.0, 9.0]])).tolist()
    [[-1.0, -1.0], [1.0, 1.0]]
    """

    structured = True

    def __init__(self, log_scale: ArrayLike, mean: Tree):
        self.log_scale = parameter("log_scale", log_scale, ("n",))
        self.mean = parameter("mean", mean, self.log_scale.shape)
        self.size = self.mean.shape[0]

    @classmethod
    def random(cls, size: int, *, rngs: nnx.Rngs, dtype: DTypeLike | None = None) -> "ActNorm":
        return cls(0.3 * normal(rngs, (size,), dtype), normal(rngs, (size,), dtype))

    @classmethod
    def fitted(cls, batch: jax.Array) -> "ActNorm":
        """The layer that gives ``batch``, (b, n), mean 0 and standard deviation 1.

        Raises:
            ValueError: an entry that never varies.
        """
        deviation = jnp.std(batch, axis=0)
        if not isinstance(deviation, jax.core.Tracer) and np.any(np.asarray(deviation) == 0):
            where = np.flatnonzero(np.asarray(deviation) == 0)
            raise ValueError(f"batch: expected every entry to vary, got constants at {where}")
        return cls(-jnp.log(deviation), jnp.mean(batch, axis=0))

    def forward(self, x: jax.Array) -> jax.Array:
        return jnp.exp(self.log_scale[...]) * (x - self.mean[...])

    def inverse(self, y: jax.Array, factor: Tree = None) -> jax.Array:
        return y * jnp.exp(-self.log_scale[...]) + self.mean[...]

    def log_det(self, x: jax.Array) -> jax.Array:
        return jnp.sum(self.log_scale[...])

    def condition(self, x: jax.Array | None = None) -> jax.Array:
        return jnp.exp(jnp.max(self.log_scale[...]) - jnp.min(self.log_scale[...]))


class Permutation(Orthogonal):
    """y = x[order].

    Args:
        order: a permutation of 0 … n − 1, (n,) of integers.

    Raises:
        ValueError: not a permutation.

    >>> Permutation([2, 0, 1]).inverse(jnp.array([1.0, 2.0, 3.0])).tolist()
    [2.0, 3.0, 1.0]
    """

    structured = True

    def __init__(self, order: ArrayLike):
        order = np.asarray(order)
        if order.ndim != 1 or not np.array_equal(np.sort(order), np.arange(order.size)):
            raise ValueError(f"order: expected a permutation of 0 … n − 1, got {order}")
        self.order = nnx.Variable(jnp.asarray(order, jnp.int32))
        self.back = nnx.Variable(jnp.asarray(np.argsort(order), jnp.int32))
        self.size = order.size

    @classmethod
    def random(cls, size: int, *, rngs: nnx.Rngs, dtype: DTypeLike | None = None) -> "Permutation":
        return cls(jax.random.permutation(rngs.params(), size))

    def forward(self, x: jax.Array) -> jax.Array:
        return x[self.order[...]]

    def inverse(self, y: jax.Array, factor: Tree = None) -> jax.Array:
        return y[self.back[...]]
