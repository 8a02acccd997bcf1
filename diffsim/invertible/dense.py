"""A full weight matrix, with its inverse kept."""

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from diffsim import _linalg
from diffsim._types import ArrayLike, Tree
from diffsim.invertible.base import Linear, matrix_inverse, normal, parameter, square


class Dense(Linear):
    """y = W x with any square W; ``factor()`` is W⁻¹, refined once, NaN if W is singular.

    With the factor kept, the inverse is one product, as fast as the forward pass.

    Args:
        weight: W, (n, n).

    >>> layer = Dense([[2.0, 0.0], [1.0, 1.0]])
    >>> layer.inverse(layer(jnp.array([1.0, 3.0]))).tolist()
    [1.0, 3.0]
    """

    def __init__(self, weight: ArrayLike):
        self.weight = square("weight", weight)
        self.size = self.weight.shape[0]

    @classmethod
    def random(cls, size: int, *, rngs: nnx.Rngs, dtype: DTypeLike | None = None) -> "Dense":
        """Orthogonal with singular values spread over [0.5, 2]: well conditioned at every size."""
        q, r = jnp.linalg.qr(normal(rngs, (size, size), dtype))
        spread = 2 ** jax.random.uniform(rngs.params(), (size,), q.dtype, -1, 1)
        return cls(q * jnp.sign(jnp.diagonal(r)) * spread)

    def forward(self, x: jax.Array) -> jax.Array:
        return self.weight[...] @ x

    def factor(self) -> jax.Array:
        return matrix_inverse(self.weight[...])

    def inverse(self, y: jax.Array, factor: Tree = None) -> jax.Array:
        return factor @ y

    def log_abs_det(self) -> jax.Array:
        return _linalg.log_abs_det(self.weight[...])

    def condition(self, x: jax.Array | None = None) -> jax.Array:
        return jnp.linalg.cond(self.weight[...])


class Rectangular(Linear):
    """y = W x with W (m, n), inverted by its pseudo-inverse.

    A wide W (m < n) has many inverses: this is the one of least norm, and n − rank directions
    are free. A tall one (m > n) has none for most y: this is the least-squares one.

    Args:
        weight: W, (m, n).

    >>> wide = Rectangular([[3.0, 4.0]])
    >>> wide.inverse(jnp.array([25.0])).round().tolist()
    [3.0, 4.0]
    """

    def __init__(self, weight: ArrayLike):
        self.weight = parameter("weight", weight, ("m", "n"))
        self.outputs, self.size = self.weight.shape

    def forward(self, x: jax.Array) -> jax.Array:
        return self.weight[...] @ x

    def factor(self) -> jax.Array:
        unit = jnp.finfo(self.weight.dtype).eps  # singular values kept are those that rank counts
        return jnp.linalg.pinv(self.weight[...], rtol=max(self.weight.shape) * unit)

    def inverse(self, y: jax.Array, factor: Tree = None) -> jax.Array:
        return factor @ y

    def rank(self) -> jax.Array:
        return jnp.linalg.matrix_rank(self.weight[...])

    def log_abs_det(self) -> jax.Array:
        raise ValueError(f"weight: expected square for a determinant, got {self.weight.shape}")

    def condition(self, x: jax.Array | None = None) -> jax.Array:
        values = jnp.linalg.svd(self.weight[...], compute_uv=False)
        return values[0] / values[-1]
