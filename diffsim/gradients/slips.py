"""Classic mistakes in a hand-written backward pass, recognised by the gradient they give."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffsim.gradients.backprop import CORRECT, Layer, gradient


def _only(index: int, wrong, right):
    """A rule that is wrong in one layer."""

    def rule(layer, *arguments):
        return (wrong if layer == index else right)(layer, *arguments)

    return rule


def backprop_slips(
    layers: list[Layer], inputs: jax.Array, targets: jax.Array
) -> dict[str, list[Layer]]:
    """The gradient that each slip, in each place, would give: name → layers.

    Slips that cannot be made (a transposed weight that is not square) are left out.
    """
    c: Any = CORRECT
    rules = {
        "wrong sign: target − output in the error": c.replace(error=lambda o, t: t - o),
        "missing 1/n: summed over the batch": c.replace(average=lambda total, n: total),
        "1/n twice": c.replace(average=lambda total, n: total / n**2),
        "factor 2: the loss's ½ left out": c.replace(average=lambda total, n: 2 * total / n),
        "factor ½ too much": c.replace(average=lambda total, n: total / (2 * n)),
    }
    for index, layer in enumerate(layers):
        function, square = layer.function, layer.weights.shape[0] == layer.weights.shape[1]

        def add(name, index=index, **wrong):
            swapped = {rule: _only(index, bad, getattr(c, rule)) for rule, bad in wrong.items()}
            rules[f"{name} (layer {index})"] = c.replace(**swapped)

        add("a fed where z belongs in f′", slope=lambda l, f, z, a: f.slope(a))  # noqa: E741
        if function.slope_from_value is not None:
            add(
                "z fed where a belongs in f′",
                slope=lambda l, f, z, a: f.slope_from_value(z),  # noqa: E741
            )
        add("f′ left out", slope=lambda l, f, z, a: jnp.ones_like(z))  # noqa: E741
        add("missing bias: its gradient is zero", bias=lambda l, delta: jnp.zeros_like(delta))  # noqa: E741
        add("missing bias in the forward pass", affine=lambda l, w, b, a: w @ a)  # noqa: E741
        if index < len(layers) - 1:
            add("wrong sign of δ", delta=lambda l, delta: -delta)  # noqa: E741
        if index > 0:
            add("z fed where a belongs in δ aᵀ", weights=lambda l, d, z, a: jnp.outer(d, z))  # noqa: E741
        if square:
            add("transposed weight gradient", weights=lambda l, d, z, a: jnp.outer(a, d))  # noqa: E741
        if square and index > 0:
            add("transposed weight: W δ for Wᵀδ", back=lambda l, w, delta: w @ delta)  # noqa: E741
    return {name: gradient(layers, inputs, targets, rule) for name, rule in rules.items()}


def _close(first: Any, second: Any, tolerance: float) -> bool:
    """Whether all leaves agree, each to the tolerance of its own largest entry."""
    return all(
        np.max(np.abs(np.asarray(a) - np.asarray(b)), initial=0)
        <= tolerance * np.max(np.abs(np.asarray(b)), initial=0)
        for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(second))
    )


def matching(given: Any, hypotheses: dict[str, Any], tolerance: float) -> list[str]:
    """Names of the hypotheses that a gradient known to be wrong equals, leaf by leaf."""
    return [name for name, wrong in hypotheses.items() if _close(given, wrong, tolerance)]


def leaf_slip(given: np.ndarray, measured: np.ndarray, tolerance: float) -> str | None:
    """What one wrong leaf looks like: zero, negated, transposed, scaled; None for none of them."""
    size = np.linalg.norm(measured)

    def same(candidate):
        return np.linalg.norm(given - candidate) <= tolerance * size

    if size == 0 or given.size < 2:
        return None
    if not np.any(given):
        return "missing: it is zero"
    if same(-measured):
        return "wrong sign"
    if given.ndim == 2 and given.shape[0] == given.shape[1] and same(measured.T):
        return "transposed"
    factor = float(np.vdot(measured, given) / size**2)
    if factor != 0 and same(factor * measured):
        return f"scaled by {factor:.4g}"
    return None
