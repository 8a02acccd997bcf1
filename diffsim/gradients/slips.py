"""Classic mistakes in a hand-written backward pass, recognised by the gradient they give."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from diffsim._types import Tree
from diffsim.gradients.backprop import CORRECT, DenseLayer, gradient


def _only(index: int, wrong, right):
    """A rule that is wrong in one layer."""

    def rule(layer, *arguments):
        return (wrong if layer == index else right)(layer, *arguments)

    return rule


def backprop_slips(
    layers: list[DenseLayer], inputs: jax.Array, targets: jax.Array, masks=None, decay: float = 0.0
) -> dict[str, list[DenseLayer]]:
    """The gradient that each slip, in each place, would give: name → layers.

    Slips that cannot be made (a transposed weight that is not square) are left out. Arguments
    as for :func:`~diffsim.gradients.backprop.gradient`.
    """
    swap = functools.partial(dataclasses.replace, CORRECT)
    rules = {
        "wrong sign: target − output in the error": swap(error=lambda o, t: t - o),
        "missing 1/n: summed over the batch": swap(average=lambda total, n: total),
        "1/n twice": swap(average=lambda total, n: total / n**2),
        "factor 2: the loss's ½ left out": swap(average=lambda total, n: 2 * total / n),
        "factor ½ too much": swap(average=lambda total, n: total / (2 * n)),
    }
    if decay:
        rules["missing L2 penalty"] = swap(penalty=lambda decay, w: jnp.zeros_like(w))
        rules["L2 penalty of the wrong sign"] = swap(penalty=lambda decay, w: -decay * w)
        rules["factor 2 in the L2 penalty"] = swap(penalty=lambda decay, w: 2 * decay * w)
    masks = [None] * len(layers) if masks is None else masks
    for index, (layer, mask) in enumerate(zip(layers, masks)):
        function, square = layer.function, layer.weights.shape[0] == layer.weights.shape[1]

        def add(name, index=index, **wrong):
            swapped = {
                rule: _only(index, bad, getattr(CORRECT, rule)) for rule, bad in wrong.items()
            }
            rules[f"{name} (layer {index})"] = swap(**swapped)

        def fed(name, slope, function=function, add=add):
            add(name, back_through=lambda i, f, z, a, delta: delta * slope(z, a))

        if layer.activation == "softmax":
            fed("softmax's diagonal only", lambda z, a: a * (1 - a))
        else:
            fed("a fed where z belongs in f′", lambda z, a, f=function: f.slope(a))
        if function.slope_from_value is not None:
            fed("z fed where a belongs in f′", lambda z, a, f=function: f.slope_from_value(z))
        fed("f′ left out", lambda z, a: jnp.ones_like(z))
        if mask is not None:
            add("dropout mask not reused backwards", unmask=lambda i, mask, delta: delta)
            add(
                "dropout mask without 1/keep backwards",
                unmask=lambda i, mask, delta: delta * jnp.sign(mask),
            )
        if layer.normalised:
            add("batch statistics taken as constants", denormalise=lambda i, n, delta: delta / n[1])
            add("batch normalisation left out", denormalise=lambda i, n, delta: delta)
        for other, what in ((index + 1, "next"), (index - 1, "previous")):
            if 0 <= other < len(layers) and layers[other].bias.shape == layer.bias.shape:
                add(f"δ of the {what} layer", pick=lambda i, deltas, other=other: deltas[other])
        add("missing bias: its gradient is zero", bias=lambda i, delta: jnp.zeros_like(delta))
        add("missing bias in the forward pass", shift=lambda i, z, b: z)
        if index < len(layers) - 1:
            add("wrong sign of δ", delta=lambda i, delta: -delta)
        if index > 0:
            add("z fed where a belongs in δ aᵀ", weights=lambda i, d, z, a: d.T @ z)
        if square:
            add("transposed weight gradient", weights=lambda i, d, z, a: a.T @ d)
        if square and index > 0:
            add("transposed weight: W δ for Wᵀδ", back=lambda i, w, delta: delta @ w.T)
    return {
        name: gradient(layers, inputs, targets, masks, decay, rule) for name, rule in rules.items()
    }


def _close(first: Tree, second: Tree, tolerance: float) -> bool:
    """Whether all leaves agree, each to the tolerance of its own largest entry."""
    return all(
        np.max(np.abs(np.asarray(a) - np.asarray(b)), initial=0)
        <= tolerance * np.max(np.abs(np.asarray(b)), initial=0)
        for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(second))
    )


def matching(given: Tree, hypotheses: dict[str, Tree], tolerance: float) -> list[str]:
    """Names of the hypotheses that a gradient known to be wrong equals, leaf by leaf."""
    return [name for name, wrong in hypotheses.items() if _close(given, wrong, tolerance)]


def leaf_slip(
    given: np.ndarray, measured: np.ndarray, x: np.ndarray, error: float = 0.0
) -> str | None:
    """What one wrong leaf looks like, None for nothing known.

    A name must explain the mismatch, measured − given, to 1 %, and one with a factor to be fitted
    must be the only one to do so.

    Args:
        given, measured: the two gradients of the leaf, in its shape.
        x: the leaf.
        error: of ``measured``, as a norm; above 1 % of the mismatch nothing is named.
    """
    if broken := given.size - np.sum(np.isfinite(given)):
        return f"not finite: {broken} of {given.size} entries"
    mismatch = measured - given
    allowed = 0.01 * np.linalg.norm(mismatch)
    if not (np.isfinite(allowed) and allowed > error):
        return None

    def same(candidate):
        return np.linalg.norm(given - candidate) <= allowed

    if not np.any(given):
        return "missing: it is zero"
    if same(-measured):
        return "wrong sign"
    if given.ndim == 2 and given.shape[0] == given.shape[1] and same(measured.T):
        return "transposed"
    if given.size < 3:
        return None
    worst = np.unravel_index(np.argmax(np.abs(mismatch)), given.shape)
    rest = mismatch.copy()
    rest[worst] = 0
    if np.linalg.norm(rest) <= allowed:
        return f"one wrong entry: {[int(k) for k in worst]}"
    silent = np.abs(measured) <= allowed / given.size**0.5
    lost, idle = (given == 0) & ~silent, (given != 0) & silent
    rest = ~silent & ~lost
    if np.any(rest) and same(np.where(rest, measured, given)):
        if not np.any(idle):
            return f"masked: {np.sum(lost)} of {given.size} entries are zero and should not be"
        if not np.any(lost):
            return f"mask left out: {np.sum(idle)} of {given.size} entries should be zero"
        return "another mask than the loss's: zeros in other places"
    fitted = []
    for name, pattern, target in [
        ("scaled by {:.4g}", measured, given),
        ("missing a term {:.4g} x (L2 penalty)", x, mismatch),
        ("missing a term {:.4g} sign x (L1 penalty)", np.sign(x), mismatch),
    ]:
        factor = np.vdot(pattern, target) / max(np.vdot(pattern, pattern), 1e-300)
        if factor and np.linalg.norm(target - factor * pattern) <= allowed:
            fitted.append(name.format(factor))
    return fitted[0] if len(fitted) == 1 else None
