"""A feed-forward net with its backward pass written out layer by layer.

For inputs a_0, layer l computes z_l = W_l a_{l−1} + b_l and a_l = f(z_l), and the loss of n
inputs is (1/n) Σ ½‖a_L − target‖². Backwards,

    δ_L = (a_L − target) ⊙ f′(z_L),   δ_l = f′(z_l) ⊙ W_{l+1}ᵀ δ_{l+1},
    ∂/∂W_l = δ_l a_{l−1}ᵀ,   ∂/∂b_l = δ_l,   averaged over the inputs.

A layer may be softmax, be normalised over the batch and have a dropout mask; weights may be
penalised.

Every line of it is a rule that can be swapped for a wrong one: that is how ``slips`` knows the
gradient each classic mistake would give.

Source: Rumelhart, Hinton & Williams 1986, eq. 4 to 7.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from flax import struct

from diffsim import _check

Masks = Sequence[jax.Array | None] | None
VARIANCE_FLOOR = 1e-5  # added to the variance of a batch


@struct.dataclass
class Nonlinearity:
    """f, its derivative as a function of z, and (where one exists) as a function of a = f(z).

    ``slope`` is None where f mixes its entries, whose ``back`` is then Jᵀδ from a.
    """

    name: str = struct.field(pytree_node=False)
    value: Callable = struct.field(pytree_node=False)
    slope: Callable | None = struct.field(pytree_node=False)
    slope_from_value: Callable | None = struct.field(pytree_node=False, default=None)
    back: Callable | None = struct.field(pytree_node=False, default=None)

    def pull(self, z: jax.Array, a: jax.Array, delta: jax.Array) -> jax.Array:
        """δ at f's output as δ at its input."""
        return delta * self.slope(z) if self.slope is not None else self.back(a, delta)  # type: ignore[misc]


def _leaky(z):
    return jnp.where(z > 0, z, 0.01 * z)


def _leaky_slope(z):
    return jnp.where(z > 0, jnp.ones_like(z), jnp.full_like(z, 0.01))


def _step(z):
    return (z > 0).astype(z.dtype)


def _sigmoid_slope(z):
    return jax.nn.sigmoid(z) * jax.nn.sigmoid(-z)


def _softmax_back(a, delta):
    return a * (delta - jnp.sum(a * delta, axis=-1, keepdims=True))


ACTIVATIONS = {
    activation.name: activation
    for activation in (
        Nonlinearity("tanh", jnp.tanh, lambda z: 1 - jnp.tanh(z) ** 2, lambda a: 1 - a**2),
        Nonlinearity("sigmoid", jax.nn.sigmoid, _sigmoid_slope, lambda a: a * (1 - a)),
        Nonlinearity("sin", jnp.sin, jnp.cos),  # cos z is ±√(1 − a²): a alone does not tell
        Nonlinearity("relu", jax.nn.relu, _step, _step),
        Nonlinearity("leaky-relu", _leaky, _leaky_slope, _leaky_slope),
        Nonlinearity("softplus", jax.nn.softplus, jax.nn.sigmoid, lambda a: -jnp.expm1(-a)),
        Nonlinearity("softmax", jax.nn.softmax, None, back=_softmax_back),
        Nonlinearity("identity", lambda z: z, jnp.ones_like, jnp.ones_like),
    )
}


@struct.dataclass
class DenseLayer:
    """One layer: weights (out, in), bias (out,), and the name of its activation.

    With ``normalised``, W a is normalised over the batch before the bias.
    """

    weights: jax.Array
    bias: jax.Array
    activation: str = struct.field(pytree_node=False, default="tanh")
    normalised: bool = struct.field(pytree_node=False, default=False)

    @property
    def function(self) -> Nonlinearity:
        return _check.named("activation", self.activation, ACTIVATIONS)


def init(key: jax.Array, sizes: Sequence[int], activations: Sequence[str]) -> list[DenseLayer]:
    """Layers with weights ~ N(0, 1/in) and biases ~ N(0, 1/100).

    >>> [layer.weights.shape for layer in init(jax.random.key(0), [3, 5, 2], ["tanh", "identity"])]
    [(5, 3), (2, 5)]
    """
    if len(sizes) != len(activations) + 1:
        got = f"{len(sizes)} sizes and {len(activations)} activations"
        raise ValueError(f"sizes: expected one more than activations, got {got}")
    layers = []
    for fan_in, fan_out, name in zip(sizes, sizes[1:], activations):
        key, weight_key, bias_key = jax.random.split(key, 3)
        weights = jax.random.normal(weight_key, (fan_out, fan_in)) / fan_in**0.5
        layers.append(DenseLayer(weights, 0.1 * jax.random.normal(bias_key, (fan_out,)), name))
    return layers


