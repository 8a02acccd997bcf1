"""What holds whatever the loss: units of x and f, counts, failures, and every figure's formula."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from problems import fast_jit

from diffsim.gradients import (
    METHODS,
    AlphaOrder,
    EvolutionStrategies,
    Gaussian,
    Logistic,
    MeasureValued,
    PersistentES,
    Relax,
    ScoreFunction,
    TotalPropagation,
    compare,
    estimate,
    make,
    policy_gradient_objective,
    slips,
    surrogate,
)
from diffsim.gradients.base import Draws, reduced
from diffsim.gradients.compare import _figures, _timed
from diffsim.gradients.problem import Problem
from diffsim.gradients.recommend import _decided
from diffsim.gradients.unrolled import UnrolledLoss, settled

KEY = jax.random.key(0)
X = jnp.array([0.3, -0.7, 1.2])


def loss(x):
    return jnp.sum(jnp.sin(jnp.arange(1.0, 4.0) * x)) + x[0] * x[1] * x[2]


# Of a length s of x: one for all entries, or one for each where entries are told apart.
LENGTHS = {
    "score": lambda s: ScoreFunction(Logistic(s), samples=4),
    "es": lambda s: EvolutionStrategies(s, samples=4, antithetic=False),
    "measure-valued": lambda s: MeasureValued(s, samples=2),
    "persistent": lambda s: PersistentES(s, samples=4),
    "alpha-order": lambda s: AlphaOrder(Gaussian(s), samples=16),
}


def test_units_of_x_and_of_the_loss():
    """f(s u) at u = x/s with noise of 1 is f at x with noise of s; c f + b has c times all."""
    each, ones = jnp.array([0.2, 1.0, 5.0]), jnp.ones(3)

    @fast_jit
    def look(key):
        found = {}
        for name, method in LENGTHS.items():
            unit = 3 * ones if name == "alpha-order" else each  # which has a norm of all entries

            def one(noise, length, factor, offset, method=method):
                f = estimate(lambda u: factor * loss(length * u) + offset, method(noise))
                return f(X / length, key=key)

            cases = [(unit, ones, 1.0, 0.0), (ones, unit, 1.0, 0.0), (unit, ones, -2.5, 7.0)]
            found[name] = jax.vmap(one)(*map(jnp.asarray, zip(*cases))), unit
        return found

    for name, (all_three, unit) in look(KEY).items():
        plain, other, lower = (jax.tree.map(lambda leaf, k=k: leaf[k], all_three) for k in range(3))
        np.testing.assert_allclose(other.grad, plain.grad * unit, rtol=1e-9, err_msg=name)
        np.testing.assert_allclose(other.standard_error, plain.standard_error * unit, rtol=1e-9)
        np.testing.assert_allclose(lower.value, -2.5 * plain.value + 7, rtol=1e-9)
        np.testing.assert_allclose(lower.grad, -2.5 * plain.grad, rtol=1e-9, err_msg=name)
        np.testing.assert_allclose(lower.variance, 6.25 * plain.variance, rtol=1e-9)


def test_the_value_is_the_mean_of_the_loss_under_the_law():
    """Of g·x with noise of σ in each entry: g·x, and a variance of |σ g|²/n."""
    slope, sigma = jnp.array([1.0, -2.0, 0.5]), jnp.array([0.3, 0.1, 2.0])
    used = {"measure-valued": MeasureValued(sigma, samples=2), "score": ScoreFunction(
        Gaussian(sigma), samples=2), "relax": Relax(Gaussian(sigma), samples=2)}  # fmt: skip

    @fast_jit
    @jax.vmap
    def look(key):
        return {n: surrogate(lambda x: slope @ x, m)(X, key=key) for n, m in used.items()}

    for name, values in look(jax.random.split(KEY, 4000)).items():
        deviation = float(jnp.linalg.norm(sigma * slope)) / 2**0.5
        assert np.std(values) == pytest.approx(deviation, rel=0.05), name
        assert np.mean(values) == pytest.approx(float(slope @ X), abs=4 * deviation / 4000**0.5)


def test_figures_of_an_estimate_are_their_formulas():
    found = fast_jit(estimate(loss, ScoreFunction(samples=7)))(X, key=KEY)
    assert float(found.variance) == pytest.approx(float(jnp.sum(found.standard_error**2)))
    assert float(found.snr) == pytest.approx(float(found.grad @ found.grad / found.variance))
    assert (int(found.samples), found.evaluations) == (7, 7)


def test_the_judge_is_the_score_function_of_the_same_draws():
    """grad ∓ (|ĝ − ĝ₀| + t SE₀), everything of ĝ₀ that of the score function."""
    both = fast_jit(lambda key: [
        estimate(loss, kind(samples=12))(X, key=key) for kind in (AlphaOrder, ScoreFunction)
    ])  # fmt: skip
    mixed, score = both(KEY)
    assert float(jnp.max(jnp.abs(mixed.grad - score.grad))) > 1e-3
    offset = jnp.abs(mixed.grad - score.grad)
    for ours, theirs in zip(mixed.judge, (offset, score.standard_error, score.skewness)):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-12)
    half = offset + (score.interval(0.9)[1] - score.grad)
    for side, end in zip((-1, 1), mixed.interval(0.9)):
        np.testing.assert_allclose(end, mixed.grad + side * half, rtol=1e-9)


# On three entries, as each method's docstring says; a derivative counts as one call.
CALLS = {
    "pathwise": 1, "pathwise-forward": 1, "pathwise-smoothed": 2 * 32, "score-function": 64,
    "score-function-antithetic": 2 * 32, "evolution-strategies": 2 * 32,
    "evolution-strategies-ranked": 2 * 32, "spsa": 2 * 16, "forward-gradient": 16,
    "central-difference": 2 * 3, "richardson": 4 * 3, "complex-step": 3,
    "random-directions": 2 * 16, "sphere": 2 * 16, "haar": 2 * 2 * 3, "hadamard": 2 * 2 * 4,
    "quasi-random": 2 * 2 * 16, "measure-valued": 8 * 2 * 3, "relax": 64,
    "smoothing-first-order": 64, "smoothing-zeroth-order": 65, "alpha-order": 64,
    "inverse-variance": 64, "total-propagation": 64, "persistent-es": 2 * 32,
    "noise-reuse-es": 2 * 32,
}  # fmt: skip


def test_calls_are_counted():
    assert CALLS.keys() == METHODS.keys()
    for name, calls in CALLS.items():
        f = estimate(loss, make(name))
        assert jax.eval_shape(lambda f=f: f(X, key=KEY)).evaluations == calls, name


def test_a_penalty_is_a_loss_that_is_there():
    """Values and slopes are those of the loss with the constant put in by hand."""

    names = ("pathwise-smoothed", "spsa", "persistent-es", "total-propagation")

    def broken(x, instead):
        return jnp.where(jnp.sum(x) > 0.81, instead, loss(x))

    @fast_jit
    @jax.vmap
    def look(instead):
        found = {}
        for name in names:
            used = METHODS[name]
            used = used.replace(step=0.3) if hasattr(used, "step") else used
            f = estimate(broken, used, on_failure="penalty", penalty=3.0)
            found[name] = f(X, instead, key=KEY)
        return found

    for name, found in look(jnp.array([jnp.nan, 3.0])).items():
        assert found.failures[0] > 0 == found.failures[1], name
        for figure in (found.grad, found.variance, found.value, found.samples):
            np.testing.assert_allclose(figure[0], figure[1], rtol=1e-9, err_msg=name)


def test_a_run_that_fails_costs_the_penalty_in_all():
    """From where it fails on: what was paid before is part of it. Without one it is NaN."""
    costs = jnp.array([[1.0, 1.0], [2.0, jnp.nan], [4.0, 7.0]])
    for penalty, wanted in ((10.0, [1, 9, 0]), (None, [1, np.nan, np.nan])):
        problem = Problem(loss, X, has_aux=False, keys=(None,) * 3, stochastic=False,
                          penalty=penalty)  # fmt: skip
        losses, steps, good = settled(problem, costs)
        np.testing.assert_array_equal(steps, np.stack([[1, 2, 4], wanted], axis=1))
        np.testing.assert_array_equal(losses, [7, penalty or np.nan])
        assert good[:, 1].tolist() == [True, False, False]
        assert int(problem.failures[0]) == 1


def test_masked_terms_are_as_if_never_drawn():
    """Mean and variance of the mean, (n − 1) n in its denominator, in NumPy."""
    rng = np.random.default_rng(0)
    terms, values = rng.normal(size=(9, 2)), rng.normal(size=9)
    spoiled, lost = terms.copy(), values.copy()
    spoiled[[2, 5], [0, 1]], lost[2] = np.nan, np.nan
    good = np.isfinite(spoiled).all(axis=1)
    for given, masked, rows in ((terms, False, terms), (spoiled, True, terms[good])):
        value, mean, variance, kept = reduced(
            Draws(jnp.asarray(lost if masked else values), jnp.asarray(given)), masked
        )
        assert int(kept) == len(rows)
        assert float(value) == pytest.approx(np.nanmean(lost) if masked else values.mean())
        np.testing.assert_allclose(mean, rows.mean(axis=0))
        np.testing.assert_allclose(variance, rows.var(axis=0, ddof=1) / len(rows))


def test_a_discounted_policy_gradient_is_its_formula():
    """γ^t (R_t − b_t)/n with R_t = Σ γ^(h − t) r_h and b the mean of the other rollouts'."""
    rng, discount = np.random.default_rng(0), 0.7
    rewards = rng.normal(size=(4, 5))
    powers = discount ** np.arange(5)
    to_go = np.stack([rewards[:, t:] @ powers[: 5 - t] for t in range(5)], axis=1)
    others = (to_go.sum(axis=0) - to_go) / 3
    found = jax.grad(policy_gradient_objective)(jnp.zeros((4, 5)), jnp.asarray(rewards), discount)
    np.testing.assert_allclose(found, powers * (to_go - others) / 4, rtol=1e-12)
    for shapes in (((4, 5), (4, 1)), ((4, 1), (4, 5)), ((4,), (4,))):
        with pytest.raises(ValueError, match="log_probs, rewards: expected one shape"):
            policy_gradient_objective(*map(jnp.zeros, shapes))


