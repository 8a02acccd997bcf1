"""The network: a multilayer perceptron from what is seen of the ball to trajectory weights."""

import functools
import itertools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx


class MLP(nnx.Module):
    """y = W_L tanh(… tanh(W_1 x + b_1) …) + b_L, its last layer starting at zero.

    With zero output the trajectory starts as the generator's resting one.

    >>> net = MLP(6, (32,), 24, rngs=nnx.Rngs(0))
    >>> net(jax.numpy.ones(6)).shape
    (24,)
    """

    def __init__(self, inputs: int, hidden: Sequence[int], outputs: int, *, rngs: nnx.Rngs):
        sizes = [inputs, *hidden]
        linear = functools.partial(nnx.Linear, param_dtype=jnp.result_type(float), rngs=rngs)
        self.hidden = nnx.List([linear(a, b) for a, b in itertools.pairwise(sizes)])
        self.last = linear(sizes[-1], outputs, kernel_init=nnx.initializers.zeros)

    def __call__(self, x: jax.Array) -> jax.Array:
        for layer in self.hidden:
            x = jax.nn.tanh(layer(x))
        return self.last(x)
