"""Estimators that look inside a chain: total propagation, persistent and noise-reuse ES."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import fast_jit

from diffsim.gradients import (
    EvolutionStrategies,
    Gaussian,
    Pathwise,
    PersistentES,
    TotalPropagation,
    UnrolledLoss,
    estimate,
    surrogate,
)

KEY = jax.random.key(0)
X = jnp.array([0.3, -0.2])


def linear(length=6):
    """s ← 0.9 s + x₀ + x₁ s, cost ½s²."""
    return UnrolledLoss(
        jnp.ones(1), lambda s, x: 0.9 * s + x[0] + x[1] * s, lambda s: 0.5 * s[0] ** 2, length
    )


def replicate(loss, used, x, count):
    keys = jax.random.split(KEY, count)
    run = jax.vmap(lambda key: jax.grad(surrogate(loss, used))(x, key=key))
    return np.asarray(fast_jit(run)(keys))


def test_total_propagation_is_exact_in_the_mean():
    """Noise on every state: E ½s² follows mean and variance of s, so the gradient is known."""
    sigma = 0.2
    chain = linear()

    def expected(x):
        mean, variance, total = 1.0, 0.0, 0.0
        for _ in range(chain.length):
            factor = 0.9 + x[1]
            mean, variance = factor * mean + x[0], factor**2 * variance + sigma**2
            total = total + 0.5 * (mean**2 + variance)
        return total

    rows = replicate(chain, TotalPropagation(Gaussian(sigma), samples=64), X, 2_000)
    error = rows.std(axis=0) / len(rows) ** 0.5
    # The cross-fitted weights of later steps know a little of both halves: bias O(1/n).
    exact = np.asarray(jax.grad(expected)(X))
    assert np.all(np.abs(rows.mean(axis=0) - exact) <= 4 * error + 2e-3 * np.abs(exact))


def test_total_propagation_through_chaos():
    """A noisy logistic chain: pathwise explodes with its length, total propagation does not."""
    chain = UnrolledLoss(
        jnp.array([0.3]),
        lambda s, x: (3.9 + x) * jnp.clip(s, 0, 1) * (1 - jnp.clip(s, 0, 1)),
        lambda s: s[0],
        25,
    )
    sigma = 0.02
    mixed = replicate(chain, TotalPropagation(Gaussian(sigma), samples=64), jnp.zeros(1), 200)

    def noisy(x, noise):
        def step(state, e):
            state = chain.transition(state, x) + e
            return state, chain.cost(state)

        return jnp.sum(jax.lax.scan(step, chain.initial, noise)[1])

    noise = sigma * jax.random.normal(KEY, (200 * 64, chain.length, 1))
    plain = np.asarray(fast_jit(jax.vmap(jax.grad(noisy), (None, 0)))(jnp.zeros(1), noise))
    assert mixed.var() < 1e-3 * plain.var() / 64


@pytest.mark.parametrize("reuse", [False, True], ids=["pes", "nres"])
def test_windows_do_not_bias(reuse):
    """Quadratic in s, so in x₀ for x₁ fixed: the antithetic mean is the exact total gradient."""
    chain = UnrolledLoss(jnp.ones(1), lambda s, x: 0.9 * s + x, lambda s: 0.5 * s[0] ** 2, 6)
    x = jnp.array([0.3])
    exact = float(jax.grad(chain)(x)[0])
    rows = replicate(chain, PersistentES(0.1, samples=8, window=2, reuse=reuse), x, 4_000)
    assert abs(rows.mean() - exact) <= 4 * rows.std() / len(rows) ** 0.5

    def truncated(x):
        state, total = chain.initial, 0.0
        for _ in range(3):
            state, cost = chain.run(jax.lax.stop_gradient(state), x, 2)
            total = total + cost
        return total

    # The bias that truncation leaves is far above that error bar.
    cut = float(jax.grad(truncated)(x)[0])
    assert abs(cut - exact) > 20 * rows.std() / len(rows) ** 0.5


def test_one_window_is_evolution_strategies():
    """One window: variance (d + 1)G/n with d = 1 on a quadratic, as for antithetic ES."""
    chain = UnrolledLoss(jnp.ones(1), lambda s, x: 0.9 * s + x, lambda s: 0.5 * s[0] ** 2, 4)
    x = jnp.array([0.3])
    theory = 2 * float(jax.grad(chain)(x)[0]) ** 2 / 4
    for used in (PersistentES(0.1, samples=4), EvolutionStrategies(0.1, samples=4)):
        rows = replicate(chain, used, x, 10_000)
        assert abs(rows.var() - theory) < 0.08 * theory  # κ = 15 or less: 4 standard errors


def test_advancing_window_by_window_sums_to_the_method():
    chain, used = linear(), PersistentES(0.1, samples=4, window=3)
    particles, total = used.start(chain, X), 0.0
    problem_key, _, _ = jax.random.split(KEY, 3)
    for key in jax.random.split(problem_key, 2):
        terms, losses, particles = used.advance(chain, particles, X, key)
        assert losses.shape == (4, 2)
        total = total + terms.mean(axis=0)
    whole = jax.grad(surrogate(chain, used))(X, key=KEY)
    np.testing.assert_allclose(total, whole, rtol=1e-10)
    assert int(particles.windows) == 2


def test_chain_is_a_loss():
    chain = linear(3)
    found = estimate(chain, Pathwise())(X)
    np.testing.assert_allclose(found.grad, jax.grad(chain)(X))
    with pytest.raises(ValueError, match="divisor of 3, got 2"):
        surrogate(chain, PersistentES(window=2))(X, key=KEY)
