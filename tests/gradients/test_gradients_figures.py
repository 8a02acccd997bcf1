"""Figures of the comparison and of the checker, each number against its formula."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffsim._intervals import Interval
from diffsim.gradients import SPSA, check_gradient, compare
from diffsim.gradients.compare import Comparison, Row, _figures, _runner, _timed

KEY = jax.random.key(0)
SIDES = pytest.mark.parametrize("share", [0.98, 1.02])


def test_figures_are_unbiased_and_their_intervals_normal_where_many_terms_are_added():
    draw, count, z = np.random.default_rng(3), 4_000, 1.2816  # of 80 %
    rows = [1.0, -2.0, 3.0] + draw.normal(size=(count, 3)) * [1, 2, 0.5]
    truth = np.array([1.5, -2.0, 2.5])
    found = _figures(rows, truth, np.random.default_rng(0), 0.8)
    mean, squares = rows.mean(axis=0), np.sum((rows - truth) ** 2, axis=1)
    variance = rows.var(axis=0, ddof=1).sum()
    bias = (np.sum((mean - truth) ** 2) - variance / count) ** 0.5
    cosines = rows @ truth / np.linalg.norm(rows, axis=1) / np.linalg.norm(truth)
    centred = np.sum((rows - mean) ** 2, axis=1)
    along = (rows - mean) @ (mean - truth) / bias
    for name, value, terms in (
        ("bias", bias, along),
        ("variance", variance, centred),
        ("mse", squares.mean(), squares),
        ("cosine", cosines.mean(), cosines),
        ("snr", (mean @ mean - variance / count) / variance,
         2 * (rows - mean) @ mean / variance - centred * (mean @ mean) / variance**2),
    ):  # fmt: skip
        half = z * terms.std() / count**0.5
        assert found[name].value == pytest.approx(value, rel=1e-12), name
        assert found[name].low == pytest.approx(value - half, abs=0.15 * half), name
        assert found[name].high == pytest.approx(value + half, abs=0.15 * half), name


def test_equal_rows_have_figures_without_width():
    found = _figures(np.full((8, 2), 0.1), np.array([0.1, 0.3]), np.random.default_rng(0), 0.9)
    assert found["variance"] == (0, 0, 0)
    assert found["snr"] == (np.inf, np.inf, np.inf)
    assert found["bias"] == pytest.approx((0.2, 0.2, 0.2))


def test_time_is_a_mean_of_runs_and_not_negative():
    seconds = np.array([1.0, 2.0, 3.0, 6.0])
    half = 1.96 * seconds.std(ddof=1) / 2
    assert _timed(seconds, 0.95) == pytest.approx((3, 3 - half, 3 + half), rel=1e-3)
    assert _timed(seconds * [1, 1, 1, 9], 0.95).low == 0


def test_a_reference_method_is_averaged_over_16_times_the_replications():
    slope = jnp.array([3.0, 4.0])
    found = compare(
        lambda x: slope @ x, jnp.zeros(2), ["spsa"], reference=SPSA(samples=1), key=KEY,
        replications=64,
    )  # fmt: skip
    # One pair's variance is (d − 1)‖g‖².
    assert found.reference_error == pytest.approx(5 / 1024**0.5, rel=0.02)
    np.testing.assert_allclose(found.reference, slope, atol=4 * found.reference_error)
    with pytest.raises(ValueError, match="at least 8 for an interval, got 7"):
        compare(jnp.sum, jnp.zeros(2), ["spsa"], reference=slope, key=KEY, replications=7)


@pytest.mark.parametrize(("chunk", "timed"), [(None, 7), (1, 9), (2, 7)])
def test_estimates_are_those_of_their_keys_however_many_at_once(chunk, timed):
    keys, slope = jax.random.split(KEY, 9), jnp.array([3.0, 4.0])
    calls = []

    def loss(x):
        return slope @ x

    run = _runner(loss, False, chunk, lambda f: calls.append(f) or f)
    rows, evaluations, seconds = run("spsa", SPSA(samples=2), jnp.zeros(2), (), keys)
    assert (evaluations, seconds.size, rows.shape) == (4, timed, (9, 2))
    assert np.all(seconds > 0)
    one = np.array([calls[0](SPSA(samples=2), jnp.zeros(2), (), key) for key in keys])
    np.testing.assert_allclose(rows, one, rtol=1e-12)


def test_a_comparison_tells_its_rows():
    figures = {
        name: Interval(k, k - 0.5, k + 0.5)
        for k, name in enumerate(("bias", "variance", "mse", "cosine", "snr", "seconds"), 1)
    }
    row = Row("mine", "f", 7, **figures)
    table = Comparison((row,), 24, 0.9, np.array([1.0, 2.0]), 0.25)
    (record,) = table.records()
    assert list(record)[:6] == [
        "method",
        "objective",
        "evaluations",
        "bias",
        "bias_low",
        "bias_high",
    ]
    assert [record[k] for k in ("method", "objective", "evaluations")] == ["mine", "f", 7]
    for name, figure in figures.items():
        assert tuple(record[name + end] for end in ("", "_low", "_high")) == figure
    title, headings, cells = table._told()
    assert title == "24 replications, 90 % intervals"
    assert headings[:4] == ("method", "objective", "evaluations", "bias")
    assert cells == [["mine", "f", "7", *map(str, figures.values())]]
    lines = str(table).splitlines()
    assert title in lines[0]
    assert any(
        line.split("│")[1:4] == [" mine   ", "         f ", "           7 "] for line in lines
    )


def bowl(x):
    return float(0.5 * np.sum(np.asarray(x, float) ** 2))


@SIDES
@pytest.mark.parametrize(
    ("dtype", "factor", "close"),
    [
        ("float64", 1.5, 1e4 * 2.0**-52),  # 10,000 digits
        ("float32", 1.1, 0.01 / 11),  # a hundredth of the mismatch
        ("float16", -1.0, 0.01),  # a hundredth of the gradient
    ],
)
def test_a_hypothesis_is_named_where_it_is_the_gradient_given(share, dtype, factor, close):
    x = jnp.array([4.0, 0.5, 1.0], dtype)
    given = jnp.asarray(factor * x, dtype)
    other = given.at[1].add(share * close * 4 * abs(factor))
    found = check_gradient(bowl, x, lambda _: given, hypotheses={"mine": other})
    assert found.diagnosis == "wrong gradient"
    assert ("mine" in found.slips) == (share < 1)


def test_what_f_repeats_badly_is_told_by_its_values_at_x():
    """Four of them."""
    off, calls = [0.1, -0.2, 0.3, 0.5], []

    def f(x):
        calls.append(x)
        return bowl(x) + (off[len(calls) - 1] if len(calls) <= 4 else 0)

    found = check_gradient(f, jnp.ones(2), lambda x: x)
    assert found.directions[0].noise == pytest.approx(np.std(off, ddof=1))


def test_an_estimator_needs_a_gradient_and_two_samples():
    estimator = lambda x, key: x  # noqa: E731
    for gradient, samples in ((None, 2), (estimator, 1)):
        with pytest.raises(ValueError, match="expected gradient"):
            check_gradient(bowl, jnp.ones(2), gradient, key=KEY, samples=samples)
    assert check_gradient(bowl, jnp.ones(2), estimator, key=KEY, samples=2).passed


def test_a_report_prints_what_it_found():
    x = jnp.array([1.0, 2.0, 3.0])
    wrong = check_gradient(bowl, x, lambda x: 2 * x, steps=(0.1, 0.01, 0.001))
    lines = str(wrong).splitlines()
    assert lines[:3] == [
        "FAILED: wrong gradient in x", "  x[2]: given 6, measured 3", "  x[1]: given 4, measured 2",
    ]  # fmt: skip
    assert lines[-1] == "  steps from 0.1 to 0.001"
    right = check_gradient(bowl, x, lambda x: x)
    assert str(right).startswith("passed: correct\n  along x: given ")
    right.raise_if_failed()
