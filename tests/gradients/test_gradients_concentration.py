"""Bounds on the error of a mean: how often they fail, and that AlphaOrder uses them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import fast_jit, quadratic

from diffsim.gradients import AlphaOrder, Gaussian, concentration, estimate, mixtures
from diffsim.gradients.problem import Problem

Q = quadratic()
LAW = Gaussian(Q.sigma)
KEY = jax.random.key(3)

BOUNDED = {  # terms in a ball of radius 1 about their mean 0, and how long they are
    "coins": (lambda key, shape: jax.random.rademacher(key, (*shape, 1), float), 1.0),
    "rare": (lambda key, shape: jnp.where(jax.random.uniform(key, (*shape, 1)) < 0.02,
                                          0.98, -0.02), 1.0),
    "cube": (lambda key, shape: jax.random.uniform(key, (*shape, 5), minval=-1.0) / 5**0.5, 1.0),
}  # fmt: skip


@pytest.mark.parametrize("name", BOUNDED)
@pytest.mark.parametrize("count", [20, 200])
def test_bernstein_fails_no_oftener_than_it_says(name, count):
    """Terms known to lie in a ball, their variance measured: as the paper uses it."""
    draw, largest = BOUNDED[name]
    terms = draw(KEY, (4_000, count))
    error = jnp.linalg.norm(jnp.mean(terms, axis=1), axis=-1)
    bounds = concentration.Bernstein(largest), concentration.Bernstein()
    run = fast_jit(jax.vmap(lambda rows: [bound(rows, 0.1) for bound in bounds]))
    radius, measured = run(terms)
    assert np.mean(error > radius) <= 0.1
    assert np.median(radius) < 6 * np.sqrt(np.mean(error**2))  # and is not idle
    if count == 200:
        assert np.mean(error > measured) <= 0.1


def test_bernstein_solves_its_equation_and_is_larger_for_a_long_tail():
    terms = jnp.asarray(np.random.default_rng(0).normal(size=(50, 3)))
    radius = float(concentration.Bernstein(4.0)(terms, 0.05))
    spread = float(np.sum(np.var(terms, axis=0, ddof=1)))
    left = 4 * np.exp(-0.5 * 50 * radius**2 / (spread + 4 * radius / 3))
    assert left == pytest.approx(0.05, rel=1e-9)
    failed = jnp.concatenate([terms, jnp.full((7, 3), jnp.nan)])
    assert float(concentration.Bernstein(4.0)(failed, 0.05)) == pytest.approx(radius, rel=1e-12)
    heavy = terms.at[0].multiply(100.0)
    ratio = [float(b(heavy, 0.05) / jnp.sqrt(jnp.sum(jnp.var(heavy, axis=0, ddof=1)) / 50))
             for b in (concentration.Bernstein(), concentration.SubGaussian())]  # fmt: skip
    assert ratio[0] > 1.3 * ratio[1]


def test_alpha_order_trusts_its_bound_on_the_score():
    """ε bounds the score's error at least as often as it says, from as few draws as 16."""
    n, x = 16, jnp.asarray(Q.mu)

    def one(key):
        drawn = jax.random.split(key, 3)[0]  # as the transforms split it
        problem = Problem(Q, x, has_aux=False, keys=(drawn, None, None), stochastic=False)
        rough = mixtures.both_terms(problem, LAW, n, 1, None)[2]
        error = jnp.linalg.norm(mixtures.mean(rough) - Q.gradient)
        reported = estimate(Q, AlphaOrder(LAW, samples=n))(x, key=key).info["radius"]
        return error, concentration.Bernstein()(rough, 0.05), reported

    error, radius, reported = fast_jit(jax.vmap(one))(jax.random.split(KEY, 2_000))
    assert np.mean(error > radius) <= 0.05
    np.testing.assert_allclose(reported, radius, rtol=1e-9)


def test_bounds_are_those_of_their_formulas():
    """L the largest distance from the mean; rows that failed count for nothing."""
    terms = np.random.default_rng(1).normal(size=(30, 4))
    failed = jnp.asarray(np.concatenate([terms, [[np.nan, 1, 1, 1]], [[9, 9, np.inf, 9]]]))
    largest = np.max(np.linalg.norm(terms - terms.mean(axis=0), axis=1))
    known = concentration.Bernstein(largest)(jnp.asarray(terms), 0.1)
    assert concentration.Bernstein()(failed, 0.1) == pytest.approx(float(known))
    wanted = (np.var(terms, axis=0, ddof=1).sum() / 30) ** 0.5 * (1 + (2 * np.log(10)) ** 0.5)
    assert concentration.SubGaussian()(failed, 0.1) == pytest.approx(wanted)
