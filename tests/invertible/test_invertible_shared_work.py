"""A layer's result with its log-determinant: the same numbers, the conditioner run once."""

import functools

import jax
import numpy as np
import pytest
from flax import nnx
from jaxprs import primitives

from diffsim.invertible import Autoregressive, Chain, Coupling, Diagonal

SIZE = 5


@functools.cache
def layers(dtype):
    rngs = nnx.Rngs(0)
    coupling = Coupling.random(SIZE, rngs=rngs, dtype=dtype)
    regressive = Autoregressive.random(SIZE, rngs=rngs, dtype=dtype)
    diagonal = Diagonal.random(SIZE, rngs=rngs, dtype=dtype)
    flipped = Coupling.random(SIZE, flip=True, rngs=rngs, dtype=dtype)
    return {
        "coupling": coupling, "regressive": regressive, "diagonal": diagonal,
        "chain": Chain([coupling, diagonal, flipped, regressive]),
    }  # fmt: skip


@pytest.mark.parametrize("name", ["coupling", "regressive", "diagonal", "chain"])
def test_the_same_as_one_after_the_other(name, dtype):
    layer, x = layers(dtype)[name], jax.random.normal(jax.random.key(1), (SIZE,), dtype)

    @jax.jit
    def both(x):
        y, change = layer.forward_and_log_det(x)
        apart = layer(x), layer.log_det(x), jax.jacfwd(layer)(x)
        return (y, change), layer.inverse_and_log_det(y, layer.factor()), apart

    (y, change), (back, undone), (wanted, volume, jacobian) = both(x)
    few = 50 * np.finfo(dtype).eps  # sums of five terms in another order, and a round trip
    np.testing.assert_allclose(y, wanted, rtol=few, atol=few)
    np.testing.assert_allclose(change, volume, rtol=few, atol=few)
    direct = np.linalg.slogdet(np.asarray(jacobian, float))[1]
    np.testing.assert_allclose(change, direct, rtol=few, atol=few)
    np.testing.assert_allclose(back, x, rtol=few, atol=few)
    np.testing.assert_allclose(undone, -change, rtol=few, atol=few)
    assert y.dtype == change.dtype == undone.dtype == dtype


@pytest.mark.parametrize(("name", "runs"), [("coupling", 1), ("regressive", 1), ("chain", 3)])
def test_the_conditioner_runs_once(name, runs):
    """It multiplies by two matrices, and nothing else does."""
    layer, x = layers(None)[name], np.ones(SIZE)

    def products(f):
        return sum(eqn.primitive.name == "dot_general" for eqn in primitives(f, x))

    assert products(layer.forward_and_log_det) == 2 * runs
    assert products(lambda y: layer.inverse_and_log_det(y, layer.factor())) == 2 * runs
    assert products(lambda x: (layer(x), layer.log_det(x))) == 4 * runs