@pytest.mark.parametrize("confidence", [0.5, 0.95])
def test_intervals_of_a_comparison_are_as_wide_as_their_figures_vary(confidence):
    """Means over the replications: ± z σ/√n; what sampling adds to ‖mean − truth‖² is taken off."""
    rng = np.random.default_rng(1)
    rows, truth = rng.normal(size=(4000, 3)) * [1, 2, 0.5] + [3, 0, 0], np.array([2.0, 0, 0])
    found = _figures(rows, truth, np.random.default_rng(0), confidence)
    z = scipy.stats.norm.ppf(0.5 + 0.5 * confidence)
    squares, cosines = (
        np.sum((rows - truth) ** 2, axis=1),
        rows[:, 0] / np.linalg.norm(rows, axis=1),
    )
    away = np.sum((rows - rows.mean(axis=0)) ** 2, axis=1)
    for name, each in (("mse", squares), ("cosine", cosines), ("variance", away)):
        figure = found[name]
        assert figure.value == pytest.approx(each.mean(), rel=1e-3), name
        half = z * each.std() / len(each) ** 0.5
        assert figure.high - figure.value == pytest.approx(half, rel=0.15), name
        assert figure.value - figure.low == pytest.approx(half, rel=0.15), name
    variance = rows.var(axis=0, ddof=1).sum()
    assert found["variance"].value == pytest.approx(variance, rel=1e-9)
    bias = np.sum((rows.mean(axis=0) - truth) ** 2) - variance / len(rows)
    assert found["bias"].value == pytest.approx(bias**0.5, rel=1e-9)
    power = np.sum(rows.mean(axis=0) ** 2) - variance / len(rows)
    assert found["snr"].value == pytest.approx(power / variance, rel=1e-9)
    half = z * rows[:, 0].std() / len(rows) ** 0.5  # the bias lies along the first axis
    assert found["bias"].high - found["bias"].low == pytest.approx(2 * half, rel=0.15)


