"""Triangular weights, and a product of two of them: determinant and inverse by substitution."""

import jax
import jax.numpy as jnp
from flax import nnx
from jax.scipy.linalg import solve_triangular
from jax.typing import DTypeLike

from diffsim._types import ArrayLike, Tree
from diffsim.invertible.base import Linear, normal, refined, square


def _small(rngs: nnx.Rngs, size: int, dtype: DTypeLike | None) -> jax.Array:
    """Off-diagonal entries small enough that substitution does not grow them."""
    return 0.5 * normal(rngs, (size, size), dtype) / size


def _inverse(matrix: jax.Array, lower: bool, unit: bool = False) -> jax.Array:
    """T⁻¹ by its rows: X T = I, as what X y loses is (I − XT) x."""
    eye = jnp.eye(matrix.shape[0], dtype=matrix.dtype)
    found = solve_triangular(matrix, eye, trans=1, lower=lower, unit_diagonal=unit).T
    return found if unit else jnp.where(jnp.all(jnp.diagonal(matrix) != 0), found, jnp.nan)


class Triangular(Linear):
    """y = T x, of a weight only the lower (or upper) triangle used.

    Exact to the bit for integers with a unit diagonal, as long as they fit the mantissa.

    Args:
        weight: (n, n).
        lower: which triangle.
        unit: take the diagonal as ones.

    >>> Triangular([[1.0, 9.0], [5.0, 1.0]]).inverse(jnp.array([2.0, 11.0])).tolist()
    [2.0, 1.0]
    """

    def __init__(self, weight: ArrayLike, *, lower: bool = True, unit: bool = False):
        self.weight = square("weight", weight)
        self.size, self.lower, self.unit = self.weight.shape[0], lower, unit

    @classmethod
    def random(cls, size: int, *, rngs: nnx.Rngs, dtype: DTypeLike | None = None) -> "Triangular":
        return cls(jnp.eye(size, dtype=dtype) + _small(rngs, size, dtype))

    def triangle(self) -> jax.Array:
        weight = self.weight[...]
        part = jnp.tril(weight) if self.lower else jnp.triu(weight)
        if not self.unit:
            return part
        eye = jnp.eye(self.size, dtype=weight.dtype)
        return part * (1 - eye) + eye

    def forward(self, x: jax.Array) -> jax.Array:
        return self.triangle() @ x

    def factor(self) -> jax.Array:
        return _inverse(self.triangle(), self.lower, self.unit)

    def inverse(self, y: jax.Array, factor: Tree = None) -> jax.Array:
        return factor @ y

    def log_abs_det(self) -> jax.Array:
        return jnp.sum(jnp.log(jnp.abs(jnp.diagonal(self.triangle()))))


class LU(Linear):
    """y = L U x, L unit lower and U upper triangular, both in one matrix (Glow, eq. 11).

    ``factor()`` is (LU)⁻¹ = U⁻¹L⁻¹, refined once, so the inverse is one product.

    Args:
        weight: (n, n): below the diagonal L, on and above it U.

    >>> round(float(LU([[2.0, 1.0], [0.5, 4.0]]).log_abs_det()), 4)
    2.0794
    """

    def __init__(self, weight: ArrayLike):
        self.weight = square("weight", weight)
        self.size = self.weight.shape[0]

    @classmethod
    def random(cls, size: int, *, rngs: nnx.Rngs, dtype: DTypeLike | None = None) -> "LU":
        return cls(jnp.eye(size, dtype=dtype) + _small(rngs, size, dtype))

    def triangles(self) -> tuple[jax.Array, jax.Array]:
        weight = self.weight[...]
        return jnp.tril(weight, -1) + jnp.eye(self.size, dtype=weight.dtype), jnp.triu(weight)

    def forward(self, x: jax.Array) -> jax.Array:
        lower, upper = self.triangles()
        return lower @ (upper @ x)

    def factor(self) -> jax.Array:
        lower, upper = self.triangles()
        return refined(lower @ upper, _inverse(upper, False) @ _inverse(lower, True, True))

    def inverse(self, y: jax.Array, factor: Tree = None) -> jax.Array:
        return factor @ y

    def log_abs_det(self) -> jax.Array:
        return jnp.sum(jnp.log(jnp.abs(jnp.diagonal(self.weight[...]))))
