"""A feed-forward net with its backward pass written out layer by layer.

For one input a_0, layer l computes z_l = W_l a_{l−1} + b_l and a_l = f(z_l), and the loss of n
inputs is (1/n) Σ ½‖a_L − target‖². Backwards,

    δ_L = (a_L − target) ⊙ f′(z_L),   δ_l = f′(z_l) ⊙ W_{l+1}ᵀ δ_{l+1},
    ∂/∂W_l = δ_l a_{l−1}ᵀ,   ∂/∂b_l = δ_l,   averaged over the inputs.

Every line of it is a rule that can be swapped for a wrong one: that is how ``slips`` knows the
gradient each classic mistake would give.

Source: Rumelhart, Hinton & Williams 1986, eq. 4 to 7.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from flax import struct


@struct.dataclass
class Activation:
    """f, its derivative as a function of z, and (where one exists) as a function of a = f(z)."""

    name: str = struct.field(pytree_node=False)
    value: Callable = struct.field(pytree_node=False)
    slope: Callable = struct.field(pytree_node=False)
    slope_from_value: Callable | None = struct.field(pytree_node=False, default=None)


def _leaky(z):
    return jnp.where(z > 0, z, 0.01 * z)


def _leaky_slope(z):
    return jnp.where(z > 0, jnp.ones_like(z), jnp.full_like(z, 0.01))


def _step(z):
    return (z > 0).astype(z.dtype)


def _sigmoid_slope(z):
    return jax.nn.sigmoid(z) * jax.nn.sigmoid(-z)


ACTIVATIONS = {
    activation.name: activation
    for activation in (
        Activation("tanh", jnp.tanh, lambda z: 1 - jnp.tanh(z) ** 2, lambda a: 1 - a**2),
        Activation("sigmoid", jax.nn.sigmoid, _sigmoid_slope, lambda a: a * (1 - a)),
        Activation("sin", jnp.sin, jnp.cos),  # cos z is ±√(1 − a²): a alone does not tell
        Activation("relu", jax.nn.relu, _step, _step),
        Activation("leaky-relu", _leaky, _leaky_slope, _leaky_slope),
        Activation("softplus", jax.nn.softplus, jax.nn.sigmoid, lambda a: -jnp.expm1(-a)),
        Activation("identity", lambda z: z, jnp.ones_like, jnp.ones_like),
    )
}


@struct.dataclass
class Layer:
    """One layer: weights (out, in), bias (out,), and the name of its activation."""

    weights: jax.Array
    bias: jax.Array
    activation: str = struct.field(pytree_node=False, default="tanh")

    @property
    def function(self) -> Activation:
        if self.activation not in ACTIVATIONS:
            known = ", ".join(ACTIVATIONS)
            raise ValueError(f"activation: expected one of {known}, got {self.activation!r}")
        return ACTIVATIONS[self.activation]


def init(key: jax.Array, sizes: Sequence[int], activations: Sequence[str]) -> list[Layer]:
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
        layers.append(Layer(weights, 0.1 * jax.random.normal(bias_key, (fan_out,)), name))
    return layers


@struct.dataclass
class Rules:
    """Each line of the two passes as a function; l counts layers from 0."""

    affine: Callable = lambda l, w, b, a: w @ a + b  # noqa: E741
    error: Callable = lambda output, target: output - target
    slope: Callable = lambda l, f, z, a: f.slope(z)  # noqa: E741
    back: Callable = lambda l, w, delta: w.T @ delta  # noqa: E741
    delta: Callable = lambda l, delta: delta  # noqa: E741
    weights: Callable = lambda l, delta, z, a: jnp.outer(delta, a)  # noqa: E741
    bias: Callable = lambda l, delta: delta  # noqa: E741
    average: Callable = lambda total, count: total / count


CORRECT = Rules()


def forward(layers: list[Layer], inputs: jax.Array, rules: Rules = CORRECT) -> list[tuple]:
    """(z_l, a_l) for l = 0…L of one input (in,), with (input, input) first."""
    record = [(inputs, inputs)]
    for index, layer in enumerate(layers):
        z = rules.affine(index, layer.weights, layer.bias, record[-1][1])
        record.append((z, layer.function.value(z)))
    return record


def backward(
    layers: list[Layer], record: list[tuple], target: jax.Array, rules: Rules = CORRECT
) -> list[Layer]:
    """Gradient of ½‖output − target‖² for one input, as layers."""
    gradients: list[Layer] = []
    upstream = rules.error(record[-1][1], target)
    for index in reversed(range(len(layers))):
        layer, (z, a), (z_in, a_in) = layers[index], record[index + 1], record[index]
        delta = rules.delta(index, upstream * rules.slope(index, layer.function, z, a))
        weights = rules.weights(index, delta, z_in, a_in)
        gradients.insert(0, layer.replace(weights=weights, bias=rules.bias(index, delta)))  # type: ignore[attr-defined]
        upstream = rules.back(index, layer.weights, delta)
    return gradients


def loss(layers: list[Layer], inputs: jax.Array, targets: jax.Array) -> jax.Array:
    """(1/n) Σ ½‖output − target‖² for inputs (n, in) and targets (n, out).

    >>> net = [Layer(jnp.ones((1, 1)), jnp.zeros(1), "identity")]
    >>> float(loss(net, jnp.array([[3.0]]), jnp.array([[1.0]])))
    2.0
    """
    if inputs.ndim != 2 or targets.ndim != 2 or len(inputs) != len(targets):
        got = f"{inputs.shape} and {targets.shape}"
        raise ValueError(f"inputs, targets: expected shapes (n, in) and (n, out), got {got}")
    outputs = jax.vmap(lambda row: forward(layers, row)[-1][1])(inputs)
    return 0.5 * jnp.mean(jnp.sum((outputs - targets) ** 2, axis=1))


def gradient(
    layers: list[Layer], inputs: jax.Array, targets: jax.Array, rules: Rules = CORRECT
) -> list[Layer]:
    """The gradient of :func:`loss` by the hand-written passes; equal to ``jax.grad(loss)``.

    >>> net = [Layer(jnp.ones((1, 1)), jnp.zeros(1), "identity")]
    >>> float(gradient(net, jnp.array([[3.0]]), jnp.array([[1.0]]))[0].weights[0, 0])
    6.0
    """

    def row(given, target):
        return backward(layers, forward(layers, given, rules), target, rules)

    total = jax.tree.map(lambda g: jnp.sum(g, axis=0), jax.vmap(row)(inputs, targets))
    return jax.tree.map(lambda g: rules.average(g, len(inputs)), total)
