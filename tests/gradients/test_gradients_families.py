"""What is particular to one family: directions, steps, laws, baselines, learned surrogates."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import fast_jit, quadratic
from scipy.stats import bernoulli, logistic, norm

from diffsim.gradients import (
    Bernoulli,
    CentralDifference,
    ComplexStep,
    Gaussian,
    GaussianDirections,
    Haar,
    Hadamard,
    Logistic,
    Pathwise,
    QuasiRandom,
    Rademacher,
    Relax,
    Richardson,
    ScoreFunction,
    Sphere,
    centered_ranks,
    estimate,
    fit_surrogate,
    laws,
    measured_step,
    policy_gradient_objective,
    reward_to_go,
    steps,
    surrogate,
)
from diffsim.gradients.directions import _primes

KEY = jax.random.key(0)
Q = quadratic()


@pytest.mark.parametrize(
    "family",
    [GaussianDirections(), Rademacher(), Sphere(), Haar(2), Hadamard(3), QuasiRandom(4)],
    ids=lambda f: type(f).__name__,
)
def test_directions_have_unit_second_moment(family):
    """E[v vᵀ] = I, in a dimension that is not a power of two."""
    keys = jax.random.split(KEY, 20_000)
    blocks = np.asarray(fast_jit(jax.vmap(lambda k: family.draw(k, 3, jnp.float64)))(keys))
    assert blocks.shape[1:] == (family.size(3), 3)
    outer = np.einsum("nki,nkj->nij", blocks, blocks) / blocks.shape[1]
    error = outer.std(axis=0) / len(outer) ** 0.5
    assert np.all(np.abs(outer.mean(axis=0) - np.eye(3)) <= 4 * error + 1e-12)


def test_orthogonal_blocks():
    rows = np.asarray(Haar().draw(KEY, 5, jnp.float64))
    np.testing.assert_allclose(rows @ rows.T, 5 * np.eye(5), atol=1e-12)
    signs = np.asarray(Hadamard().draw(KEY, 5, jnp.float64))
    assert signs.shape == (8, 5)
    np.testing.assert_array_equal(np.abs(signs), 1)
    np.testing.assert_array_equal(signs.T @ signs, 8 * np.eye(5))
    np.testing.assert_array_equal(_primes(10), [2, 3, 5, 7, 11, 13, 17, 19, 23, 29])
    assert _primes(1000)[-1] == 7919
    assert all(len(_primes(n)) == n for n in range(1, 2_000))


def test_difference_orders():
    """Errors of sin at 1 for h and h/2: halving divides by 4 centrally, by 16 with Richardson."""

    def error(used):
        slope = fast_jit(jax.grad(surrogate(lambda x: jnp.sin(x[0]), used)))(jnp.ones(1))
        return abs(float(slope[0]) - np.cos(1.0))

    for kind, power in ((CentralDifference, 4), (Richardson, 16)):
        ratio = error(kind(0.2)) / error(kind(0.1))
        assert abs(ratio / power - 1) < 0.01  # the next order is h² smaller
    assert error(CentralDifference(1e-2)) == pytest.approx(np.cos(1.0) * 1e-4 / 6, rel=1e-3)
    assert error(ComplexStep()) < 1e-15


def test_default_steps_reach_their_precision(dtype):
    """Errors near the optimum: ε^(2/3) centrally, ε^(4/5) with Richardson, times about ten."""
    epsilon = float(jnp.finfo(dtype).eps)
    for kind, power in ((CentralDifference, 2 / 3), (Richardson, 4 / 5), (ComplexStep, 1)):
        slope = fast_jit(jax.grad(surrogate(lambda x: jnp.exp(x[0]), kind())))(jnp.ones(1, dtype))
        assert slope.dtype == dtype
        assert abs(float(slope[0]) / np.e - 1) < 10 * epsilon**power


def test_noise_is_measured_and_sets_the_step():
    """Against 1e-6 of pseudo-random noise the measured step beats the default a hundredfold."""

    def noisy(x):
        return jnp.sin(3 * x[0]) + 1e-6 * jnp.sin(1.0293e9 * x[0])  # 2.4 rad a step of 1e-7

    line = jax.vmap(lambda h: noisy(1.0 + h[None]))(1e-7 * jnp.arange(40.0))
    assert 0.5e-6 < float(steps.measured_noise(line)) < 1.4e-6  # rms of the sine: 0.71e-6
    step = fast_jit(lambda key: measured_step(noisy, jnp.ones(1), key, spacing=1e-7))(KEY)
    best = float(steps.noise_optimal_step(0.7e-6, 27 * np.cos(3.0)))
    assert best / 2 < float(step) < 2 * best

    def error(used):
        slope = fast_jit(jax.grad(surrogate(noisy, used)))(jnp.ones(1))
        return abs(float(slope[0]) - 3 * np.cos(3.0))

    assert error(CentralDifference(step)) < 0.01 * error(CentralDifference())
    with pytest.raises(ValueError, match="m >= 7"):
        steps.measured_noise(jnp.ones(3))


def test_laws_against_scipy():
    """Densities with all their constants, of one scale for all entries and of one for each."""
    mean, point, bit = jnp.array([0.1, -0.4]), jnp.array([0.5, 0.2]), jnp.array([1.0, 0.0])
    for sigma in (jnp.asarray(0.3), jnp.array([0.3, 2.0])):
        for law, theirs in ((Gaussian(sigma), norm), (Logistic(sigma), logistic)):
            expected = theirs.logpdf(point, mean, sigma).sum()
            np.testing.assert_allclose(law.log_prob(point, mean), expected, rtol=1e-12)
    expected = bernoulli.logpmf(bit, 1 / (1 + np.exp(-mean))).sum()
    np.testing.assert_allclose(Bernoulli().log_prob(bit, mean), expected, rtol=1e-12)


@pytest.mark.parametrize("law", [Gaussian(0.5), Logistic(0.3)], ids=["gaussian", "logistic"])
def test_score_function_with_any_law(law):
    """On a quadratic every symmetric law has the plain gradient as its mean."""
    found = fast_jit(estimate(Q, ScoreFunction(law, samples=100_000)))(jnp.asarray(Q.mu), key=KEY)
    assert np.all(np.abs(found.grad - Q.gradient) <= 4 * found.standard_error)


@pytest.mark.parametrize("name", laws.LAWS)
def test_a_law_keeps_the_contract(name, dtype):
    """E s = 0 and E s² = −E ∂²log p/∂mean², of points it draws itself."""
    law, mean = laws.LAWS[name].create(), jnp.array([0.3, -0.2], dtype)

    @fast_jit
    def look(key):
        points = law.reparameterize(mean, law.sample(key, (100_000, 2), dtype))
        points = laws.seen(law, points)
        scores = jax.vmap(lambda point: laws.score(law, point, mean))(points)
        bends = jax.vmap(lambda point: jax.jacfwd(laws.score, 2)(law, point, mean))(points)
        return scores, jnp.mean(jax.vmap(jnp.diagonal)(bends), axis=0)

    scores, bend = look(KEY)
    assert scores.dtype == bend.dtype == dtype
    scores = np.asarray(scores, float)
    assert np.all(np.abs(scores.mean(axis=0)) < 4 * scores.std(axis=0) / 100_000**0.5)
    np.testing.assert_allclose((scores**2).mean(axis=0), -bend, rtol=0.03)
    if hasattr(law, "sigma"):
        with pytest.raises(ValueError, match="sigma: expected"):
            type(law).create(0.0)


def test_ranks():
    values = jnp.array([[3.0, jnp.nan], [-1.0, 3.0]])
    np.testing.assert_allclose(centered_ranks(values), [[0.25, np.nan], [-0.5, 0.25]])
    assert float(centered_ranks(jnp.ones(1))[0]) == -0.5 + 0.0


def test_fitted_surrogate_lowers_the_variance_to_the_pathwise_one():
    """The quadratic surrogate holds the loss itself, and the fit finds it from values alone."""
    q = quadratic(d=2, sigma=0.5)
    law, x = Gaussian(q.sigma), jnp.asarray(q.mu)
    start = Relax(law, samples=256)
    fitted = fit_surrogate(q, start, x, key=KEY, steps=1500, learning_rate=0.03)
    after = fast_jit(estimate(q, fitted.replace(samples=20_000)))(x, key=jax.random.key(1))
    pathwise = q.sigma**2 * q.F
    assert float(after.variance) * 20_000 < 1.3 * pathwise < 0.1 * q.score_variance_with(0.0)
    assert np.all(np.abs(after.grad - q.gradient) <= 4 * after.standard_error)


def bits(b):
    return (b[0] - 0.6) ** 2 + b[0] * b[1] + 0.3 * b[1]


@pytest.mark.parametrize(
    "used",
    [
        ScoreFunction(Bernoulli(), samples=50_000),
        Relax(
            Bernoulli(),
            samples=50_000,
            surrogate=lambda c, x: c * bits(jax.nn.sigmoid(x / 0.5)),
            parameters=1.0,
        ),
    ],
    ids=["score", "relax"],
)
def test_bernoulli_against_enumeration(used):
    logits = jnp.array([0.4, -0.8])

    def expected(logits):
        p = jax.nn.sigmoid(logits)
        total = 0.0
        for b in itertools.product([0.0, 1.0], repeat=2):
            b = jnp.array(b)
            total = total + jnp.prod(jnp.where(b > 0, p, 1 - p)) * bits(b)
        return total

    found = fast_jit(estimate(bits, used))(logits, key=KEY)
    exact = jax.grad(expected)(logits)
    assert np.all(np.abs(found.grad - exact) <= 4 * found.standard_error)
    assert abs(float(found.value) - float(expected(logits))) < 0.01
    if isinstance(used, Relax):
        plain = fast_jit(estimate(bits, used.replace(parameters=0.0)))(logits, key=KEY)
        assert float(found.variance) < 0.6 * float(plain.variance)
    with pytest.raises(TypeError, match="continuous law"):
        surrogate(bits, Pathwise(Bernoulli()))


def test_conditional_relaxation_has_the_marginal_law():
    """z drawn given its bit, bit drawn from x, is distributed as z itself: x + logistic."""
    law, mean, n = Bernoulli(), jnp.array([0.7]), 100_000
    first, second = jax.random.split(KEY)
    bit = law.discretize(law.reparameterize(mean, law.sample(first, (n, 1), mean.dtype)))
    again = law.conditional(bit, mean, law.sample(second, (n, 1), mean.dtype))
    np.testing.assert_array_equal(law.discretize(again), bit)
    quantiles = np.quantile(np.asarray(again), [0.1, 0.5, 0.9])
    # Standard error of a quantile: √(p(1−p)/n)/density, at most 0.011 here.
    np.testing.assert_allclose(quantiles, logistic.ppf([0.1, 0.5, 0.9], 0.7), atol=0.044)


def test_reward_to_go_of_a_closed_loop():
    """u_t = K s_t + noise on s' = s + u: the estimate matches the gradient of the exact cost."""
    sigma, gain, length, n = 0.3, -0.4, 3, 100_000
    noise = sigma * jax.random.normal(KEY, (n, length))

    def roll(gain, noise):
        def step(state, e):
            action = gain * state + e
            return state + action, (state, action, (state + action) ** 2)

        return jax.lax.scan(step, jnp.asarray(1.0), noise)[1]

    states, actions, costs = jax.vmap(lambda e: roll(gain, e))(noise)

    def objective(gain):
        log_probs = -0.5 * ((actions - gain * states) / sigma) ** 2
        return policy_gradient_objective(log_probs, costs)

    def exact(gain):  # E s² ← (1 + K)² E s² + σ²
        second, total = 1.0, 0.0
        for _ in range(length):
            second = (1 + gain) ** 2 * second + sigma**2
            total = total + second
        return total

    truth = float(jax.grad(exact)(gain))
    found = float(fast_jit(jax.grad(objective))(gain))
    assert abs(found - truth) < 0.02 * abs(truth)  # standard error is about 0.4 %
    discounted = reward_to_go(jnp.array([1.0, 1.0, 1.0]), 0.5)
    np.testing.assert_allclose(discounted, [1.75, 1.5, 1.0])
    with pytest.raises(ValueError, match="at least 2 rollouts"):
        policy_gradient_objective(jnp.zeros((1, 3)), jnp.zeros((1, 3)))
    with pytest.raises(ValueError, match=r"shape \(T,\)"):
        reward_to_go(jnp.zeros((2, 2)))
