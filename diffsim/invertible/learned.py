"""Learned starts: a network trained as the inverse of another, like the coder of an autoencoder."""

import itertools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.typing import DTypeLike

from diffsim import _check
from diffsim._adam import adam
from diffsim._types import Tree
from diffsim.invertible.base import normal


class LearnedInverse(nnx.Module):
    """x ≈ m_x + s_x ∘ g((y − m_y) / s_y), g a multilayer perceptron of tanh units.

    Made by :func:`learn_inverse`; call it, or give it to ``invert`` as ``start``.
    """

    def __init__(self, sizes: Sequence[int], scales: Tree, *, rngs: nnx.Rngs, dtype: DTypeLike):
        pairs = list(itertools.pairwise(sizes))
        self.weights = nnx.List([nnx.Param(normal(rngs, (b, a), dtype) / a**0.5) for a, b in pairs])
        self.biases = nnx.List([nnx.Param(jnp.zeros(b, dtype)) for _, b in pairs])
        self.scales = nnx.Variable(scales)

    def __call__(self, y: jax.Array) -> jax.Array:
        x_mean, x_scale, y_mean, y_scale = jax.lax.stop_gradient(self.scales.get_value())
        value = (y - y_mean) / y_scale
        for k, (weight, bias) in enumerate(zip(self.weights, self.biases)):
            value = weight[...] @ value + bias[...]
            value = jnp.tanh(value) if k < len(self.weights) - 1 else value
        return x_mean + x_scale * value


def standard(batch: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Mean and standard deviation of each column, 1 for a column that never varies."""
    scale = jnp.std(batch, axis=0)
    return jnp.mean(batch, axis=0), jnp.where(scale > 0, scale, 1)


def learn_inverse(
    network: Callable,
    x: Tree,
    *,
    key: jax.Array,
    hidden: Sequence[int] = (64, 64),
    steps: int = 1000,
    batch: int = 64,
    rate: float = 3e-3,
) -> LearnedInverse:
    """Train g to undo a network on the inputs it will be asked about.

    The loss is that of an autoencoder whose decoder is the fixed network, in y, plus the error
    in x: mean ‖f(g(f(x))) − f(x)‖² / s_y² + ‖g(f(x)) − x‖² / s_x². Trained by Adam, whose rate
    falls along a cosine.

    Args:
        network: f, of one vector (n,) → (m,).
        x: samples of the inputs, (count, n).
        key: of the first weights and the order of the samples.
        hidden: widths of g's hidden layers.
        steps: updates.
        batch: samples an update.
        rate: of Adam at its start.

    >>> x = jax.random.uniform(jax.random.key(0), (256, 1))
    >>> g = learn_inverse(lambda x: jnp.exp(x), x, key=jax.random.key(1), hidden=(8,), steps=300)
    >>> bool(abs(g(jnp.exp(jnp.array([0.5])))[0] - 0.5) < 0.05)
    True
    """
    x = _check.in_range("x", x)
    if x.ndim != 2:
        raise ValueError(f"x: expected shape (count, n), got {x.shape}")
    y = jax.vmap(network)(x)
    first, later = jax.random.split(key)
    sizes = [y.shape[1], *hidden, x.shape[1]]
    scales = standard(x) + standard(y)
    start = LearnedInverse(sizes, scales, rngs=nnx.Rngs(params=first), dtype=x.dtype)
    graph, *states = nnx.split(start, nnx.Param, ...)
    state, fixed = states

    def loss(state, x, y):
        found = jax.vmap(nnx.merge(graph, state, fixed))(y)
        again = jax.vmap(network)(found)
        in_x = jnp.mean(((found - x) / scales[1]) ** 2)
        return in_x + jnp.mean(((again - y) / scales[3]) ** 2)

    state = fit(loss, state, (x, y), later, steps=steps, batch=batch, rate=rate)
    return nnx.merge(graph, state, fixed)


def fit(loss: Callable, state: Tree, data: tuple, key: jax.Array, *, steps, batch, rate) -> Tree:
    """Adam on random batches of ``data``'s rows, its rate falling along a cosine."""

    @jax.jit
    def run(state, data):
        def one(state, key):
            rows = jax.random.randint(key, (batch,), 0, data[0].shape[0])
            return loss(state, *(d[rows] for d in data))

        keys = jax.random.split(key, steps)
        return adam(one, state, keys, optax.cosine_decay_schedule(rate, steps))

    return run(state, data)