def test_times_have_a_normal_interval_that_is_not_negative():
    seconds = np.array([1.0, 2.0, 4.0, 1.5, 3.0, 2.5, 2.0])
    figure, error = _timed(seconds, 0.9), seconds.std(ddof=1) / 7**0.5
    assert figure.value == pytest.approx(seconds.mean())
    assert figure.high == pytest.approx(seconds.mean() + 1.6448536 * error)
    assert figure.low == pytest.approx(seconds.mean() - 1.6448536 * error)
    assert _timed(np.array([0.0, 0.0, 9.0]), 0.99).low == 0


def test_a_sampled_reference_has_sixteen_times_the_replications_and_an_error():
    used = ScoreFunction(samples=4)
    found = compare(loss, X, {"one": used}, reference=used, key=KEY, replications=8)
    _, reference_key, _ = jax.random.split(KEY, 3)
    keys = jax.random.split(reference_key, 128)
    rows = fast_jit(jax.vmap(lambda key: jax.grad(surrogate(loss, used))(X, key=key)))(keys)
    np.testing.assert_allclose(found.reference, rows.mean(axis=0), rtol=1e-9)
    error = (np.asarray(rows).var(axis=0, ddof=1).sum() / 128) ** 0.5
    assert found.reference_error == pytest.approx(error, rel=1e-9)


