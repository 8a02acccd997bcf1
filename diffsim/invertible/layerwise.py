"""The first rungs: undo the network layer by layer, and follow an error back through it."""

import jax
import jax.numpy as jnp

from diffsim._types import Network, Tree
from diffsim.invertible.activations import Activation
from diffsim.invertible.base import Layer
from diffsim.invertible.dense import Rectangular
from diffsim.invertible.status import Inversion, InversionStatus


def undo(layers: list[Layer], factors: Tree, y: jax.Array, clip: bool):
    """x, the outputs of all layers on the way, and whether a target was outside or clipped."""
    outputs, outside, clipped = [], jnp.asarray(False), jnp.asarray(False)
    for layer, factor in reversed(list(zip(layers, factors))):
        if isinstance(layer, Activation):
            beyond = jnp.any(~layer.reached(y) & ~jnp.isnan(y))
            if clip or layer.domain == "clip":
                clipped = clipped | beyond
                y = layer.clipped(y)
            else:
                outside = outside | beyond
                y = jnp.where(layer.reached(y), y, jnp.nan)
            outputs.append(y)
            y = layer.preimage(y)
        else:
            outputs.append(y)
            y = layer.inverse(y, factor)
    return y, outputs[::-1], outside, clipped


def rounding(key: jax.Array, x: jax.Array) -> jax.Array:
    """What rounding may have changed in x: up to half a unit in the last place, drawn."""
    half = jnp.finfo(x.dtype).eps / 2
    return x * jax.random.uniform(key, x.shape, x.dtype, -half, half)


def follow_error(layers: list[Layer], factors: Tree, outputs: list[jax.Array], tangent: jax.Array):
    """A perturbation of y, and a rounding of every value on the way, carried back to x.

    Returns the norm of what arrives and the layer that magnifies roundings most, relative to the
    values.
    """
    growths, key, norm = [], jax.random.key(0), jnp.linalg.norm
    for i in reversed(range(len(layers))):
        layer, y = layers[i], outputs[i]

        def back(y, layer=layer, factor=factors[i]):
            activation = isinstance(layer, Activation)
            return layer.preimage(y) if activation else layer.inverse(y, factor)

        x, push = jax.linearize(back, y)
        own = rounding(jax.random.fold_in(key, i), y)
        pushed = push(own)
        growths.append(norm(pushed) / norm(x) / (norm(own) / norm(y)))
        tangent = push(tangent) + pushed
    dominant = jnp.argmax(jnp.nan_to_num(jnp.stack(growths[::-1]))).astype(jnp.int32)
    return norm(tangent + rounding(key, x)), dominant


def exact(
    network: Network, layers: list[Layer], factors: Tree, y: jax.Array, clip: bool
) -> Inversion:
    """The inversion of one y through square layers."""
    finite = jnp.all(jnp.isfinite(y))
    x, outputs, outside, clipped = undo(layers, factors, y, clip)
    still = jax.lax.stop_gradient
    kept, outputs, target = still(x), still(outputs), still(y)
    residual = still(network(kept)) - target
    error, layer = follow_error(still(layers), still(factors), outputs, residual)
    status = InversionStatus.first(
        NOT_FINITE=~finite,
        OUT_OF_RANGE=outside,
        SINGULAR=~jnp.all(jnp.isfinite(x)) | ~jnp.isfinite(error),
        CLIPPED=clipped,
        ILL_CONDITIONED=error > 0.1 * jnp.linalg.norm(kept),
    )
    zero, norm = jnp.int32(0), jnp.linalg.norm(residual)
    return Inversion(x, norm, still(error), status, zero, layer, jnp.int32(4))


def is_square(layers: list[Layer]) -> bool:
    return not any(isinstance(layer, Rectangular) for layer in layers)
