"""Banded matrices, tridiagonal among them, solved by elimination with pivoting."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from diffsim.invertible.base import Linear, matrix_inverse, normal, parameter

BLOCK = 8  # rows eliminated at once: wide enough to be worth a step, narrow enough to be cheap


class Banded(Linear):
    """y_i = Σ_k D[k, i] x_{i+k−b}, k = 0 … 2b: b diagonals on each side, tridiagonal for b = 1.

    The matrix is block tridiagonal with blocks of max(b, 8) rows, which Gaussian elimination
    with partial pivoting goes through in order; a tridiagonal solve is the library's own.

    Args:
        diagonals: D, (2b + 1, n); entries that would reach outside the matrix are not used.

    Source: Golub & Van Loan, Matrix Computations, 4th ed., sections 4.3.3 and 4.5.

    >>> layer = Banded([[0.0, 1.0, 1.0], [4.0, 4.0, 4.0], [1.0, 1.0, 0.0]])
    >>> layer(jnp.array([1.0, 2.0, 3.0])).tolist()
    [6.0, 12.0, 14.0]
    """

    structured = True

    def __init__(self, diagonals: Any):
        self.diagonals = parameter("diagonals", diagonals, ("2b + 1", "n"))
        shape = self.diagonals.shape
        if shape[0] % 2 == 0:
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

    def _rows(self) -> tuple[jax.Array, int]:
        """Rows in blocks, each over the columns of three blocks, (m, b, 3b); and b."""
        d, b = self.diagonals[...], max(self.half, BLOCK)
        m = -(-self.size // b) + 1  # one more than needed, to eliminate against
        at = jnp.arange(m * b)
        column = at + jnp.arange(-self.half, self.half + 1)[:, None]
        inside = (at < self.size) & (column >= 0) & (column < self.size)
        d = jnp.where(inside, jnp.pad(d, ((0, 0), (0, m * b - self.size))), 0)
        d = d.at[self.half].set(jnp.where(at < self.size, d[self.half], 1))  # identity past the end
        d = d.reshape(-1, m, b)
        rows = [jnp.pad(d[:, :, i], ((b + i - self.half, 2 * b - i - self.half - 1), (0, 0)))
                for i in range(b)]  # fmt: skip
        return jnp.stack(rows).transpose(2, 0, 1), b

    def _eliminate(self) -> tuple[tuple[jax.Array, ...], jax.Array]:
        """For each block the row operations, U⁻¹ and what U⁻¹ leaves beside; and the log det."""
        rows, b = self._rows()
        eye = jnp.eye(2 * b, dtype=rows.dtype)

        def step(above, below):
            both = jnp.concatenate([jnp.pad(above, ((0, 0), (0, b))), below])
            lu, _, order = jax.lax.linalg.lu(both[:, :b])
            lower = jnp.tril(lu[:b], -1) + eye[:b, :b]
            top = jax.scipy.linalg.solve_triangular(
                lower, eye[order[:b]], lower=True, unit_diagonal=True
            )
            operations = jnp.concatenate([top, eye[order[b:]] - lu[b:] @ top])
            rest = operations @ both[:, b:]
            upper = jnp.triu(lu[:b])
            solve = matrix_inverse(upper)
            logs = jnp.sum(jnp.log(jnp.abs(jnp.diagonal(upper))))
            return rest[b:], (operations, solve, solve @ rest[:b], logs)

        factor = jax.lax.scan(step, rows[0, :, b:], rows[1:])[1]
        return factor[:3], jnp.sum(factor[3])

    def factor(self) -> tuple[jax.Array, ...]:
        return () if self.half == 1 else self._eliminate()[0]

    def backward(self, y: jax.Array, factor: Any) -> jax.Array:
        if self.half == 1 and self.size > 2:  # the GPU's routine wants three rows
            d = self.diagonals[...].at[0, 0].set(0).at[2, -1].set(0)
            return jax.lax.linalg.tridiagonal_solve(d[0], d[1], d[2], y[:, None])[:, 0]
        operations, solve, beside = factor or self._eliminate()[0]
        m, b = solve.shape[:2]
        right = jnp.pad(y, (0, (m + 1) * b - self.size)).reshape(m + 1, b)

        def down(above, step):
            below, operations = step
            both = operations @ jnp.concatenate([above, below])
            return both[b:], both[:b]

        def up(after, step):
            top, solve, beside = step
            x = solve @ top - beside @ after
            return jnp.concatenate([x, after[:b]]), x

        top = jax.lax.scan(down, right[0], (right[1:], operations))[1]
        nothing = jnp.zeros(2 * b, y.dtype)
        x = jax.lax.scan(up, nothing, (top, solve, beside), reverse=True)[1]
        return x.reshape(-1)[: self.size]

    def log_abs_det(self) -> jax.Array:
        return self._eliminate()[1]