SMOOTH = {
    "differentiable": 1.0, "failed_slopes": 0.0, "mismatch": 0.0, "repeat": 0.0, "explained": 1.0,
    "fine_noise": 0.0, "jump": 0.0, "slope_turns": 0.0, "turns": 0.0, "residue": 0.0, "noise": 0.0,
    "unseen": 0.0, "unseen_z": 0.0, "pathwise_variance": 1.0, "score_variance": 2.0,
}  # fmt: skip
NOISE = {"fine_noise": 0.1, "mismatch": 0.31, "repeat": 0.1}
WAVES = {"turns": 9.0, "residue": 0.011}
# What the probes say, the entries, and what is to be used.
DECISIONS = [
    ({}, 3, "smooth", "Pathwise"),
    ({"differentiable": 0.0}, 64, "smooth", "Richardson"),
    ({"differentiable": 0.0}, 65, "smooth", "RandomDirections"),
    ({"failed_slopes": 0.1}, 3, "smooth", "Richardson"),
    (NOISE, 16, "noisy", "CentralDifference"),
    (NOISE, 17, "noisy", "EvolutionStrategies"),
    (NOISE | {"mismatch": 0.29}, 3, "smooth", "Pathwise"),
    (NOISE | {"fine_noise": 0.0}, 3, "smooth", "Pathwise"),
    (NOISE | {"repeat": 0.0, "explained": 0.51}, 3, "noisy", "CentralDifference"),
    (NOISE | {"repeat": 0.0, "explained": 0.49}, 3, "chaotic", "EvolutionStrategies"),
    (NOISE | {"explained": 0.49}, 3, "noisy", "CentralDifference"),
    (WAVES, 3, "chaotic", "EvolutionStrategies"),
    (WAVES | {"turns": 8.0}, 3, "smooth", "Pathwise"),
    (WAVES | {"residue": 0.009}, 3, "smooth", "Pathwise"),
    (WAVES | {"jump": 0.021}, 3, "discontinuous", "MeasureValued"),
    (WAVES | {"jump": 0.021, "slope_turns": 2.0}, 3, "chaotic", "EvolutionStrategies"),
    (WAVES | {"jump": 0.021, "slope_turns": 1.0}, 3, "discontinuous", "MeasureValued"),
    ({"jump": 0.021}, 8, "discontinuous", "MeasureValued"),
    ({"jump": 0.021}, 9, "discontinuous", "EvolutionStrategies"),
    ({"jump": 0.019}, 3, "smooth", "Pathwise"),
    ({"unseen": 0.11, "unseen_z": 4.1}, 3, "discontinuous", "MeasureValued"),
    ({"unseen": 0.09, "unseen_z": 4.1}, 3, "smooth", "Pathwise"),
    ({"unseen": 0.11, "unseen_z": 3.9}, 3, "smooth", "Pathwise"),
    ({"noise": 0.11}, 3, "noisy", "Pathwise"),
    ({"noise": 0.11, "pathwise_variance": 2.1}, 3, "noisy", "EvolutionStrategies"),
    ({"noise": 0.11, "differentiable": 0.0}, 3, "noisy", "EvolutionStrategies"),
    ({"noise": 0.09}, 3, "smooth", "Pathwise"),
    ({"pathwise_variance": 2.1}, 3, "stiff", "InverseVariance"),
    ({"pathwise_variance": 1.9}, 3, "smooth", "Pathwise"),
]  # fmt: skip


