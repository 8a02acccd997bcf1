"""Coupling and autoregression: each entry moved by a map whose parameters others decide."""

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from diffsim._types import Network, Tree
from diffsim.invertible.base import Joint, normal
from diffsim.invertible.transformers import Affine, Transformer


class Conditioner(nnx.Module):
    """p = W₂ tanh(W₁ x + b₁) + b₂, one hidden layer."""

    def __init__(
        self,
        inputs: int,
        hidden: int,
        outputs: int,
        *,
        rngs: nnx.Rngs,
        dtype: DTypeLike | None = None,
    ):
        self.first = nnx.Param(normal(rngs, (hidden, inputs), dtype) / inputs**0.5)
        self.shift = nnx.Param(normal(rngs, (hidden,), dtype))
        self.second = nnx.Param(0.3 * normal(rngs, (outputs, hidden), dtype) / hidden**0.5)
        self.last = nnx.Param(0.1 * normal(rngs, (outputs,), dtype))

    def __call__(self, x: jax.Array) -> jax.Array:
        hidden = jnp.tanh(self.first[...] @ x + self.shift[...])
        return self.second[...] @ hidden + self.last[...]


class Coupling(Joint):
    """y₁ = x₁, y₂ = τ(x₂; p(x₁)): one part stays and says how the other moves.

    Args:
        size: n.
        transformer: τ: ``Additive()``, ``Affine()``, ``Spline()`` or the like.
        conditioner: any function (an nnx module) of the part that stays, (n // 2,) or with
            ``flip`` (n − n // 2,), to transformer.count numbers for each entry that moves.
        flip: let the first part move instead of the second.

    Source: Dinh et al., NICE, 2014, section 3.2; RealNVP, 2016.
    """

    structured = True
    size: int

    def __init__(
        self, size: int, transformer: Transformer, conditioner: Network, *, flip: bool = False
    ):
        if size < 2:
            raise ValueError(f"size: expected at least 2, got {size}")
        self.size, self.transformer, self.flip = size, transformer, flip
        self.conditioner = conditioner

    @classmethod
    def random(
        cls,
        size: int,
        transformer: Transformer | None = None,
        *,
        flip: bool = False,
        hidden: int = 32,
        rngs: nnx.Rngs,
        dtype: DTypeLike | None = None,
    ) -> "Coupling":
        transformer = Affine() if transformer is None else transformer
        stay = size - size // 2 if flip else size // 2
        outputs = (size - stay) * transformer.count
        net = Conditioner(stay, hidden, outputs, rngs=rngs, dtype=dtype)
        return cls(size, transformer, net, flip=flip)

    def _split(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        first, second = x[: self.size // 2], x[self.size // 2 :]
        return (second, first) if self.flip else (first, second)

    def _parameters(self, stays: jax.Array) -> jax.Array:
        count = (self.size - stays.shape[0], self.transformer.count)
        found = self.conditioner(stays)
        if found.size != count[0] * count[1]:
            raise ValueError(
                f"conditioner: expected {count[0] * count[1]} outputs, got {found.size}"
            )
        return found.reshape(count)

    def _joined(self, stays: jax.Array, moved: jax.Array) -> jax.Array:
        return jnp.concatenate([moved, stays] if self.flip else [stays, moved])

    def forward_and_log_det(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        stays, moves = self._split(x)
        parameters = self._parameters(stays)
        moved = jax.vmap(self.transformer.forward)(moves, parameters)
        slopes = jax.vmap(self.transformer.log_slope)(moves, parameters)
        return self._joined(stays, moved), jnp.sum(slopes)

    def inverse_and_log_det(self, y: jax.Array, factor: Tree = None) -> tuple[jax.Array, jax.Array]:
        stays, moved = self._split(y)
        parameters = self._parameters(stays)
        moves = jax.vmap(self.transformer.inverse)(moved, parameters)
        slopes = jax.vmap(self.transformer.log_slope)(moves, parameters)
        return self._joined(stays, moves), -jnp.sum(slopes)


class Autoregressive(Joint):
    """y_i = τ(x_i; p(x_{i−w}, …, x_{i−1})): each entry moved by the w before it.

    One conditioner serves all places, so time and memory grow linearly with n. Forward is one
    batched pass; the inverse goes through the entries in order.

    Args:
        size: n.
        window: w; zeros stand before the first entry.
        transformer: τ, as for :class:`Coupling`.
        conditioner: any function (w,) → (transformer.count,).

    Source: Papamakarios et al., Masked autoregressive flow, 2017, eq. 3, with a finite memory.
    """

    structured = True
    size: int

    def __init__(self, size: int, window: int, transformer: Transformer, conditioner: Network):
        if window < 1:
            raise ValueError(f"window: expected at least 1, got {window}")
        self.size, self.window, self.transformer = size, window, transformer
        self.conditioner = conditioner

    @classmethod
    def random(
        cls,
        size: int,
        window: int = 3,
        transformer: Transformer | None = None,
        *,
        hidden: int = 8,
        rngs: nnx.Rngs,
        dtype: DTypeLike | None = None,
    ) -> "Autoregressive":
        transformer = Affine() if transformer is None else transformer
        net = Conditioner(window, hidden, transformer.count, rngs=rngs, dtype=dtype)
        return cls(size, window, transformer, net)

    def _parameters(self, x: jax.Array) -> jax.Array:
        padded = jnp.pad(x, (self.window, 0))
        columns = [padded[k : k + self.size] for k in range(self.window)]
        return jax.vmap(self.conditioner)(jnp.stack(columns, axis=1))

    def forward_and_log_det(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        parameters = self._parameters(x)
        y = jax.vmap(self.transformer.forward)(x, parameters)
        return y, jnp.sum(jax.vmap(self.transformer.log_slope)(x, parameters))

    def inverse_and_log_det(self, y: jax.Array, factor: Tree = None) -> tuple[jax.Array, jax.Array]:
        def step(before, entry):
            parameters = self.conditioner(before)
            x = self.transformer.inverse(entry, parameters)
            return jnp.append(before[1:], x), (x, parameters)

        x, parameters = jax.lax.scan(step, jnp.zeros(self.window, y.dtype), y)[1]
        return x, -jnp.sum(jax.vmap(self.transformer.log_slope)(x, parameters))
