"""Banded matrices (tridiagonal among them), solved by block cyclic reduction kept as a factor."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from diffsim.invertible.base import Linear, matrix_inverse, normal, parameter


def _apply(blocks: jax.Array, x: jax.Array) -> jax.Array:
    """Small blocks (m, b, b) times (m, b); as a sum, which fuses where a dot would not."""
    return jnp.sum(blocks * x[:, None, :], axis=-1)


class Banded(Linear):
    """y_i = Σ_k D[k, i] x_{i+k−b}, k = 0 … 2b: b diagonals on each side, tridiagonal for b = 1.

    The inverse eliminates every other block of b rows, log₂(n/b) times: all rows of one level
    at once. There is no pivoting, which is safe for diagonally dominant matrices; for others
    look at the error that ``invert`` reports.

    Args:
        diagonals: D, (2b + 1, n); entries that would reach outside the matrix are not used.

    Source: Golub & Van Loan, Matrix Computations, 4th ed., section 4.5.4.

    >>> layer = Banded([[0.0, 1.0, 1.0], [4.0, 4.0, 4.0], [1.0, 1.0, 0.0]])
    >>> layer(jnp.array([1.0, 2.0, 3.0])).tolist()
    [6.0, 12.0, 14.0]
    """

    structured = True

    def __init__(self, diagonals: Any):
        self.diagonals = parameter("diagonals", diagonals)
        shape = self.diagonals.shape
        if len(shape) != 2 or shape[0] % 2 == 0:
            raise ValueError(f"diagonals: expected shape (2b + 1, n), got {shape}")
        self.half, self.size = shape[0] // 2, shape[1]

    @classmethod
    def random(cls, size: int, half: int = 1, *, rngs: nnx.Rngs, dtype: Any = None) -> "Banded":
        """Diagonal near 1, the rest summing to less than a half."""
        width = 2 * half + 1
        noise = jnp.tanh(normal(rngs, (width, size), dtype)) / (2.5 * width)
        return cls(noise.at[half].add(1))

    def forward(self, x: jax.Array) -> jax.Array:
        padded = jnp.pad(x, self.half)
        return sum(
            (row * padded[k : k + self.size] for k, row in enumerate(self.diagonals[...])),
            start=jnp.zeros_like(x),
        )

    def _blocks(self) -> list[jax.Array]:
        """Sub-diagonal, diagonal and super-diagonal blocks, (m, b, b), m a power of two."""
        d, b = self.diagonals[...], max(self.half, 1)
        m = 1 << (-(-self.size // b) - 1).bit_length()
        padded = jnp.pad(d, ((0, 0), (0, m * b - self.size)))
        # Rows past the end are the identity.
        padded = padded.at[self.half, self.size :].set(1)
        k = np.arange(b)[None, :] - np.arange(b)[:, None]
        rows = np.arange(m * b).reshape(m, b, 1)
        blocks = []
        for side in (-1, 0, 1):
            which = k + side * b + self.half
            used = (which >= 0) & (which <= 2 * self.half)
            reached = rows + k + side * b
            used = used & (reached >= 0) & ((reached < self.size) | (rows == reached))
            index = np.broadcast_to(np.clip(which, 0, 2 * self.half), used.shape)
            blocks.append(jnp.where(used, padded[index, np.broadcast_to(rows, used.shape)], 0))
        return blocks

    def _reduction(self) -> tuple[list[tuple[jax.Array, ...]], list[jax.Array]]:
        """For each level its multipliers, and the diagonal blocks eliminated on it."""
        below, diagonal, above = self._blocks()
        levels: list[tuple[jax.Array, ...]] = []
        eliminated = []
        while diagonal.shape[0] > 1:
            even = matrix_inverse(diagonal[::2])
            nothing = jnp.zeros_like(even[:1])
            after = jnp.concatenate([even[1:], nothing])
            low = below[1::2] @ even
            high = above[1::2] @ after
            eliminated.append(diagonal[::2])
            levels.append((even, below[::2], above[::2], low, high))
            next_below = jnp.concatenate([below[2::2], nothing])
            next_above = jnp.concatenate([above[2::2], nothing])
            diagonal = diagonal[1::2] - low @ above[::2] - high @ next_below
            below, above = -low @ below[::2], -high @ next_above
        eliminated.append(diagonal)
        levels.append((matrix_inverse(diagonal),))
        return levels, eliminated

    def factor(self) -> list[tuple[jax.Array, ...]]:
        return self._reduction()[0]

    def backward(self, y: jax.Array, factor: Any) -> jax.Array:
        b = max(self.half, 1)
        m = 2 ** (len(factor) - 1)
        right = jnp.pad(y, (0, m * b - self.size)).reshape(m, b)
        evens, nothing = [], jnp.zeros((1, b), y.dtype)
        for _, _, _, low, high in factor[:-1]:
            even, odd = right[::2], right[1::2]
            evens.append(even)
            after = jnp.concatenate([even[1:], nothing])
            right = odd - _apply(low, even) - _apply(high, after)
        x = _apply(factor[-1][0], right)
        for (inverse, below, above, _, _), even in zip(factor[-2::-1], evens[::-1]):
            before = jnp.concatenate([nothing, x[:-1]])
            found = _apply(inverse, even - _apply(below, before) - _apply(above, x))
            x = jnp.stack([found, x], axis=1).reshape(-1, b)
        return x.reshape(-1)[: self.size]

    def log_abs_det(self) -> jax.Array:
        parts = [jnp.sum(jnp.linalg.slogdet(d)[1]) for d in self._reduction()[1]]
        return jnp.sum(jnp.stack(parts))
