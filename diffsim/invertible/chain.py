"""Layers one after another, and backpropagation through them that stores no activations."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from diffsim.invertible.base import Layer


class Chain(Layer):
    """y = f_L(… f₂(f₁(x))), itself a layer.

    Raises:
        TypeError: something that is not a layer.
        ValueError: no layers, or sizes that differ.

    >>> from diffsim.invertible import Bias, Diagonal
    >>> chain = Chain([Diagonal([2.0, 4.0]), Bias([1.0, 1.0])])
    >>> chain(jnp.ones(2)).tolist(), chain.inverse(jnp.array([3.0, 5.0])).tolist()
    ([3.0, 5.0], [1.0, 1.0])
    """

    def __init__(self, layers: Sequence[Layer]):
        for layer in layers:
            if not isinstance(layer, Layer):
                raise TypeError(f"layers: expected invertible layers, got {type(layer).__name__}")
        sizes = {layer.size for layer in layers} - {None}
        if not layers or len(sizes) > 1:
            raise ValueError(f"layers: expected some of one size, got sizes {sorted(sizes)}")
        self.layers = nnx.List(layers)
        self.size = sizes.pop() if sizes else None

    def forward(self, x: jax.Array) -> jax.Array:
        for layer in self.layers:
            x = layer(x)
        return x

    def factor(self) -> tuple:
        return tuple(layer.factor() for layer in self.layers)

    def backward(self, y: jax.Array, factor: Any) -> jax.Array:
        for layer, kept in reversed(list(zip(self.layers, factor))):
            y = layer.inverse(y, kept)
        return y

    def log_det(self, x: jax.Array) -> jax.Array:
        total = jnp.zeros((), x.dtype)
        for layer in self.layers:
            total = total + layer.log_det(x)
            x = layer(x)
        return total


def drift(chain: Chain, x: jax.Array) -> jax.Array:
    """‖f⁻¹(f(x)) − x‖ / ‖x‖: what :func:`reversible` would differentiate at instead of x."""
    return jnp.linalg.norm(chain.inverse(chain(x)) - x) / jnp.linalg.norm(x)


def reversible(chain: Chain, *, tolerance: float | None = None) -> Callable:
    """The chain as a function whose reverse pass stores one activation, whatever the depth.

    Backwards, each layer's input is recomputed from its output by the inverse (Gomez et al.,
    The reversible residual network, 2017, algorithm 1). At the end the recomputed x is compared
    with the given one: if they differ by more than ``tolerance``, the gradients are NaN, as
    they would belong to another point.

    Args:
        chain: layers that are well conditioned enough to be undone.
        tolerance: largest relative drift; None for the square root of the rounding unit.

    Returns:
        ``f(parameters, x) → y`` for ``parameters = nnx.state(chain)``; reverse mode only.

    >>> from diffsim.invertible import Diagonal
    >>> chain = Chain([Diagonal([2.0]), Diagonal([3.0])])
    >>> f = reversible(chain)
    >>> jax.grad(lambda x: f(nnx.state(chain), x)[0])(jnp.ones(1)).tolist()
    [6.0]
    """
    structure, _ = nnx.split(chain)

    def layers(parameters):
        return list(nnx.merge(structure, parameters).layers)

    @jax.custom_vjp
    def apply(parameters, x):
        for layer in layers(parameters):
            x = layer(x)
        return x

    def forward(parameters, x):
        y = apply(parameters, x)
        return y, (parameters, x, y)

    def reverse(kept, cotangent):
        parameters, x, y = kept
        gradients = []
        for layer in reversed(layers(parameters)):
            graph, state = nnx.split(layer)
            before = layer.inverse(y)
            # The barrier keeps the compiler from undoing all layers first and pulling back after.
            before, cotangent = jax.lax.optimization_barrier((before, cotangent))
            pull = jax.vjp(lambda s, x, g=graph: nnx.merge(g, s)(x), state, before)[1]
            gradient, cotangent = pull(cotangent)
            y, cotangent, gradient = jax.lax.optimization_barrier((before, cotangent, gradient))
            gradients.append(gradient)
        limit = jnp.finfo(x.dtype).eps ** 0.5 if tolerance is None else tolerance
        drifted = ~(jnp.linalg.norm(y - x) <= limit * jnp.linalg.norm(x))
        spoil = jnp.where(drifted, jnp.nan, 0).astype(x.dtype)
        leaves = [leaf for gradient in gradients[::-1] for leaf in jax.tree.leaves(gradient)]
        leaves = [g + spoil.astype(g.dtype) if g.dtype != jax.dtypes.float0 else g for g in leaves]
        return jax.tree.unflatten(jax.tree.structure(parameters), leaves), cotangent + spoil

    apply.defvjp(forward, reverse)
    return apply
