"""The loss as a method sees it: a function of one flat vector, with its keys and its failures."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from diffsim._types import Tree
from diffsim.gradients.flat import flatten
from diffsim.gradients.laws import Distribution, Law


def mapped(function: Callable, chunk: int | None, *arguments: Tree) -> Tree:
    """``vmap(function)(*arguments)``, at most ``chunk`` rows in memory at a time."""
    if chunk is None:
        return jax.vmap(function)(*arguments)
    return jax.lax.map(lambda row: function(*row), arguments, batch_size=chunk)


class Problem:
    """One call of one estimator: lives for that call only, so it may keep count of failures.

    Attributes:
        x: the flat parameters, (p,): the point, or [mean, scale] of a Distribution.
        dimension: d, the length of the flattened point the loss is given.
        key: for the method's own draws; None where the method draws nothing.
        loss: the loss as the caller gave it (an ``UnrolledLoss``, say).
        unravel: from a flat point to the tree the loss takes.
    """

    def __init__(self, loss, x, args=(), *, has_aux, keys, stochastic, penalty=None):
        self.loss, self.args, self.has_aux, self.penalty = loss, args, has_aux, penalty
        self.stochastic = stochastic
        self.key, self.loss_key, self.aux_key = keys
        self.failures: list[jax.Array] = []
        self.spread = isinstance(x, Distribution)
        if self.spread:
            mean, self.unravel = flatten("x.mean", x.mean)
            scale, unravel_scale = flatten("x.scale", x.scale)
            if scale.size not in (1, mean.size):
                got = f"{scale.size} for a mean of {mean.size}"
                raise ValueError(f"x.scale: expected a scalar or a tree like x.mean, got {got}")
            scale = scale.astype(mean.dtype)
            self.x = jnp.concatenate([mean, scale])
            self.dimension = mean.size
            self.unravel_x = lambda flat: Distribution(
                self.unravel(flat[: mean.size]), unravel_scale(flat[mean.size :])
            )
        else:
            self.x, self.unravel = flatten("x", x)
            self.dimension = self.x.size
            self.unravel_x = self.unravel

    @property
    def point(self) -> jax.Array:
        """Where the loss is differentiated, (d,): x, or the mean of a Distribution."""
        return self.x[: self.dimension]

    def call(self, point: jax.Array, key: jax.Array | None) -> tuple[jax.Array, Tree]:
        """The loss and its aux (None where it has none) at one flat point."""
        extra = {"key": key} if self.stochastic else {}
        result = self.loss(self.unravel(point), *self.args, **extra)
        if self.has_aux and not (isinstance(result, tuple) and len(result) == 2):
            raise TypeError(
                f"loss: expected (scalar, aux) with has_aux, got {type(result).__name__}"
            )
        value, aux = result if self.has_aux else (result, None)
        if isinstance(value, tuple):
            raise TypeError("loss: expected a scalar, got a tuple (pass has_aux=True for an aux)")
        value = jnp.asarray(value)
        if value.shape != ():
            raise ValueError(f"loss: expected a scalar, got shape {value.shape}")
        if not jnp.issubdtype(value.dtype, jnp.inexact):
            raise TypeError(f"loss: expected a floating scalar, got {value.dtype}")
        return value, aux

    def value(self, point: jax.Array, key: jax.Array | None = None) -> jax.Array:
        """The raw loss at one flat point."""
        return self.call(point, key)[0]

    def aux(self) -> Tree:
        """The loss's aux at x itself, None where it has none."""
        return self.call(self.point, self.aux_key)[1] if self.has_aux else None

    def keys(self, count: int) -> jax.Array | None:
        """One key per row for a stochastic loss, else None."""
        return None if self.loss_key is None else jax.random.split(self.loss_key, count)

    def settle(self, values: jax.Array) -> jax.Array:
        """Count the values that are not finite; they become the penalty, or NaN."""
        bad = ~jnp.isfinite(values)
        self.failures.append(jnp.sum(bad, dtype=jnp.int32))
        instead = jnp.nan if self.penalty is None else self.penalty
        return jnp.where(bad, jnp.asarray(instead, values.dtype), values)

    def evaluate(self, points: jax.Array, chunk: int | None = None) -> jax.Array:
        """Losses at points (m, ..., d), shape (m, ...); row i shares one key (common numbers)."""
        shape = points.shape[:-1]
        keys = self.keys(shape[0])
        if keys is not None:
            extra = (1,) * (len(shape) - 1)
            keys = jnp.broadcast_to(keys.reshape((shape[0], *extra)), shape).reshape(-1)
        values = mapped(self.value, chunk, points.reshape(-1, points.shape[-1]), keys)
        return self.settle(values.reshape(shape))

    def here(self, count: int = 1) -> jax.Array:
        """The loss at x itself, (count,): more than one only helps a stochastic loss."""
        count = count if self.loss_key is not None else 1
        return self.evaluate(jnp.broadcast_to(self.point, (count, self.dimension)))

    def differentiate(
        self,
        path: Callable,
        noise: jax.Array | None,
        count: int,
        chunk: int | None = None,
        mode: str = "reverse",
    ) -> tuple[jax.Array, jax.Array]:
        """Losses (m,) and derivatives (m, p) of x ↦ loss(path(x, noise_i), key_i).

        ``count`` keys are drawn; where there are several times as many rows they come round again.
        """

        def row(drawn, key):
            def along(x):
                return self.value(path(x, drawn), key)

            if mode == "reverse":
                return jax.value_and_grad(along)(self.x)
            return along(self.x), jax.jacfwd(along)(self.x)

        keys = self.keys(count)
        if noise is None and keys is None:
            value, gradient = row(None, None)
            values, gradients = value[None], gradient[None]
        else:
            if keys is not None and noise is not None:
                keys = jnp.concatenate([keys] * (len(noise) // count))
            values, gradients = mapped(row, chunk, noise, keys)
        instead = jnp.nan if self.penalty is None else 0.0  # a penalty is a constant
        gradients = jnp.where(jnp.isfinite(values)[:, None], gradients, instead)
        return self.settle(values), gradients

    def place(self, law: Law, x: jax.Array | None = None) -> tuple[jax.Array, Any]:
        """The mean (d,) and the law, its scale taken from x where x is a Distribution."""
        flat = self.x if x is None else x
        if not self.spread:
            return flat, law
        if not hasattr(law, "sigma"):
            raise TypeError(f"x: a Distribution needs a law with a field sigma, got {law!r}")
        mean, scale = flat[: self.dimension], flat[self.dimension :]
        return mean, law.replace(sigma=jnp.broadcast_to(scale, mean.shape))  # type: ignore[attr-defined]

    def fold_scale(self, gradient: jax.Array) -> jax.Array:
        """Gradients in the d scales, (m, d), as those in the scale x holds: (m, d) or (m, 1)."""
        full = self.x.size - self.dimension == self.dimension
        return gradient if full else jnp.sum(gradient, axis=1, keepdims=True)