def test_advice_on_either_side_of_every_threshold():
    def asked(loss, dimension):
        return Problem(loss, jnp.ones(dimension), has_aux=False, keys=(None,) * 3,
                       stochastic=False)  # fmt: skip

    for probes, dimension, condition, name in DECISIONS:
        found = _decided(asked(loss, dimension), SMOOTH | probes, 0.25, 66)
        told = (found.condition, type(found.method).__name__)
        assert told == (condition, name), (probes, dimension)
        found.method.check()
        length = getattr(found.method, "sigma", getattr(found.method, "step", None))
        law = getattr(found.method, "law", None)
        assert (length or getattr(law, "sigma", None)) in (None, 0.25), name
        if name == "MeasureValued":
            assert found.method.samples == 66 // dimension
        elif name == "InverseVariance":
            assert found.method.samples == 64
        assert ("10% of its derivatives" in found.reason) == ("failed_slopes" in probes)
    chain = UnrolledLoss(X, lambda s, x: s + x, jnp.sum, 3)
    found = _decided(asked(chain, 3), SMOOTH | WAVES, 0.25, 66)
    assert isinstance(found.method, TotalPropagation)
    found = _decided(asked(chain, 3), SMOOTH | WAVES | {"failed_slopes": 0.1}, 0.25, 66)
    assert isinstance(found.method, EvolutionStrategies)


@pytest.mark.parametrize(
    ("make", "values"),
    [
        (lambda k: make("spsa", samples=k), (0, -3, 2.0, True)),
        (lambda k: make("central-difference", chunk=k), (0, -3)),
        (lambda k: make("score-function", samples=k), (1, 0, -3)),
        (lambda k: make("alpha-order", samples=k), (1, 0, -3)),
        (lambda k: make("alpha-order", failure=k), (0.0, 1.0, -3, 3)),
        (lambda k: make("inverse-variance", folds=k), (1, 0, -3)),
        (lambda k: make("inverse-variance", samples=k, folds=4), (4, 0, -4)),
        (lambda k: make("persistent-es", window=k), (0, -3)),
        (lambda k: make("evolution-strategies", antithetic=False, samples=k), (1, 0)),
    ],
)
def test_just_and_far_beyond_is_refused(make, values):
    for value in values:
        with pytest.raises(ValueError, match="expected"):
            make(value)


@pytest.mark.parametrize("name", [n for n, m in METHODS.items() if hasattr(m, "samples")])
def test_no_method_takes_no_samples(name):
    for samples in (0, -1, -8):
        with pytest.raises(ValueError, match="samples: expected an integer >= "):
            make(name, samples=samples)


def test_a_mask_is_told_where_small_slopes_are_not_zero():
    """Zero is what is below 1 % of the mismatch, shared by all entries: 3.2e-3 here."""
    measured, x = np.ones(100), np.zeros(100)
    measured[50:60] = 0.1
    measured[60:70] = 1e-3
    given = measured.copy()
    given[:10] = 0
    given[60:70] = 0  # too small to be missed
    found = slips.leaf_slip(given, measured, x)
    assert found == "masked: 10 of 100 entries are zero and should not be"
    assert slips.leaf_slip(measured, given, x) == (
        "mask left out: 20 of 100 entries should be zero"
    )
