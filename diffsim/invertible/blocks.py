"""Weights made of small dense blocks: block diagonal, Kronecker product, monarch."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from diffsim import _linalg
from diffsim._types import ArrayLike, Tree
from diffsim.invertible.base import Linear, matrix_inverse, normal, square


def _well_conditioned(rngs: nnx.Rngs, count: int, size: int, dtype: DTypeLike | None) -> jax.Array:
    """I + a matrix of norm about 0.4, (count, size, size)."""
    noise = 0.2 * normal(rngs, (count, size, size), dtype) / size**0.5
    return noise + jnp.eye(size, dtype=noise.dtype)


def balanced(size: int) -> tuple[int, int]:
    """The factors p ≤ q of size that are nearest to each other."""
    p = next(p for p in range(int(size**0.5), 0, -1) if size % p == 0)
    return p, size // p


def _log_dets(matrices: jax.Array) -> jax.Array:
    return jnp.sum(_linalg.log_abs_det(matrices))


class BlockDiagonal(Linear):
    """y_i = B_i x_i for the m pieces of x.

    Args:
        blocks: B, (m, b, b).
    """

    structured = True

    def __init__(self, blocks: ArrayLike):
        self.blocks = square("blocks", blocks, 3)
        self.size = self.blocks.shape[0] * self.blocks.shape[1]

    @classmethod
    def random(
        cls, size: int, block: int = 4, *, rngs: nnx.Rngs, dtype: DTypeLike | None = None
    ) -> "BlockDiagonal":
        """
        Raises:
            ValueError: ``block`` does not divide ``size``.
        """
        if size % block:
            raise ValueError(f"block: expected a divisor of {size}, got {block}")
        return cls(_well_conditioned(rngs, size // block, block, dtype))

    def _multiply(self, blocks: jax.Array, x: jax.Array) -> jax.Array:
        return jnp.einsum("mij,mj->mi", blocks, x.reshape(blocks.shape[:2])).reshape(-1)

    def forward(self, x: jax.Array) -> jax.Array:
        return self._multiply(self.blocks[...], x)

    def factor(self) -> jax.Array:
        return matrix_inverse(self.blocks[...])

    def inverse(self, y: jax.Array, factor: Tree = None) -> jax.Array:
        return self._multiply(factor, y)

    def log_abs_det(self) -> jax.Array:
        return _log_dets(self.blocks[...])

    def condition(self, x: jax.Array | None = None) -> jax.Array:
        values = jnp.linalg.svd(self.blocks[...], compute_uv=False)
        return jnp.max(values) / jnp.min(values)


class Kronecker(Linear):
    """y = (A ⊗ B) x: Y = A X Bᵀ with x as the rows of X, (p, q).

    Args:
        left: A, (p, p).
        right: B, (q, q).

    >>> layer = Kronecker([[2.0]], [[1.0, 1.0], [0.0, 1.0]])
    >>> layer(jnp.array([1.0, 3.0])).tolist()
    [8.0, 6.0]
    """

    structured = True

    def __init__(self, left: ArrayLike, right: ArrayLike):
        self.left, self.right = square("left", left), square("right", right)
        self.size = self.left.shape[0] * self.right.shape[0]

    @classmethod
    def random(cls, size: int, *, rngs: nnx.Rngs, dtype: DTypeLike | None = None) -> "Kronecker":
        return cls(*(_well_conditioned(rngs, 1, n, dtype)[0] for n in balanced(size)))

    def forward(self, x: jax.Array) -> jax.Array:
        return self.inverse(x, (self.left[...], self.right[...]))

    def factor(self) -> tuple[jax.Array, jax.Array]:
        return matrix_inverse(self.left[...]), matrix_inverse(self.right[...])

    def inverse(self, y: jax.Array, factor: Tree = None) -> jax.Array:
        left, right = factor
        return (left @ y.reshape(left.shape[0], -1) @ right.T).reshape(-1)

    def log_abs_det(self) -> jax.Array:
        p, q = self.left.shape[0], self.right.shape[0]
        return q * _log_dets(self.left[...]) + p * _log_dets(self.right[...])

    def condition(self, x: jax.Array | None = None) -> jax.Array:
        return jnp.linalg.cond(self.left[...]) * jnp.linalg.cond(self.right[...])


class Monarch(Linear):
    """y = Pᵀ L P R x: blocks along the rows of x as (p, q), then blocks along its columns.

    Args:
        columns: L, (q, p, p).
        rows: R, (p, q, q).

    Source: Dao et al., Monarch, 2022, definition 3.1.
    """

    structured = True

    def __init__(self, columns: ArrayLike, rows: Any):
        self.columns, self.rows = square("columns", columns, 3), square("rows", rows, 3)
        (q, p), shape = self.columns.shape[:2], self.rows.shape
        if shape != (p, q, q):
            raise ValueError(f"rows: expected shape {(p, q, q)} beside columns, got {shape}")
        self.size = p * q

    @classmethod
    def random(cls, size: int, *, rngs: nnx.Rngs, dtype: DTypeLike | None = None) -> "Monarch":
        p, q = balanced(size)
        columns = _well_conditioned(rngs, q, p, dtype)
        return cls(columns, _well_conditioned(rngs, p, q, dtype))

    def forward(self, x: jax.Array) -> jax.Array:
        rows = jnp.einsum("pij,pj->pi", self.rows[...], x.reshape(self.rows.shape[:2]))
        return jnp.einsum("qij,jq->iq", self.columns[...], rows).reshape(-1)

    def factor(self) -> tuple[jax.Array, jax.Array]:
        return matrix_inverse(self.columns[...]), matrix_inverse(self.rows[...])

    def inverse(self, y: jax.Array, factor: Tree = None) -> jax.Array:
        columns, rows = factor
        x = jnp.einsum("qij,jq->iq", columns, y.reshape(rows.shape[:2]))
        return jnp.einsum("pij,pj->pi", rows, x).reshape(-1)

    def log_abs_det(self) -> jax.Array:
        return _log_dets(self.columns[...]) + _log_dets(self.rows[...])
