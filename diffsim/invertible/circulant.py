"""Circular convolution: a circulant matrix, diagonal in Fourier space."""

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from diffsim._types import ArrayLike, Tree
from diffsim.invertible.base import Linear, normal, parameter, reciprocal


class Circulant(Linear):
    """y = c ⊛ x, y_i = Σ_j c_{i−j mod n} x_j, by real FFTs.

    An eigenvalue that is zero to rounding makes the layer singular: its inverse is then NaN and
    its condition inf.

    Args:
        kernel: c, (n,), the first column of the matrix.

    >>> Circulant([0.0, 1.0, 0.0])(jnp.array([1.0, 2.0, 3.0])).round().tolist()  # a shift
    [3.0, 1.0, 2.0]
    """

    structured = True
    size: int

    def __init__(self, kernel: ArrayLike):
        self.kernel = parameter("kernel", kernel, ("n",))
        self.size = self.kernel.shape[0]

    @classmethod
    def random(cls, size: int, *, rngs: nnx.Rngs, dtype: DTypeLike | None = None) -> "Circulant":
        """A delta and a little more: eigenvalues around 1 whatever the size."""
        noise = 0.2 * normal(rngs, (size,), dtype) / size**0.5
        return cls(noise.at[0].add(1))

    def eigenvalues(self) -> jax.Array:
        """Those of non-negative frequency, (n // 2 + 1,); the rest are their conjugates."""
        return jnp.fft.rfft(self.kernel[...])

    def _floor(self) -> jax.Array:
        unit = jnp.finfo(self.kernel.dtype).eps
        return 4 * unit * jnp.max(jnp.abs(self.eigenvalues()))

    def _multiply(self, x: jax.Array, values: jax.Array) -> jax.Array:
        return jnp.fft.irfft(values * jnp.fft.rfft(x), self.size)

    def forward(self, x: jax.Array) -> jax.Array:
        return self._multiply(x, self.eigenvalues())

    def factor(self) -> jax.Array:
        return reciprocal(self.eigenvalues(), self._floor())

    def inverse(self, y: jax.Array, factor: Tree = None) -> jax.Array:
        return self._multiply(y, factor)

    def log_abs_det(self) -> jax.Array:
        logs = jnp.log(jnp.abs(self.eigenvalues()))
        once = [0] if self.size % 2 else [0, -1]  # all others come in conjugate pairs
        return jnp.sum(jnp.full_like(logs, 2).at[jnp.array(once)].set(1) * logs)

    def condition(self, x: jax.Array | None = None) -> jax.Array:
        sizes = jnp.abs(self.eigenvalues())
        least = jnp.min(sizes)
        return jnp.where(least > self._floor(), jnp.max(sizes) / least, jnp.inf)
