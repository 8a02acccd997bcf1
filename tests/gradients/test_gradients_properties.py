"""Estimators are unbiased for every quadratic, not for the one that a test thought of."""

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from problems import fast_jit

from diffsim.gradients import (
    SPSA,
    BestConstant,
    EvolutionStrategies,
    ForwardGradient,
    Gaussian,
    MeasureValued,
    Pathwise,
    ScoreFunction,
    surrogate,
)

COUNT = 400


def methods(sigma):
    """The smoothed gradient of a quadratic is its own, so none of these has a bias on it."""
    law = Gaussian(sigma)
    return {
        "pathwise": Pathwise(law, samples=2),
        "score function": ScoreFunction(law, samples=4),
        "best constant": ScoreFunction(law, samples=4, baseline=BestConstant()),
        "evolution strategies": EvolutionStrategies(sigma, samples=2),
        "measure-valued": MeasureValued(sigma, samples=1),
        "spsa": SPSA(samples=1),
        "forward gradient": ForwardGradient(samples=1),
    }


@fast_jit
def estimates(matrix, slope, x, sigma, key):
    def loss(x):
        return 0.5 * x @ matrix @ x + slope @ x

    def one(key):
        return {
            name: jax.grad(surrogate(loss, method))(x, key=key)
            for name, method in methods(sigma).items()
        }

    return jax.vmap(one)(jax.random.split(key, COUNT))


def numbers(*shape):
    return arrays(float, shape, elements=st.floats(-2, 2))


@settings(max_examples=25)
@given(numbers(3, 3), numbers(3), numbers(3), st.floats(0.05, 1), st.integers(0, 2**31))
def test_the_mean_is_the_gradient(matrix, slope, x, sigma, seed):
    exact = 0.5 * (matrix + matrix.T) @ x + slope
    found = estimates(matrix, slope, x, sigma, jax.random.key(seed))
    for name, rows in found.items():
        error = np.std(rows, axis=0) / COUNT**0.5
        off = np.abs(np.mean(rows, axis=0) - exact)
        # Five standard errors in 600 tests; differences round at 1e-15 over their step.
        assert np.all(off <= 5 * error + 1e-8 * (1 + np.abs(exact))), name


def test_a_biased_mean_is_seen():
    """The test above would notice a tenth."""
    rows = estimates(np.eye(3), np.ones(3), np.ones(3), 0.1, jax.random.key(0))["pathwise"]
    error = np.std(rows, axis=0) / COUNT**0.5
    assert np.all(np.abs(1.1 * np.mean(rows, axis=0) - 2) > 5 * error)
    assert jnp.all(error > 0)
