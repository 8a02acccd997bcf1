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
def test_contract(name):
    """A batch through a kept factor; log_det, condition and both derivatives against J."""
    layer, x = drawn(name, SIZE, jnp.float64, 3)

    @fast_jit
    def look(layer, x):
        factor = layer.factor()
        y, pull = jax.vmap(layer)(x), jax.vjp(lambda y: layer.inverse(y, factor), layer(x[0]))[1]
        v = jax.random.normal(jax.random.key(2), x[0].shape, x.dtype)
        forward = jax.jvp(lambda y: layer.inverse(y, factor), (y[0],), (v,))[1]
        back = jax.vmap(lambda y: layer.inverse(y, factor))(y)
        log_det = jax.vmap(layer.log_det)(x)
        return back, jax.jacfwd(layer)(x[0]), log_det, v, forward, pull(v)[0], layer.condition(x[0])

    back, jacobian, log_det, v, forward, reverse, condition = look(layer, x)
    truth = np.linalg.cond(jacobian)
    # An inverse may lose κ u; 50 leaves room for sums of SIZE terms.
    np.testing.assert_allclose(back, x, atol=50 * truth * 2.2e-16 * np.abs(x).max())
    assert log_det.shape == (3,)
    np.testing.assert_allclose(log_det[0], np.linalg.slogdet(jacobian)[1], atol=1e-13)
    np.testing.assert_allclose(forward, np.linalg.solve(jacobian, v), atol=1e-11 * truth)
    np.testing.assert_allclose(reverse, np.linalg.solve(jacobian.T, v), atol=1e-11 * truth)
    # Power iteration comes from below; near-equal singular values make it slow.
    assert 0.9 * truth <= float(condition) <= 1.0001 * truth


@pytest.mark.parametrize("name", LAYERS)
def test_float32_stays_float32(name):
    layer, x = drawn(name, SIZE, jnp.float32, 1)
    look = fast_jit(lambda layer, x: (layer.inverse(layer(x)), layer.log_det(x)))
    back, log_det = look(layer, x[0])
    assert back.dtype == log_det.dtype == jnp.float32
    # The layers drawn have condition numbers below a hundred.
    np.testing.assert_allclose(back, x[0], atol=50 * 100 * 1.2e-7 * float(jnp.max(jnp.abs(x))))


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
    for call in (layer, layer.log_det):
        with pytest.raises(ValueError, match=r"x: .* expected shape"):
            call(jnp.zeros((2, SIZE)))
    with pytest.raises(ValueError, match=r"y: .* expected shape"):
        layer.inverse(jnp.zeros((2, SIZE)))
