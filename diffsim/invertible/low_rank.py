"""Diagonal plus low rank, solved by Woodbury's formula made stable for small diagonals."""

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from diffsim import _linalg
from diffsim._types import ArrayLike, Tree
from diffsim.invertible.base import Linear, matrix_inverse, normal, parameter


class LowRank(Linear):
    """y = d ∘ x + U Vᵀ x.

    Woodbury divides by d, and loses everything where some |d| is tiny although the sum is well
    conditioned. At most k entries can be: more would leave the sum itself nearly singular. So
    the k smallest are set to a typical size and the change is added to the low-rank part:
    D + UVᵀ = D' + [U, E]·[V, E(d − d')]ᵀ, whose 2k × 2k core is solved with pivoting.

    Args:
        diagonal: d, (n,).
        left: U, (n, k).
        right: V, (n, k).

    >>> layer = LowRank([0.0, 1.0], [[1.0], [0.0]], [[1.0], [0.0]])  # Woodbury would divide by 0
    >>> layer.inverse(jnp.array([3.0, 4.0])).tolist()
    [3.0, 4.0]
    """

    structured = True

    def __init__(self, diagonal: ArrayLike, left: ArrayLike, right: ArrayLike):
        self.left = parameter("left", left, ("n", "k"))
        self.right = parameter("right", right, self.left.shape)
        self.diagonal = parameter("diagonal", diagonal, self.left.shape[:1])
        self.size = self.left.shape[0]

    @classmethod
    def random(
        cls, size: int, rank: int = 32, *, rngs: nnx.Rngs, dtype: DTypeLike | None = None
    ) -> "LowRank":
        shape = (size, min(size, rank))
        left, right = (normal(rngs, shape, dtype) / (2 * size**0.5) for _ in range(2))
        return cls(jnp.exp(0.3 * normal(rngs, (size,), dtype)), left, right)

    def forward(self, x: jax.Array) -> jax.Array:
        return self.diagonal[...] * x + self.left[...] @ (self.right[...].T @ x)

    def _core(self) -> tuple[jax.Array, ...]:
        """d', where it differs, by how much, and I + ṼᵀD'⁻¹Ũ."""
        d, u, v = self.diagonal[...], self.left[...], self.right[...]
        k = u.shape[1]
        small = jax.lax.top_k(-jnp.abs(d), k)[1]
        typical = jax.lax.stop_gradient(jnp.mean(jnp.abs(d)))
        typical = jnp.where(typical == 0, 1, typical)
        raised = d.at[small].set(typical)
        change = d[small] - typical
        du = u / raised[:, None]
        # Ṽ = [V, E·change], Ũ = [U, E], written out as E only selects rows.
        core = jnp.block(
            [
                [v.T @ du, v[small].T / typical],
                [change[:, None] * du[small], jnp.diag(change) / typical],
            ]
        )
        return raised, small, change, jnp.eye(2 * k, dtype=d.dtype) + core

    def factor(self) -> tuple[jax.Array, ...]:
        raised, small, change, core = self._core()
        return 1 / raised, small, change, matrix_inverse(core)

    def inverse(self, y: jax.Array, factor: Tree = None) -> jax.Array:
        inverse, small, change, core = factor
        u, v = self.left[...], self.right[...]
        k = u.shape[1]
        x = inverse * y
        c = core @ jnp.concatenate([v.T @ x, change * x[small]])
        push = (u @ c[:k]).at[small].add(c[k:])
        return x - inverse * push

    def log_abs_det(self) -> jax.Array:
        raised, _, _, core = self._core()
        found = jnp.sum(jnp.log(jnp.abs(raised))) + _linalg.log_abs_det(core)
        return jnp.where(jnp.all(raised != 0), found, -jnp.inf)  # more than k zeros: singular
