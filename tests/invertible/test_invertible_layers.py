"""What every layer in the constructor table inherits: round trip, log_det, condition, 1e5."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from diffsim.invertible import LAYERS

SIZE = 16  # a power of two for the butterfly, composite for the rest
LARGE = 100_000
DENSE = {"dense", "lu", "triangular"}  # n² weights


@pytest.fixture(params=LAYERS)
def name(request):
    return request.param


def drawn(name, size, dtype, rows):
    layer = LAYERS[name](size, rngs=nnx.Rngs(0), dtype=dtype)
    return layer, jax.random.normal(jax.random.key(1), (rows, size), dtype)


@pytest.mark.parametrize("structured_only", [False])
def test_contract(name, dtype, structured_only):
    """Round trip, both derivatives of the inverse, log_det and condition against the Jacobian."""
    layer, x = drawn(name, SIZE, dtype, 3)

    @jax.jit
    def look(layer, x):
        y = jax.vmap(layer)(x)
        factor = layer.factor()
        back = jax.vmap(lambda y: layer.inverse(y, factor))(y)
        jacobian = jax.jacfwd(layer)(x[0])
        forward = jax.jacfwd(layer.inverse)(y[0])
        reverse = jax.jacrev(layer.inverse)(y[0])
        log_det = jax.vmap(layer.log_det)(x)
        return y, back, jacobian, forward, reverse, log_det, layer.condition(x[0])

    y, back, jacobian, forward, reverse, log_det, condition = look(layer, x)
    assert y.dtype == back.dtype == log_det.dtype == condition.dtype == dtype
    assert log_det.shape == (3,)
    values = np.linalg.svd(np.asarray(jacobian, np.float64), compute_uv=False)
    truth = values[0] / values[-1]
    unit = float(jnp.finfo(dtype).eps)
    # An inverse may lose κ u; 50 leaves room for sums of SIZE terms.
    np.testing.assert_allclose(back, x, atol=50 * truth * unit * float(jnp.max(jnp.abs(x))))
    np.testing.assert_allclose(log_det[0], np.linalg.slogdet(jacobian)[1], atol=500 * unit)
    expected = np.linalg.inv(np.asarray(jacobian, np.float64))
    room = 100 * truth * unit * np.abs(expected).max()
    np.testing.assert_allclose(forward, expected, atol=room)
    np.testing.assert_allclose(reverse, expected, atol=room)
    # Power iteration comes from below; near-equal singular values make it slow.
    assert 0.9 * truth <= float(condition) <= 1.01 * truth


def test_hundred_thousand(name):
    """Structured layers at n = 1e5 (2¹⁷ for the butterfly), in float32."""
    if name in DENSE:
        pytest.skip("n² weights")
    size = 1 << 17 if name == "butterfly" else LARGE
    layer, x = drawn(name, size, jnp.float32, 1)
    assert type(layer).structured

    @jax.jit
    def look(layer, x):
        y = layer(x)
        back = layer.inverse(y)
        return back, layer.log_det(x)

    back, log_det = look(layer, x[0])
    assert np.isfinite(log_det)
    assert np.linalg.norm(back - x[0]) <= 1e-4 * np.linalg.norm(x[0])
