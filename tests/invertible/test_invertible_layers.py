"""What every layer in the constructor table inherits: round trip, log_det, condition, 1e5."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from problems import fast_jit

from diffsim.invertible import LAYERS

SIZE = 8  # a power of two for the butterfly, composite for the rest
LARGE = 100_000
DENSE = {"dense", "lu", "triangular"}  # n² weights
QUICK = {"butterfly", "circulant", "coupling-affine", "householder", "low-rank", "tridiagonal"}


def drawn(name, size, dtype, rows):
    layer = LAYERS[name](size, rngs=nnx.Rngs(0), dtype=dtype)
    return layer, jax.random.normal(jax.random.key(1), (rows, size), dtype)


@pytest.mark.parametrize("name", LAYERS)
def test_round_trip_and_log_det(name, dtype):
    """A batch through a kept factor; log_det against the Jacobian's slogdet."""
    layer, x = drawn(name, SIZE, dtype, 3)

    @fast_jit
    def look(layer, x):
        factor = layer.factor()
        y = jax.vmap(layer)(x)
        back = jax.vmap(lambda y: layer.inverse(y, factor))(y)
        return back, jax.jacfwd(layer)(x[0]), jax.vmap(layer.log_det)(x)

    back, jacobian, log_det = look(layer, x)
    assert back.dtype == log_det.dtype == dtype
    assert log_det.shape == (3,)
    unit = float(jnp.finfo(dtype).eps)
    # An inverse may lose κ u; 50 leaves room for sums of SIZE terms.
    room = 50 * np.linalg.cond(jacobian) * unit
    np.testing.assert_allclose(back, x, atol=room * float(jnp.max(jnp.abs(x))))
    np.testing.assert_allclose(log_det[0], np.linalg.slogdet(jacobian)[1], atol=500 * unit)


@pytest.mark.parametrize("name", LAYERS)
def test_derivatives_of_the_inverse_and_condition(name):
    """Forward and reverse through the inverse give J⁻¹, in x and so in all behind it."""
    layer, x = drawn(name, SIZE, jnp.float64, 1)

    @fast_jit
    def look(layer, x):
        y = layer(x)
        v = jax.random.normal(jax.random.key(2), y.shape, y.dtype)
        forward = jax.jvp(layer.inverse, (y,), (v,))[1]
        reverse = jax.vjp(layer.inverse, y)[1](v)[0]
        return v, forward, reverse, jax.jacfwd(layer)(x), layer.condition(x)

    v, forward, reverse, jacobian, condition = look(layer, x[0])
    truth = np.linalg.cond(jacobian)
    np.testing.assert_allclose(forward, np.linalg.solve(jacobian, v), atol=1e-11 * truth)
    np.testing.assert_allclose(reverse, np.linalg.solve(jacobian.T, v), atol=1e-11 * truth)
    # Power iteration comes from below; near-equal singular values make it slow.
    assert 0.9 * truth <= float(condition) <= 1.0001 * truth


@pytest.mark.parametrize(
    "name",
    [
        n if n in QUICK else pytest.param(n, marks=pytest.mark.slow)
        for n in LAYERS
        if n not in DENSE
    ],
)
def test_hundred_thousand(name):
    """Structured layers at n = 1e5 (2¹⁷ for the butterfly), in float32."""
    size = 1 << 17 if name == "butterfly" else LARGE
    layer, x = drawn(name, size, jnp.float32, 1)
    assert type(layer).structured
    look = fast_jit(lambda layer, x: (layer.inverse(layer(x)), layer.log_det(x)))
    back, log_det = look(layer, x[0])
    assert np.isfinite(log_det)
    assert np.linalg.norm(back - x[0]) <= 1e-4 * np.linalg.norm(x[0])


@pytest.mark.parametrize("name", LAYERS)
def test_wrong_shape_is_named(name):
    layer = LAYERS[name](SIZE, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match="x: .* expected shape"):
        layer(jnp.zeros((2, SIZE)))
    with pytest.raises(ValueError, match="y: .* expected shape"):
        layer.inverse(jnp.zeros((2, SIZE)))
