"""A residual block that is a contraction, inverted by an accelerated fixed point."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from diffsim import _linalg
from diffsim._types import ArrayLike, Tree
from diffsim.invertible.base import Layer, normal, parameter
from diffsim.invertible.implicit import root


def anderson(g: Callable, z: jax.Array, *, memory: int = 6, limit: int = 500) -> jax.Array:
    """z = g(z) by Anderson acceleration, until ‖g(z) − z‖ (not its square) is at rounding.

    Each new point mixes the last few so that the mixed residual is least; the best point met is
    returned.

    Args:
        g: a contraction of vectors.
        z: start, (h,).
        memory: points to mix.
        limit: most evaluations of g.

    Source: Walker & Ni, Anderson acceleration for fixed-point iterations, 2011.
    """
    unit = jnp.finfo(z.dtype).eps
    rows = jnp.zeros((memory, z.shape[0]), z.dtype)

    def body(state):
        k, z, points, residuals, best, least = state
        image = g(z)
        f = image - z
        size = jnp.linalg.norm(f)
        best = jnp.where(size < least, image, best)
        points, residuals = (a.at[k % memory].set(b) for a, b in ((points, image), (residuals, f)))
        filled = jnp.arange(memory) <= k
        gram = residuals @ residuals.T
        scale = jnp.max(jnp.diagonal(gram)) + jnp.finfo(z.dtype).tiny
        ridge = jnp.where(filled, 100 * unit, 1).astype(z.dtype)
        # Weights that sum to one and make the mixed residual least; empty rows weigh nothing.
        solved = _linalg.solve(gram / scale + jnp.diag(ridge), filled.astype(z.dtype))
        weights = jnp.where(filled, solved, 0)
        mixed = weights @ points / jnp.sum(weights)
        return k + 1, mixed, points, residuals, best, jnp.minimum(size, least)

    def goes_on(state):
        k, _, _, _, best, least = state
        return (k < limit) & ~(least <= 4 * unit * jnp.linalg.norm(best))

    start = (0, z, rows, rows, z, jnp.asarray(jnp.inf, z.dtype))
    return jax.lax.while_loop(goes_on, body, start)[4]


class Residual(Layer):
    """y = x + U tanh(V x + b), U and V scaled so that the second term's Lipschitz number is L < 1.

    With V x = z the inverse is a fixed point of h numbers, z = V y − V U tanh(z + b), whatever
    the size of x; and det ∂y/∂x = det(I + diag(tanh') V U), h × h, exactly.

    Args:
        left: U, (n, h), up to its scale.
        right: V, (h, n), up to its scale.
        bias: b, (h,).
        lipschitz: L, in (0, 1).

    Source: Behrmann et al., Invertible residual networks, 2019, theorem 1.
    """

    structured = True

    def __init__(
        self, left: ArrayLike, right: ArrayLike, bias: ArrayLike, *, lipschitz: float = 0.9
    ):
        self.left = parameter("left", left, ("n", "h"))
        self.right = parameter("right", right, self.left.shape[::-1])
        self.bias = parameter("bias", bias, self.left.shape[1:])
        if not 0 < lipschitz < 1:
            raise ValueError(f"lipschitz: expected in (0, 1), got {lipschitz}")
        self.size, self.lipschitz = self.left.shape[0], float(lipschitz)

    @classmethod
    def random(
        cls,
        size: int,
        hidden: int = 16,
        *,
        lipschitz: float = 0.9,
        rngs: nnx.Rngs,
        dtype: DTypeLike | None = None,
    ) -> "Residual":
        left, right = normal(rngs, (size, hidden), dtype), normal(rngs, (hidden, size), dtype)
        return cls(left, right, normal(rngs, (hidden,), dtype), lipschitz=lipschitz)

    def factor(self) -> tuple[jax.Array, ...]:
        """U and V with ‖U‖ = L and ‖V‖ = 1 (from h × h eigenvalues), and V U."""
        u, v = self.left[...], self.right[...]

        def norm(gram):
            square = jnp.linalg.eigvalsh(gram)[-1]
            return jnp.sqrt(jnp.where(square > 0, square, 1))  # zero weights stay zero

        u, v = self.lipschitz * u / norm(u.T @ u), v / norm(v @ v.T)
        return u, v, v @ u

    def forward(self, x: jax.Array) -> jax.Array:
        u, v, _ = self.factor()
        return x + u @ jnp.tanh(v @ x + self.bias[...])

    def inverse(self, y: jax.Array, factor: Tree = None) -> jax.Array:
        u, v, core = factor
        arguments = (v @ y, core, self.bias[...])

        def equation(z, arguments):
            start, core, bias = arguments
            return start - core @ jnp.tanh(z + bias) - z

        def solve(arguments):
            return anderson(lambda z: equation(z, arguments) + z, arguments[0]), ()

        z = root(equation, solve, arguments)[0]
        return y - u @ jnp.tanh(z + self.bias[...])

    def log_det(self, x: jax.Array) -> jax.Array:
        _, v, core = self.factor()
        slope = 1 - jnp.tanh(v @ x + self.bias[...]) ** 2
        return _linalg.log_abs_det(jnp.eye(slope.size, dtype=x.dtype) + slope[:, None] * core)
