"""Layers that bend undo themselves, and their volume is that of the inverse, at every input."""

import jax
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from problems import fast_jit

from diffsim.invertible import LAYERS

SIZE = 8
# What one input shows of a linear layer holds for all; these bend.
BENT = (
    "coupling-affine", "coupling-spline", "autoregressive", "residual", "leaky-relu", "tanh",
    "sigmoid", "softplus", "elu", "asinh", "cubic", "sinh-arcsinh",
)  # fmt: skip


@pytest.mark.parametrize("name", BENT)
def test_round_trips(name):
    """Back and forth again: f(f⁻¹(y)) = y as far as y is known, x as far as the layer lets."""
    layer = LAYERS[name](SIZE, rngs=nnx.Rngs(0), dtype=np.float64)

    @fast_jit
    def look(x):
        y = layer(x)
        back = layer.inverse(y)
        shift = layer.log_det(x) - layer.log_det(back)
        return y, back, layer(back), shift, jax.jacfwd(layer)(x)

    @settings(max_examples=25)
    @given(arrays(float, SIZE, elements=st.floats(-4, 4)))
    def check(x):
        y, back, again, shift, jacobian = look(x)
        condition = np.linalg.cond(jacobian)
        size = 1 + np.abs(x).max() + np.abs(y).max()
        np.testing.assert_allclose(again, y, atol=1e-12 * size)
        np.testing.assert_allclose(back, x, atol=1e-13 * condition * size)
        assert abs(shift) < 1e-11 * condition * size

    check()
