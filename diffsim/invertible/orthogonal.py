"""Orthogonal matrices of low rank: products of reflections, and the Cayley transform."""

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from diffsim._types import ArrayLike, Tree
from diffsim.invertible.base import Orthogonal, matrix_inverse, normal, parameter


class Householder(Orthogonal):
    """y = H₁ H₂ … H_k x with H = I − 2vvᵀ/vᵀv, as two products I − V T Vᵀ (compact WY).

    T⁻¹ is the upper triangle of VᵀV with its diagonal halved, so the product is orthogonal to
    rounding whatever V is; a zero column is no reflection.

    Args:
        vectors: V, (n, k), one reflection a column.

    Source: Schreiber & Van Loan, 1989; Puglisi, 1992 (the formula for T).

    >>> Householder([[1.0], [0.0]])(jnp.array([3.0, 4.0])).tolist()
    [-3.0, 4.0]
    """

    structured = True

    def __init__(self, vectors: ArrayLike):
        self.vectors = parameter("vectors", vectors, ("n", "k"))
        self.size = self.vectors.shape[0]

    @classmethod
    def random(
        cls, size: int, reflections: int = 32, *, rngs: nnx.Rngs, dtype: DTypeLike | None = None
    ) -> "Householder":
        return cls(normal(rngs, (size, min(size, reflections)), dtype))

    def factor(self) -> tuple[jax.Array, jax.Array]:
        v = self.vectors[...]
        squares = jnp.sum(v**2, axis=0)
        v = v / jnp.sqrt(jnp.where(squares == 0, 1, squares))
        half = jnp.where(squares == 0, 1, 0.5).astype(v.dtype)
        return v, jnp.triu(v.T @ v, 1) + jnp.diag(half)

    def forward(self, x: jax.Array) -> jax.Array:
        v, t = self.factor()
        return x - v @ jax.scipy.linalg.solve_triangular(t, v.T @ x)

    def inverse(self, y: jax.Array, factor: Tree = None) -> jax.Array:
        v, t = factor
        return y - v @ jax.scipy.linalg.solve_triangular(t, v.T @ y, trans=1)


class Cayley(Orthogonal):
    """y = (I − S)(I + S)⁻¹ x with the skew S = UVᵀ − VUᵀ: every Q near I, of rank 2k.

    (I − S)(I + S)⁻¹ = I − 2P(I + RᵀP)⁻¹Rᵀ with P = [U, −V], R = [V, U].

    Args:
        left: U, (n, k).
        right: V, (n, k).

    >>> turn = Cayley([[1.0], [0.0]], [[0.0], [1.0]])
    >>> turn(jnp.array([1.0, 0.0])).tolist()
    [0.0, 1.0]
    """

    structured = True

    def __init__(self, left: ArrayLike, right: ArrayLike):
        self.left = parameter("left", left, ("n", "k"))
        self.right = parameter("right", right, self.left.shape)
        self.size = self.left.shape[0]

    @classmethod
    def random(
        cls, size: int, rank: int = 8, *, rngs: nnx.Rngs, dtype: DTypeLike | None = None
    ) -> "Cayley":
        shape = (size, min(size, rank))
        return cls(*(normal(rngs, shape, dtype) / size**0.5 for _ in range(2)))

    def factor(self) -> tuple[jax.Array, jax.Array, jax.Array]:
        u, v = self.left[...], self.right[...]
        p, r = jnp.hstack([u, -v]), jnp.hstack([v, u])
        # The core has 2k rows and condition at most (1 + ‖S‖²): its inverse may be kept.
        return p, r, matrix_inverse(jnp.eye(p.shape[1], dtype=p.dtype) + r.T @ p)

    def forward(self, x: jax.Array) -> jax.Array:
        p, r, core = self.factor()
        return x - 2 * (p @ (core @ (r.T @ x)))

    def inverse(self, y: jax.Array, factor: Tree = None) -> jax.Array:
        p, r, core = factor
        return y - 2 * (r @ (core.T @ (p.T @ y)))
