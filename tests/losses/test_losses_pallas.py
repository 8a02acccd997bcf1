"""The Pallas kernel, interpreted, is the kernel that XLA compiles."""

import jax
import jax.numpy as jnp
import numpy as np

from diffsim.losses import pallas, softmax_infogain


def test_interpreted_kernel_is_the_compiled_one(dtype):
    rng = np.random.default_rng(3)
    x = rng.standard_normal((6, 37))
    x[0, 3] = 25  # sure
    x[1, [4, 5]] = 7  # tied
    x[2, 9] = -np.inf
    h = rng.uniform(0, 2, (5, 37))
    h[:, 9] = 0
    x, h, labels = jnp.asarray(x, dtype), jnp.asarray(h, dtype), jnp.arange(6) % 5

    def both(kernel):
        def loss(x, h):
            return softmax_infogain(x, labels, h, reduction="sum", kernel=kernel)

        slope = jax.grad(loss)
        return jax.jit(lambda x, h: (loss(x, h), slope(x, h)))(x, h)

    found, wanted = both(pallas.kernel(interpret=True)), both(None)
    tolerance = 1e-12 if dtype == jnp.float64 else 3e-6
    for a, b in zip(found, wanted):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)
