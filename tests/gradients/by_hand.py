"""A net with everything in it and its backward pass in NumPy, with one planted mistake or none."""

import jax
import jax.numpy as jnp
import numpy as np

from diffsim.gradients import backprop

ACTS = ["tanh", "sigmoid", "softmax"]
VALUE = {
    "tanh": np.tanh,
    "sigmoid": lambda z: 1 / (1 + np.exp(-z)),
    "softplus": lambda z: np.log1p(np.exp(z)),
    "softmax": lambda z: np.exp(z) / np.sum(np.exp(z)),
}
SLOPE = {
    "tanh": lambda z: 1 / np.cosh(z) ** 2,
    "sigmoid": lambda z: np.exp(-z) / (1 + np.exp(-z)) ** 2,
    "softplus": lambda z: 1 / (1 + np.exp(-z)),
}
FROM_VALUE = {  # the same slopes of a = f(z)
    "tanh": lambda a: 1 - a**2,
    "sigmoid": lambda a: a * (1 - a),
    "softplus": lambda a: 1 - np.exp(-a),
}


def problem(acts, features=True):
    """Layers, inputs, targets, masks and decay; with features one of each, else a plain net."""
    net = backprop.init(jax.random.key(0), [3, 3, 3, 3], acts)
    inputs = jax.random.normal(jax.random.key(1), (5, 3))
    targets = jax.random.normal(jax.random.key(2), (5, 3))
    if not features:
        return net, inputs, targets, None, 0.0
    net[0] = net[0].replace(normalised=True)
    kept = [jax.random.bernoulli(jax.random.key(seed), 0.7, (5, 3)) for seed in (3, 4)]
    return net, inputs, targets, [*(k.astype(float) / 0.7 for k in kept), None], 0.05


def gradient(layers, inputs, targets, masks, decay, slip=None, place=None):
    """The textbook loop over layers and samples in float64, with an optional mistake."""

    def at(name, index):
        return (slip, place) == (name, index)

    W, b = [np.asarray(x.weights) for x in layers], [np.asarray(x.bias) for x in layers]
    acts, count = [x.activation for x in layers], len(inputs)
    masks = [None] * len(layers) if masks is None else masks
    masks = [np.ones((count, len(v))) if m is None else np.asarray(m) for m, v in zip(masks, b)]
    a, zs, values, outs, normals = np.asarray(inputs), [], [], [np.asarray(inputs)], {}
    for i, layer in enumerate(layers):
        z = np.array([W[i] @ row for row in a])
        if layer.normalised:
            deviation = np.sqrt(z.var(axis=0) + backprop.VARIANCE_FLOOR)
            z = (z - z.mean(axis=0)) / deviation
            normals[i] = z, deviation
        zs.append(z + (0 if at("no bias", i) else b[i]))
        values.append(np.array([VALUE[acts[i]](row) for row in zs[i]]))
        a = values[i] * masks[i]
        outs.append(a)
    error = outs[-1] - np.asarray(targets)
    if slip == "sign":
        error = -error
    deltas, inner = [None] * len(layers), [None] * len(layers)
    for i in reversed(range(len(layers))):
        if at("mask 0/1", i):
            error = error * (masks[i] > 0)
        elif not at("no mask", i):
            error = error * masks[i]
        if at("no slope", i):
            delta = error
        elif acts[i] == "softmax":
            delta = np.array([
                (np.diag(p) - (0 if at("diagonal", i) else np.outer(p, p))
                 - (np.diag(p**2) if at("diagonal", i) else 0)) @ e
                for p, e in zip(values[i], error)
            ])  # fmt: skip
        elif at("z for a", i):
            delta = error * FROM_VALUE[acts[i]](zs[i])
        else:
            delta = error * SLOPE[acts[i]](values[i] if at("a for z", i) else zs[i])
        deltas[i] = -delta if at("delta sign", i) else delta
        inner[i] = d = deltas[i]
        if i in normals and not at("no norm", i):
            z, deviation = normals[i]
            inner[i] = d / deviation
            if not at("constant norm", i):
                inner[i] = (d - d.mean(0) - z * (d * z).mean(0)) / deviation
        back = W[i].T if at("W for W.T", i) else W[i]
        error = np.array([back.T @ row for row in inner[i]])
    grads = []
    for i, layer in enumerate(layers):
        j = i + {"next": 1, "previous": -1}.get(slip, 0) * (place == i)
        fed = zs[i - 1] if at("z in outer", i) else outs[i]
        dW = sum(np.outer(d, row) for d, row in zip(inner[j], fed))
        dW = dW.T if at("grad T", i) else dW
        db = np.zeros_like(b[i]) if at("bias grad", i) else deltas[j].sum(axis=0)
        factor = {"1/n": count, "1/n twice": 1 / count, "twice": 2, "half": 0.5}.get(slip, 1)
        n = count / factor
        penalty = {"no L2": 0.0, "L2 sign": -decay, "L2 twice": 2 * decay}.get(slip, decay)
        dW = dW / n + penalty * W[i]
        grads.append(layer.replace(weights=jnp.asarray(dW), bias=jnp.asarray(db / n)))
    return grads


# Each slip with the name that `slips.backprop_slips` has for it.
PLANTED = [
    ("sign", None, "wrong sign: target − output in the error"),
    ("1/n", None, "missing 1/n: summed over the batch"),
    ("1/n twice", None, "1/n twice"),
    ("twice", None, "factor 2: the loss's ½ left out"),
    ("half", None, "factor ½ too much"),
    ("no L2", None, "missing L2 penalty"),
    ("L2 sign", None, "L2 penalty of the wrong sign"),
    ("L2 twice", None, "factor 2 in the L2 penalty"),
    *[("a for z", i, f"a fed where z belongs in f′ (layer {i})") for i in (0, 1)],
    *[("z for a", i, f"z fed where a belongs in f′ (layer {i})") for i in (0, 1)],
    *[("no slope", i, f"f′ left out (layer {i})") for i in range(3)],
    ("diagonal", 2, "softmax's diagonal only (layer 2)"),
    *[("no bias", i, f"missing bias in the forward pass (layer {i})") for i in range(3)],
    *[("bias grad", i, f"missing bias: its gradient is zero (layer {i})") for i in range(3)],
    *[("grad T", i, f"transposed weight gradient (layer {i})") for i in range(3)],
    *[("W for W.T", i, f"transposed weight: W δ for Wᵀδ (layer {i})") for i in (1, 2)],
    *[("delta sign", i, f"wrong sign of δ (layer {i})") for i in (0, 1)],
    *[("no mask", i, f"dropout mask not reused backwards (layer {i})") for i in (0, 1)],
    *[("mask 0/1", i, f"dropout mask without 1/keep backwards (layer {i})") for i in (0, 1)],
    ("constant norm", 0, "batch statistics taken as constants (layer 0)"),
    ("no norm", 0, "batch normalisation left out (layer 0)"),
    *[("next", i, f"δ of the next layer (layer {i})") for i in (0, 1)],
    *[("previous", i, f"δ of the previous layer (layer {i})") for i in (1, 2)],
    *[("z in outer", i, f"z fed where a belongs in δ aᵀ (layer {i})") for i in (1, 2)],
]
