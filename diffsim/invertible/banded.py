"""Banded matrices, tridiagonal among them, solved by elimination with pivoting."""

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from diffsim._types import ArrayLike, Tree
from diffsim.invertible.base import Linear, matrix_inverse, normal, parameter

BLOCK = 8  # rows eliminated at once: wide enough to be worth a step, narrow enough to be cheap


def _inside(d: jax.Array) -> jax.Array:
    """Diagonals (2b + 1, n) with zeros where they would reach outside the matrix."""
    half, size = d.shape[0] // 2, d.shape[1]
    column = jnp.arange(size) + jnp.arange(-half, half + 1)[:, None]
    return jnp.where((column >= 0) & (column < size), d, 0)


def _multiply(d: jax.Array, x: jax.Array) -> jax.Array:
    half = d.shape[0] // 2
    padded = jnp.pad(x, half)
    rows = (row * padded[k : k + x.shape[0]] for k, row in enumerate(d))
    return sum(rows, start=jnp.zeros_like(x))


def _rows(d: jax.Array) -> jax.Array:
    """Rows in blocks of b, each over the columns of three blocks, (m, b, 3b)."""
    half, size, b = d.shape[0] // 2, d.shape[1], max(d.shape[0] // 2, BLOCK)
    m = -(-size // b) + 1  # one more than needed, to eliminate against
    past = jnp.arange(m * b) >= size
    d = jnp.pad(_inside(d), ((0, 0), (0, m * b - size)))
    d = d.at[half].set(jnp.where(past, 1, d[half])).reshape(-1, m, b)  # identity past the end
    rows = [jnp.pad(d[:, :, i], ((b + i - half, 2 * b - i - half - 1), (0, 0))) for i in range(b)]
    return jnp.stack(rows).transpose(2, 0, 1)


def _eliminate(d: jax.Array) -> tuple[tuple[jax.Array, ...], jax.Array]:
    """For each block the row operations, U⁻¹ and what U⁻¹ leaves beside; and the log det."""
    rows = _rows(d)
    b = rows.shape[1]
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


def _substitute(factor: tuple[jax.Array, ...], y: jax.Array) -> jax.Array:
    operations, solve, beside = factor
    m, b = solve.shape[:2]
    right = jnp.pad(y, (0, (m + 1) * b - y.shape[0])).reshape(m + 1, b)

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
    return x.reshape(-1)[: y.shape[0]]


def cyclic_reduction(d: jax.Array, y: jax.Array) -> jax.Array:
    """x of a tridiagonal matrix, in log₂ n passes: all rows at once drop those 1, 2, 4, … away.

    There is no pivoting: see :func:`_reducible`.

    Source: Hockney & Jesshope, Parallel computers 2, 1988, section 5.4.2.
    """
    before, middle, after = _inside(d)

    def step(k, rows):
        before, after, y = rows
        far = jnp.left_shift(1, k)

        # What comes around from the other end is multiplied by zero.
        (b0, a0, y0), (b1, a1, y1) = (
            [jnp.roll(v, shift) for v in (before, after, y)] for shift in (far, -far)
        )
        scale = 1 / (1 - before * a0 - after * b1)
        return -before * b0 * scale, -after * a1 * scale, (y - before * y0 - after * y1) * scale

    passes = (y.shape[0] - 1).bit_length()
    rows = before / middle, after / middle, y / middle
    return jax.lax.fori_loop(0, passes, step, rows)[2]


def _reducible(d: jax.Array) -> jax.Array:
    """Whether cyclic reduction solves for an arbitrary vector as well as pivoting would."""
    n, unit = d.shape[1], jnp.finfo(d.dtype).eps
    y = jax.random.normal(jax.random.key(0), (n,), d.dtype)
    x = cyclic_reduction(d, y)
    left = jnp.max(jnp.abs(_multiply(d, x) - y))
    return left <= 10 * unit * jnp.max(_multiply(jnp.abs(d), jnp.abs(x)) + jnp.abs(y))


def _lapack(d: jax.Array, y: jax.Array) -> jax.Array:
    before, middle, after = _inside(d)
    return jax.lax.linalg.tridiagonal_solve(before, middle, after, y[:, None])[:, 0]


def _parallel(d: jax.Array, y: jax.Array) -> jax.Array:
    def pivoted(d, y):
        return _substitute(_eliminate(d)[0], y)

    return jax.lax.cond(_reducible(d), cyclic_reduction, pivoted, d, y)


def tridiagonal_solve(d: jax.Array, y: jax.Array) -> jax.Array:
    """x of (3, n) diagonals and y (n,), with derivatives of any order and mode.

    On a CPU LAPACK's; elsewhere, where a loop over the rows is slow and the library's does not
    pivot, cyclic reduction where that is stable, and pivoted elimination where it is not.
    """

    def solve(d, y):
        return jax.lax.platform_dependent(d, y, cpu=_lapack, default=_parallel)

    still = jax.lax.stop_gradient(d)
    turned = jnp.stack([jnp.roll(still[2], 1), still[1], jnp.roll(still[0], -1)])
    return jax.lax.custom_linear_solve(
        lambda x: _multiply(d, x), y, lambda _, y: solve(still, y), lambda _, y: solve(turned, y)
    )


class Banded(Linear):
    """y_i = Σ_k D[k, i] x_{i+k−b}, k = 0 … 2b: b diagonals on each side, tridiagonal for b = 1.

    The matrix is block tridiagonal with blocks of max(b, 8) rows, which Gaussian elimination
    with partial pivoting goes through in order; a tridiagonal one has a solve of its own.

    Args:
        diagonals: D, (2b + 1, n); entries that would reach outside the matrix are not used.

    Source: Golub & Van Loan, Matrix Computations, 4th ed., sections 4.3.3 and 4.5.

    >>> layer = Banded([[0.0, 1.0, 1.0], [4.0, 4.0, 4.0], [1.0, 1.0, 0.0]])
    >>> layer(jnp.array([1.0, 2.0, 3.0])).tolist()
    [6.0, 12.0, 14.0]
    """

    structured = True

    def __init__(self, diagonals: ArrayLike):
        self.diagonals = parameter("diagonals", diagonals, ("2b + 1", "n"))
        shape = self.diagonals.shape
        if shape[0] % 2 == 0:
            raise ValueError(f"diagonals: expected shape (2b + 1, n), got {shape}")
        self.half, self.size = shape[0] // 2, shape[1]

    @classmethod
    def random(
        cls, size: int, half: int = 1, *, rngs: nnx.Rngs, dtype: DTypeLike | None = None
    ) -> "Banded":
        """Diagonal near 1, the rest summing to less than a half."""
        width = 2 * half + 1
        noise = jnp.tanh(normal(rngs, (width, size), dtype)) / (2.5 * width)
        return cls(noise.at[half].add(1))

    def forward(self, x: jax.Array) -> jax.Array:
        return _multiply(self.diagonals[...], x)

    def factor(self) -> tuple[jax.Array, ...]:
        return () if self.half == 1 else _eliminate(self.diagonals[...])[0]

    def inverse(self, y: jax.Array, factor: Tree = None) -> jax.Array:
        if self.half == 1:
            return tridiagonal_solve(self.diagonals[...], y)
        return _substitute(factor, y)

    def log_abs_det(self) -> jax.Array:
        return _eliminate(self.diagonals[...])[1]