@struct.dataclass
class Rules:
    """Each line of the two passes as a function of batches (n, ·); i counts layers from 0."""

    shift: Callable = lambda i, z, b: z + b
    error: Callable = lambda output, target: output - target
    unmask: Callable = lambda i, mask, delta: delta * mask
    back_through: Callable = lambda i, f, z, a, delta: f.pull(z, a, delta)
    denormalise: Callable = lambda i, n, delta: _denormalised(n, delta)
    back: Callable = lambda i, w, delta: delta @ w
    delta: Callable = lambda i, delta: delta
    pick: Callable = lambda i, deltas: deltas[i]
    weights: Callable = lambda i, delta, z, a: delta.T @ a
    bias: Callable = lambda i, delta: delta
    average: Callable = lambda total, count: total / count
    penalty: Callable = lambda decay, w: decay * w


CORRECT = Rules()


def _normalised(z: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(z − mean)/deviation over the batch, and the deviation."""
    deviation = jnp.sqrt(jnp.var(z, axis=0) + VARIANCE_FLOOR)
    return (z - jnp.mean(z, axis=0)) / deviation, deviation


def _denormalised(normal: tuple[jax.Array, jax.Array], delta: jax.Array) -> jax.Array:
    """Back through the normalisation, mean and deviation included (Ioffe & Szegedy 2015, §3)."""
    z, deviation = normal
    return (delta - jnp.mean(delta, axis=0) - z * jnp.mean(delta * z, axis=0)) / deviation


def forward(
    layers: list[DenseLayer], inputs: jax.Array, masks: Masks = None, rules: Rules = CORRECT
) -> list[tuple]:
    """(z, f(z), a, normalisation) of each layer for inputs (n, in), with the inputs first."""
    record: list[tuple] = [(inputs, inputs, inputs, None)]
    for index, layer in enumerate(layers):
        z, normal = record[-1][2] @ layer.weights.T, None
        if layer.normalised:
            normal = _normalised(z)
            z = normal[0]
        z = rules.shift(index, z, layer.bias)
        value = layer.function.value(z)
        mask = None if masks is None else masks[index]
        record.append((z, value, value if mask is None else value * mask, normal))
    return record


def loss(
    layers: list[DenseLayer],
    inputs: jax.Array,
    targets: jax.Array,
    masks: Masks = None,
    decay: float = 0.0,
) -> jax.Array:
    """(1/n) Σ ½‖output − target‖² + ½ decay Σ ‖W‖² for inputs (n, in) and targets (n, out).

    Args:
        masks: for each layer None or what dropout multiplies its output with, 0 or 1/keep,
            (n, out) or (out,).
        decay: weight of the penalty; biases have none.

    >>> net = [DenseLayer(jnp.ones((1, 1)), jnp.zeros(1), "identity")]
    >>> float(loss(net, jnp.array([[3.0]]), jnp.array([[1.0]])))
    2.0
    """
    if inputs.ndim != 2 or targets.ndim != 2 or len(inputs) != len(targets):
        got = f"{inputs.shape} and {targets.shape}"
        raise ValueError(f"inputs, targets: expected shapes (n, in) and (n, out), got {got}")
    outputs = forward(layers, inputs, masks)[-1][2]
    squares = sum(jnp.sum(layer.weights**2) for layer in layers)
    return 0.5 * jnp.mean(jnp.sum((outputs - targets) ** 2, axis=1)) + 0.5 * decay * squares


def gradient(
    layers: list[DenseLayer],
    inputs: jax.Array,
    targets: jax.Array,
    masks: Masks = None,
    decay: float = 0.0,
    rules: Rules = CORRECT,
) -> list[DenseLayer]:
    """The gradient of :func:`loss` by the hand-written passes; equal to ``jax.grad(loss)``.

    >>> net = [DenseLayer(jnp.ones((1, 1)), jnp.zeros(1), "identity")]
    >>> float(gradient(net, jnp.array([[3.0]]), jnp.array([[1.0]]))[0].weights[0, 0])
    6.0
    """
    record = forward(layers, inputs, masks, rules)
    upstream = rules.error(record[-1][2], targets)
    outer: list[jax.Array] = []  # δ where the bias enters, which is what the bias sees
    inner: list[jax.Array] = []  # δ behind the normalisation, which is what the weights see
    for index in reversed(range(len(layers))):
        layer, (z, value, _, normal) = layers[index], record[index + 1]
        if masks is not None and masks[index] is not None:
            upstream = rules.unmask(index, masks[index], upstream)
        delta = rules.back_through(index, layer.function, z, value, upstream)
        outer.insert(0, rules.delta(index, delta))
        inner.insert(0, rules.denormalise(index, normal, outer[0]) if normal else outer[0])
        upstream = rules.back(index, layer.weights, inner[0])
    gradients = []
    for index, layer in enumerate(layers):
        z_in, _, a_in, _ = record[index]
        weights = rules.weights(index, rules.pick(index, inner), z_in, a_in)
        bias = jnp.sum(rules.bias(index, rules.pick(index, outer)), axis=0)
        average = rules.average(weights, len(inputs)) + rules.penalty(decay, layer.weights)
        gradients.append(layer.replace(weights=average, bias=rules.average(bias, len(inputs))))  # type: ignore[attr-defined]
    return gradients
