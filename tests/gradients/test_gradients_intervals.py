"""Intervals: against scipy and their formulas, and how often they cover skewed means."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from problems import LogisticMap, fast_jit

from diffsim.gradients import Gaussian, InverseVariance, Pathwise, estimate, intervals, mixtures
from diffsim.gradients.problem import Problem

KEY = jax.random.key(4)


def test_skewness_against_scipy(dtype):
    terms = jax.random.gamma(KEY, 1.5, (40, 3), dtype).at[:, 2].set(1e3)
    skewness = fast_jit(intervals.skewness)
    found = skewness(terms)
    assert found.dtype == dtype
    expected = [*scipy.stats.skew(np.asarray(terms, np.float64)[:, :2]), 0.0]
    np.testing.assert_allclose(found, expected, rtol=1e-4 if dtype == jnp.float32 else 1e-12)
    failed = jnp.concatenate([terms, jnp.full((5, 3), jnp.nan, dtype)])
    np.testing.assert_allclose(skewness(failed), found, rtol=1e-6)
    huge = skewness(terms * jnp.asarray(1e15, dtype))  # its cube is no float32
    np.testing.assert_allclose(huge[:2], found[:2], rtol=1e-4)


@pytest.mark.parametrize("samples", [5, 12, 400])
@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.99])
def test_quantile(samples, confidence, dtype):
    count = jnp.asarray(samples, jnp.int32)
    plain, skewed = intervals.quantile(confidence, count, jnp.array([0.0, 2.0], dtype))
    # Hill's expansion is within 1 % at 95 % from 4 degrees of freedom.
    expected = scipy.stats.t.ppf(0.5 + 0.5 * confidence, samples - 1)
    assert float(plain) == pytest.approx(expected, rel=0.01 if confidence < 0.99 else 0.04)
    # Edgeworth: P(|T| <= t) loses 2 φ(z) times this to a skewness of 2.
    z = scipy.stats.norm.ppf(0.5 + 0.5 * confidence)
    lost = z * 2.0**2 * (z**4 + 2 * z**2 - 3) / 18 / samples
    assert float(skewed - plain) == pytest.approx(lost, rel=1e-4)


@pytest.mark.parametrize("freedom", [20, 40])
def test_student_is_hill_s_expansion_to_its_third_term(freedom):
    """What it leaves out is, first of all, the fourth (Abramowitz & Stegun 26.7.5)."""
    z = scipy.stats.norm.ppf(0.975)
    fourth = (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / (92160 * freedom**4)
    left = scipy.stats.t.ppf(0.975, freedom) - intervals.student(0.95, jnp.asarray(freedom))
    assert float(left) == pytest.approx(fourth, rel=0.1)


def test_interval_is_the_quantile_of_its_estimate():
    def loss(x):
        return jnp.sum(jnp.exp(x))

    found = fast_jit(estimate(loss, Pathwise(Gaussian(), samples=6)))(jnp.ones(2), key=KEY)
    for skew in (found.skewness, jnp.zeros(2)):
        low, high = found.replace(skewness=skew).interval(0.9)
        half = intervals.quantile(0.9, found.samples, skew) * found.standard_error
        np.testing.assert_allclose(high - found.grad, half)
        np.testing.assert_allclose(found.grad - low, half)
    assert np.all(np.abs(found.skewness) > 0.1)


def covered(terms, truth):
    """How often 95 % intervals cover: Student's, and with the skewness made up for."""
    count = jnp.asarray(terms.shape[1])
    error = terms.std(axis=1, ddof=1) / terms.shape[1] ** 0.5
    studentized = np.abs(terms.mean(axis=1) - truth) / error
    skew = intervals.skewness(jnp.asarray(terms.T))
    return [
        np.mean(studentized < intervals.quantile(0.95, count, s)) for s in (0 * skew, skew)
    ]  # fmt: skip


@pytest.mark.parametrize(("count", "lost"), [(40, 0.02), (160, 0.003)])
def test_skewed_means_are_covered(count, lost):
    """Exponential terms: the plain interval loses what Edgeworth says, ours a part of it."""
    terms = np.random.default_rng(0).exponential(size=(20_000, count))
    plain, ours = covered(terms, 1.0)
    assert plain < 0.95 - lost
    assert abs(ours - 0.95) < 0.6 * abs(plain - 0.95)


def test_skewness_not_the_weights_spoiled_students_interval():
    """Inverse variance on the logistic map: a known weight covers no better than a fitted one."""
    problem, n = LogisticMap(), 128
    law, x = Gaussian(problem.sigma), jnp.array([problem.mu])

    def one(key):
        posed = Problem(problem, x, has_aux=False, keys=(key, None, None), stochastic=False)
        fitted = InverseVariance(law, samples=n).draw(posed)
        _, smooth, rough, _ = mixtures.both_terms(posed, law, n, 4, None)
        known = 0.29 * smooth + 0.71 * rough  # 0.29: what the weights are on average
        return fitted.terms[:, 0], known[:, 0], fitted.info["alpha"]

    keys = jax.random.split(KEY, 4_000)
    fitted, known, alphas = fast_jit(lambda k: jax.lax.map(one, k, batch_size=500))(keys)
    assert float(alphas.mean()) == pytest.approx(0.29, abs=0.01)
    for terms in (np.asarray(fitted), np.asarray(known)):
        reported = terms.var(axis=1, ddof=1).mean() / n
        assert reported == pytest.approx(terms.mean(axis=1).var(), rel=0.12)  # 4 deviations
        plain, ours = covered(terms, problem.gradient)
        assert plain < 0.935
        assert ours > plain + 0.01


def test_intervals_do_without_noise():
    found = estimate(lambda x: jnp.sum(x**2), Pathwise())(jnp.ones(2))
    low, high = found.interval()
    np.testing.assert_array_equal(low, found.grad)
    np.testing.assert_array_equal(high, found.grad)
