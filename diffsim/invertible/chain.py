"""Layers one after another, and backpropagation through them that stores no activations."""

import itertools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from diffsim._types import Tree
from diffsim.invertible.base import Layer


class Chain(Layer):
    """y = f_L(… f₂(f₁(x))), itself a layer.

    With a ``Rectangular`` layer the inverse is the composed pseudo-inverse.

    Raises:
        TypeError: something that is not a layer.
        ValueError: no layers, or one that does not fit the one before it.

    >>> from diffsim.invertible import Bias, Diagonal
    >>> chain = Chain([Diagonal([2.0, 4.0]), Bias([1.0, 1.0])])
    >>> chain(jnp.ones(2)).tolist(), chain.inverse(jnp.array([3.0, 5.0])).tolist()
    ([3.0, 5.0], [1.0, 1.0])
    """

    def __init__(self, layers: Sequence[Layer]):
        for layer in layers:
            if not isinstance(layer, Layer):
                raise TypeError(f"layers: expected invertible layers, got {type(layer).__name__}")
        sized = [layer for layer in layers if layer.size is not None]
        for before, after in itertools.pairwise(sized):
            if (before.outputs or before.size) != after.size:
                got = [f"{layer.size} → {layer.outputs or layer.size}" for layer in sized]
                raise ValueError(f"layers: expected each to fit the one before, got {got}")
        if not layers:
            raise ValueError("layers: expected at least one")
        self.layers = nnx.List(layers)
        self.size = sized[0].size if sized else None
        self.outputs = (sized[-1].outputs or sized[-1].size) if sized else None

    def forward(self, x: jax.Array) -> jax.Array:
        for layer in self.layers:
            x = layer(x)
        return x

    def factor(self) -> tuple:
        return tuple(layer.factor() for layer in self.layers)

    def inverse(self, y: jax.Array, factor: Tree = None) -> jax.Array:
        for layer, kept in reversed(list(zip(self.layers, factor))):
            y = layer.inverse(y, kept)
        return y

    def log_det(self, x: jax.Array) -> jax.Array:
        return self.forward_and_log_det(x)[1]

    def forward_and_log_det(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        total = jnp.zeros((), x.dtype)
        for layer in self.layers:
            x, change = layer.forward_and_log_det(x)
            total = total + change
        return x, total

    def inverse_and_log_det(self, y: jax.Array, factor: Tree = None) -> tuple[jax.Array, jax.Array]:
        total = jnp.zeros((), y.dtype)
        for layer, kept in reversed(list(zip(self.layers, factor))):
            y, change = layer.inverse_and_log_det(y, kept)
            total = total + change
        return y, total


def drift(chain: Chain, x: jax.Array) -> jax.Array:
    """‖f⁻¹(f(x)) − x‖ / (1 + ‖x‖): how far from x :func:`reversible` would differentiate."""
    return _distance(chain.inverse(chain(x)), x)


def _distance(found: jax.Array, x: jax.Array) -> jax.Array:
    return jnp.linalg.norm(found - x) / (1 + jnp.linalg.norm(x))


def reversible(chain: Chain, *, tolerance: float | None = None) -> Callable:
    """The chain as a function whose reverse pass stores one activation, whatever the depth.

    Backwards, each layer's input is recomputed from its output by the inverse (Gomez et al.,
    The reversible residual network, 2017, algorithm 1). At the end the recomputed x is compared
    with the given one: if they differ by more than ``tolerance``, the gradients are NaN, as
    they would belong to another point.

    Args:
        chain: layers that are well conditioned enough to be undone.
        tolerance: largest :func:`drift`; None for the square root of the rounding unit.

    Returns:
        ``f(parameters, x) → y`` for ``parameters = nnx.state(chain, nnx.Param)``; reverse mode
        only.

    >>> from diffsim.invertible import Diagonal
    >>> chain = Chain([Diagonal([2.0]), Diagonal([3.0])])
    >>> f = reversible(chain)
    >>> jax.grad(lambda x: f(nnx.state(chain, nnx.Param), x)[0])(jnp.ones(1)).tolist()
    [6.0]
    """
    structure, *states = nnx.split(chain, nnx.Param, ...)

    def layers(parameters):
        return list(nnx.merge(structure, parameters, states[1]).layers)

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
            graph, *parts = nnx.split(layer, nnx.Param, ...)
            before = layer.inverse(y)
            # The barrier keeps the compiler from undoing all layers first and pulling back after.
            before, cotangent = jax.lax.optimization_barrier((before, cotangent))

            def f(state, x, graph=graph, fixed=parts[1]):
                return nnx.merge(graph, state, fixed)(x)

            pull = jax.vjp(f, parts[0], before)[1]
            gradient, cotangent = pull(cotangent)
            y, cotangent, gradient = jax.lax.optimization_barrier((before, cotangent, gradient))
            gradients.append(gradient)
        limit = jnp.finfo(x.dtype).eps ** 0.5 if tolerance is None else tolerance
        spoil = jnp.where(_distance(y, x) <= limit, 0, jnp.nan).astype(x.dtype)
        leaves = [leaf for gradient in gradients[::-1] for leaf in jax.tree.leaves(gradient)]
        leaves = [g + spoil.astype(g.dtype) for g in leaves]
        return jax.tree.unflatten(jax.tree.structure(parameters), leaves), cotangent + spoil

    apply.defvjp(forward, reverse)
    return apply
