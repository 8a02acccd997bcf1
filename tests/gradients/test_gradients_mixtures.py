"""What mixtures of two kinds of terms rest on, beside NumPy and sums over all pairs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import chi2, norm

from diffsim.gradients import (
    Gaussian,
    Relax,
    alpha_order,
    mixtures,
)
from diffsim.gradients.inverse_variance import cross_fitted
from diffsim.gradients.problem import Problem

RNG = np.random.default_rng(0)
SMOOTH, ROUGH = RNG.normal(size=(2, 12, 3)) * [[[1.0]], [[2.0]]] + [[[1.0]], [[1.3]]]
ROUGH = ROUGH + 0.5 * SMOOTH
HOLED = SMOOTH.copy()
HOLED[[2, 7], [0, 1]] = np.nan, np.inf
WHOLE = np.isfinite(HOLED).all(axis=1)


def covariance(a, b):
    return np.sum((a - a.mean(axis=0)) * (b - b.mean(axis=0))) / (len(a) - 1)


def test_spreads_and_means_leave_out_what_failed():
    spread, mean = jax.jit(mixtures.spread), jax.jit(mixtures.mean)
    assert spread(SMOOTH) == pytest.approx(covariance(SMOOTH, SMOOTH))
    assert spread(HOLED) == pytest.approx(covariance(SMOOTH[WHOLE], SMOOTH[WHOLE]))
    wanted = covariance(SMOOTH[WHOLE], ROUGH[WHOLE])
    assert spread(HOLED, ROUGH) == pytest.approx(wanted)
    assert spread(ROUGH, HOLED) == pytest.approx(wanted)
    np.testing.assert_allclose(mean(HOLED), SMOOTH[WHOLE].mean(axis=0))
    assert spread(SMOOTH[:2]) == pytest.approx(covariance(SMOOTH[:2], SMOOTH[:2]))
    assert float(mixtures.ratio(jnp.asarray(3.0), jnp.asarray(2.0), 7.0)) == 1.5
    assert float(mixtures.ratio(jnp.asarray(3.0), jnp.asarray(0.0), 7.0)) == 7


@pytest.mark.parametrize("folds", [2, 4])
def test_weights_of_a_fold_are_from_the_others(folds):
    found = jax.jit(cross_fitted, static_argnums=2)(SMOOTH, ROUGH, folds)
    size = 12 // folds
    for fold in range(folds):
        left = np.arange(12) // size != fold
        v1, v0 = (covariance(terms[left], terms[left]) for terms in (SMOOTH, ROUGH))
        shared = covariance(SMOOTH[left], ROUGH[left])
        wanted = np.clip((v0 - shared) / (v0 + v1 - 2 * shared), 0, 1)
        assert found[fold] == pytest.approx(wanted)
    assert np.all((found > 0.5) & (found < 1))
    same = cross_fitted(SMOOTH, SMOOTH, folds)
    assert same.tolist() == [0.5] * folds
    assert cross_fitted(3 * SMOOTH, SMOOTH, folds).tolist() == [0] * folds


def test_disagreement_is_a_sum_over_pairs_and_a_chi_square():
    off = HOLED[WHOLE] - ROUGH[WHOLE]
    products = off @ off.T
    pairs = len(off) * (len(off) - 1)
    both = products[~np.eye(len(off), dtype=bool)]
    power = both.sum() / pairs
    apart, z = jax.jit(mixtures.disagreement)(HOLED, ROUGH)
    assert power > 0.1
    assert apart == pytest.approx(power**0.5)
    square = np.sum(both**2) / pairs
    freedom = max(1, np.trace(products / len(off)) ** 2 / square)
    chi = freedom * (1 + power / (square / pairs * freedom) ** 0.5)
    width = 2 / (9 * freedom)
    assert z == pytest.approx(((chi / freedom) ** (1 / 3) - 1 + width) / width**0.5)
    # The deviate has the probability of the χ² it stands for.
    assert norm.sf(float(z)) == pytest.approx(chi2.sf(chi, freedom), rel=0.3)


@pytest.mark.parametrize("gamma", [None, 0.1, 0.6, 1.2, 5.0])
def test_alpha_is_the_best_that_the_disagreement_allows(gamma):
    radius = 0.5
    found = alpha_order.weight(SMOOTH, ROUGH, gamma, 0.05, lambda rows, failure: radius)
    v1, v0 = (covariance(terms, terms) for terms in (SMOOTH, ROUGH))
    best = v0 / (v0 + v1)
    apart = np.linalg.norm(SMOOTH.mean(axis=0) - ROUGH.mean(axis=0))
    allowed = ((2 * radius if gamma is None else gamma) - radius) / apart
    assert found["alpha"] == pytest.approx(max(0.0, min(best, allowed)))
    assert found["disagreement"] == pytest.approx(apart)
    assert found["radius"] == radius
    asked = []
    alpha_order.weight(SMOOTH, ROUGH, gamma, 0.2, lambda *given: asked.append(given) or radius)
    assert asked[0][0] is ROUGH
    assert asked[0][1] == 0.2


def posed(loss, x):
    return Problem(loss, x, has_aux=False, keys=(jax.random.key(4), None, None), stochastic=False)


def test_relax_terms_are_their_formula():
    """(f − c) s + ∂c/∂x of c = a + b·x + ½ xᵀA x."""
    x, sigma = jnp.array([0.3, -0.7]), 0.4
    level, slope = 0.2, np.array([1.0, -0.5])
    curve = np.array([[0.5, 0.1], [0.3, -0.2]])
    method = Relax(Gaussian(sigma), parameters=tuple(map(jnp.asarray, (level, slope, curve))))

    def loss(x):
        return jnp.sum(jnp.sin(3 * x))

    found = method.replace(samples=5).draw(posed(loss, x))
    key = jax.random.split(jax.random.key(4))[0]
    noise = np.asarray(Gaussian(sigma).sample(key, (5, 2), jnp.float64))
    points = np.asarray(x) + sigma * noise
    control = level + points @ slope + 0.5 * np.einsum("ni,ij,nj->n", points, curve, points)
    slopes = slope + 0.5 * points @ (curve + curve.T)
    values = np.sin(3 * points).sum(axis=1)
    np.testing.assert_allclose(found.values, values)
    np.testing.assert_allclose(
        found.terms, (values - control)[:, None] * noise / sigma + slopes, rtol=1e-9
    )
    assert found.evaluations == 5
