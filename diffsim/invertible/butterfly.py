"""Butterfly: log₂ n stages of 2 × 2 mixes, the sparsity of the fast Fourier transform."""

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from diffsim._types import ArrayLike, Tree
from diffsim.invertible.base import Linear, normal, parameter, reciprocal


def _stages(size: int) -> int:
    """log₂ size."""
    if size < 2 or size & (size - 1):
        raise ValueError(f"size: expected a power of two, at least 2, got {size}")
    return size.bit_length() - 1


class Butterfly(Linear):
    """Stage s mixes x_i with x_{i+2ˢ} by its own 2 × 2 matrix; n a power of two.

    Args:
        weights: (log₂ n, 2, 2, n / 2): stage, row and column of the mix, pair.

    Source: Dao et al., Learning fast algorithms for linear transforms, 2019, section 3.

    >>> Butterfly.hadamard(4)(jnp.array([1.0, 0.0, 0.0, 0.0])).tolist()
    [1.0, 1.0, 1.0, 1.0]
    """

    structured = True

    def __init__(self, weights: ArrayLike):
        self.weights = parameter("weights", weights, ("s", 2, 2, "2^(s−1)"))
        shape = self.weights.shape
        if shape[3] != 2 ** (shape[0] - 1):
            raise ValueError(f"weights: expected shape (s, 2, 2, 2^(s−1)), got {shape}")
        self.size = 2 ** shape[0]

    @classmethod
    def random(cls, size: int, *, rngs: nnx.Rngs, dtype: DTypeLike | None = None) -> "Butterfly":
        """Rotations by random angles, a little stretched.

        Raises:
            ValueError: a size that is not a power of two.
        """
        stages = _stages(size)
        angle = normal(rngs, (stages, size // 2), dtype)
        c, s = jnp.cos(angle), jnp.sin(angle)
        stretch = jnp.exp(0.05 * normal(rngs, (stages, 1, 1, size // 2), dtype))
        return cls(jnp.stack([jnp.stack([c, -s], 1), jnp.stack([s, c], 1)], 1) * stretch)

    @classmethod
    def hadamard(cls, size: int, dtype: DTypeLike | None = None) -> "Butterfly":
        """The Hadamard matrix of ±1, natural order."""
        stages = _stages(size)
        mix = jnp.array([[1.0, 1.0], [1.0, -1.0]], dtype)
        return cls(jnp.broadcast_to(mix[None, :, :, None], (stages, 2, 2, size // 2)))

    @staticmethod
    def _mix(weights: jax.Array, stage: int, x: jax.Array) -> jax.Array:
        pairs = x.reshape(-1, 2, 2**stage)
        (a, b), (c, d) = weights.reshape(2, 2, -1, 2**stage)
        first, second = pairs[:, 0], pairs[:, 1]
        return jnp.stack([a * first + b * second, c * first + d * second], 1).reshape(-1)

    def _dets(self) -> jax.Array:
        (a, b), (c, d) = jnp.moveaxis(self.weights[...], 0, 2)
        return a * d - b * c

    def forward(self, x: jax.Array) -> jax.Array:
        for stage, weights in enumerate(self.weights[...]):
            x = self._mix(weights, stage, x)
        return x

    def factor(self) -> jax.Array:
        (a, b), (c, d) = jnp.moveaxis(self.weights[...], 0, 2)
        swapped = jnp.stack([jnp.stack([d, -b]), jnp.stack([-c, a])])
        return jnp.moveaxis(swapped * reciprocal(self._dets()), 2, 0)

    def inverse(self, y: jax.Array, factor: Tree = None) -> jax.Array:
        for stage in reversed(range(len(factor))):
            y = self._mix(factor[stage], stage, y)
        return y

    def log_abs_det(self) -> jax.Array:
        return jnp.sum(jnp.log(jnp.abs(self._dets())))
