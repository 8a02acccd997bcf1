"""The comparison table and the advice."""

import csv
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import LogisticMap, Step, fast_jit, quadratic

from diffsim.gradients import (
    SPSA,
    CentralDifference,
    Gaussian,
    Pathwise,
    compare,
    mixtures,
    recommend,
)
from diffsim.report import comparison

KEY = jax.random.key(0)
Q = quadratic()
X = jnp.asarray(Q.mu)


@pytest.fixture(scope="module")
def table():
    methods = {"exact": Pathwise(), "noisy": Pathwise(Gaussian(Q.sigma)), "spsa": SPSA(samples=1)}
    off = jnp.asarray(Q.gradient * (1 + 3 / Q.G**0.5))  # so that every bias is 3
    return compare(Q, X, methods, reference=off, key=KEY, replications=2_000)


def test_figures_against_theory(table):
    exact, noisy, spsa = table.rows
    assert (exact.variance.value, exact.snr.value) == (0.0, np.inf)
    assert exact.bias.value == pytest.approx(3.0, rel=1e-6)
    assert (exact.evaluations, spsa.evaluations) == (1, 2)
    for row, variance in ((noisy, Q.sigma**2 * Q.F), (spsa, (Q.d - 1) * Q.G)):
        # Intervals at 95 %, twice as wide: 4 standard errors.
        for figure, truth in (
            (row.variance, variance),
            (row.bias, 3.0),
            (row.mse, variance + 9.0),
            (row.snr, Q.G / variance),
        ):
            assert figure.low < figure.value < figure.high
            assert abs(figure.value - truth) < 2 * (figure.high - figure.low) / 2, (row, figure)
    assert exact.cosine.value == pytest.approx(1)
    assert exact.cosine.value > max(noisy.cosine.value, spsa.cosine.value)
    assert all(row.seconds.value > 0 for row in table.rows)


def test_prints_saves_and_plots(table, tmp_path):
    assert "95 % intervals" in str(table)
    assert "noisy" in str(table)
    assert repr(table).startswith("Comparison(rows=exact, noisy, spsa, reference=")
    assert table._repr_html_().count("<tr>") == 4  # the headings, three methods
    table.save(tmp_path / "t.csv")
    table.save(tmp_path / "t.json")
    with (tmp_path / "t.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert float(rows[2]["variance"]) == table.rows[2].variance.value
    stored = json.loads((tmp_path / "t.json").read_text())
    assert stored["rows"][0]["snr"] is None  # infinite
    assert stored["rows"][1]["bias_low"] == table.rows[1].bias.low
    assert sorted(p.name for p in tmp_path.iterdir()) == ["t.csv", "t.json"]
    with pytest.raises(ValueError, match=r"\.csv or \.json"):
        table.save(tmp_path / "t.txt")
    assert comparison(table, path=tmp_path / "t.png").stat().st_size > 1_000
    with pytest.raises(ValueError, match="ending in"):
        comparison(table, path=tmp_path / "t.bmp")


def test_reference_method_and_rank_shaping():
    found = compare(
        Q,
        X,
        ["evolution-strategies-ranked"],
        reference=CentralDifference(),
        key=KEY,
        replications=16,
    )
    row = found.rows[0]
    assert np.isnan(row.bias.value)
    assert "–" in str(found)
    assert row.cosine.value > 0.5
    np.testing.assert_allclose(found.reference, Q.gradient, rtol=1e-8)


def test_compare_bad_input():
    with pytest.raises(ValueError, match="at least 8 for an interval, got 4"):
        compare(Q, X, ["spsa"], reference=X, key=KEY, replications=4)
    with pytest.raises(ValueError, match="expected 4 numbers, got 1"):
        compare(Q, X, ["pathwise"], reference=jnp.ones(1), key=KEY, replications=8)
    with pytest.raises(ValueError, match="at least one, got none"):
        compare(Q, X, {}, reference=X, key=KEY)
    with pytest.raises(TypeError, match=r"key: expected a jax\.random\.key, got int"):
        compare(Q, X, ["spsa"], reference=X, key=0)
    with pytest.raises(ValueError, match="key: expected one key"):
        recommend(Q, X, key=jax.random.split(KEY))
    with pytest.raises(FloatingPointError, match="8 of 8 estimates are not finite"):
        compare(lambda x: jnp.nan * x[0], X, ["pathwise"], reference=X, key=KEY, replications=8)


def spring(x):
    """A steep but continuous wall: 1 mm wide against σ = 0.1."""
    return jax.nn.sigmoid(1000 * (x[0] - 0.03)) + 0.1 * jnp.sum(x)


def host(x):
    return jax.pure_callback(
        lambda a: np.sum(np.asarray(a) ** 2, axis=-1),
        jax.ShapeDtypeStruct((), x.dtype),
        x,
        vmap_method="expand_dims",
    )


def noisy(x, key):
    return jnp.sum(x**2) + jax.random.normal(key)


def moving_step(x, key):
    return jnp.where(x[0] + 0.2 * jax.random.normal(key) > 0, 1.0, 0.0) + 0.1 * jnp.sum(x)


def dashpot(x):
    """A ball on a spring of 1,000 N/m whose damping grows with the depth: stiff, no jump."""

    def step(state, _):
        height, speed = state
        depth = jnp.maximum(-height, 0)
        speed = speed + 1e-3 * (depth * (1e3 - 50 * speed) / 0.05 - 9.81)
        return (height + 1e-3 * speed, speed), None

    start = (0.05 + 0.1 * x[0], 0.1 * x[1])
    return jax.lax.scan(step, start, length=800)[0][0] ** 2


def stairs(width):
    return lambda x: jnp.sum(jnp.floor(x / width) * width)


def lorenz(duration):
    """From (x, 25) by Euler steps: within 30 time units 1e-16 grows to the attractor's size."""

    def step(state, _):
        a, b, c = state
        rate = jnp.stack([10 * (b - a), a * (28 - c) - b, a * b - 8 / 3 * c])
        return state + 5e-3 * rate, None

    def end(x):
        start = jnp.append(x, jnp.asarray(25, x.dtype))
        return jax.lax.scan(step, start, length=200 * duration)[0][0]

    return end


def shaken(share):
    """A simulator on the host that never gives one value twice."""
    draw = np.random.default_rng(0)

    def values(a):
        return share * np.sum(a**2, axis=-1) + 0.05 * draw.normal(size=a.shape[:-1])

    return lambda x: jax.pure_callback(
        values, jax.ShapeDtypeStruct((), x.dtype), x, vmap_method="expand_dims"
    )


def unguarded(x):
    """Smooth, with derivatives of 0 · ∞."""
    return jnp.sum(x**2) + jnp.where(x[0] > 9, jnp.sqrt(x[0] - 9), 0)


ADVICE = {
    "quadratic": (Q, X, "smooth", "Pathwise"),
    "host": (host, jnp.ones(2), "smooth", "Richardson"),
    "step": (Step(), jnp.array([0.05]), "discontinuous", "MeasureValued"),
    "step in many": (lambda x: jnp.where(jnp.sum(x) > 0.1, 1.0, 0.0), jnp.zeros(20),
                     "discontinuous", "EvolutionStrategies"),
    "stiff": (spring, jnp.zeros(2), "stiff", "InverseVariance"),
    "calm map": (LogisticMap(2), jnp.array([0.7]), "smooth", "Pathwise"),
    "chaotic map": (LogisticMap(12), jnp.array([0.7]), "chaotic", "EvolutionStrategies"),
    "spent map": (LogisticMap(90), jnp.array([0.7]), "chaotic", "EvolutionStrategies"),
    "overflowing map": (LogisticMap(2_000), jnp.array([0.7]), "chaotic", "EvolutionStrategies"),
    "lorenz": (lorenz(30), jnp.array([1.0, 2.0]), "chaotic", "EvolutionStrategies"),
    "shaken": (shaken(1.0), jnp.ones(3), "noisy", "CentralDifference"),
    "shaken alone": (shaken(1e-3), jnp.ones(3), "noisy", "CentralDifference"),
    "unguarded": (unguarded, jnp.ones(2), "smooth", "Richardson"),
    "fine noise": (lambda x: jnp.sum(x**2) + 1e-3 * jnp.sin(1e7 * x[0]), jnp.ones(2),
                   "noisy", "CentralDifference"),
    "high jump": (lambda x: jnp.where(jnp.sum(x) > 1, 1.0, 0.0) + jnp.sum(x**2) / 100,
                  jnp.zeros(100), "discontinuous", "EvolutionStrategies"),
    "steep in many": (lambda x: jnp.sum(x**2), jnp.ones(100), "smooth", "Pathwise"),
    "jump on a slope": (lambda x: jnp.sum(x**2) + jnp.where(x[0] > 1.05, 1.0, 0.0),
                        jnp.ones(100), "discontinuous", "EvolutionStrategies"),
    "fine stairs": (stairs(1e-3), jnp.array([0.3, 0.7]), "discontinuous", "MeasureValued"),
    "coarse stairs": (stairs(0.1), jnp.array([0.33, 0.71, 0.18]), "discontinuous", "MeasureValued"),
    "stairs in many": (lambda x: jnp.sum(jnp.round(x / 1e-2) * 1e-2), jnp.linspace(0, 1, 100),
                       "discontinuous", "EvolutionStrategies"),
    "fine stairs in many": (lambda x: jnp.sum(jnp.round(x / 1e-5) * 1e-5), jnp.linspace(0, 1, 100),
                            "discontinuous", "EvolutionStrategies"),
    "sawtooth": (lambda x: jnp.sum(30 * x - jnp.floor(30 * x)), jnp.array([0.3]),
                 "discontinuous", "MeasureValued"),
    "multiplied noise": (lambda x: jnp.sum(x**2) * (1 + 0.1 * jnp.sin(1e7 * x[0])), jnp.ones(2),
                         "noisy", "CentralDifference"),
    "noisy": (noisy, jnp.ones(2), "noisy", "Pathwise"),
    "moving step": (moving_step, 0.1 * jnp.ones(2), "discontinuous", "MeasureValued"),
}  # fmt: skip


@pytest.mark.parametrize("case", ADVICE)
def test_advice(case):
    loss, x, condition, name = ADVICE[case]
    found = recommend(loss, x, key=KEY, stochastic=loss in (noisy, moving_step))
    assert (found.condition, type(found.method).__name__) == (condition, name), found
    found.method.check()
    assert found.condition in str(found)


@pytest.mark.slow
@pytest.mark.parametrize("case", ADVICE)
@pytest.mark.parametrize("seed", range(1, 6))
def test_advice_does_not_hang_on_the_seed(case, seed):
    loss, x, condition, name = ADVICE[case]
    key = jax.random.key(seed)
    found = recommend(loss, x, key=key, stochastic=loss in (noisy, moving_step))
    assert (found.condition, type(found.method).__name__) == (condition, name), found


def test_advice_wants_a_finite_loss():
    with pytest.raises(FloatingPointError, match="probes near x are not finite"):
        recommend(lambda x: jnp.log(x[0]), jnp.zeros(1), key=KEY)


def test_derivatives_that_fail_in_places_are_counted_point_by_point():
    """Beyond one σ of 0.1 from x, where 16 % of the draws are, and nowhere else."""

    @jax.custom_jvp
    def loss(x):
        return jnp.sum(x**2)

    @loss.defjvp
    def _(primals, tangents):
        (x,), (way,) = primals, tangents
        return loss(x), 2 * (x @ way) * jnp.where(x[0] > 1.1, jnp.nan, 1)

    found = recommend(loss, jnp.ones(2), key=KEY)
    assert 0.1 < found.probes["failed_slopes"] < 0.4
    assert type(found.method).__name__ == "Richardson"


def test_a_stiff_dashpot_is_not_noisy():
    found = recommend(dashpot, jnp.zeros(2), key=KEY)
    assert found.condition in ("stiff", "smooth"), found
    assert found.probes["mismatch"] < 0.1


@pytest.mark.parametrize(("offset", "unit"), [(1e6, 1.0), (0.0, 1e30), (0.0, 1e-30)])
def test_advice_in_any_unit(offset, unit):
    """Single precision: rounding is no jump, and squares neither overflow nor vanish."""
    x = jnp.ones(3, jnp.float32)
    found = recommend(lambda x: offset + jnp.float32(unit) * jnp.sum(x**2), x, key=KEY)
    assert found.condition == "smooth", found
    if not offset:
        assert found.probes["score_variance"] > 100 * found.probes["pathwise_variance"] > 0


@pytest.mark.parametrize(
    ("duration", "x"),
    [(4, (1.0, 2.0)), (6, (5.0, 5.0))]
    + [
        pytest.param(duration, x, marks=pytest.mark.slow)
        for duration in (5, 8)
        for x in ((1.0, 2.0), (5.0, 5.0), (-8.0, 3.0))
    ],
)
def test_a_continuous_loss_does_not_jump_however_steep(duration, x):
    """Where a flow divides, slopes are as 1/distance, and halving ends before the step does."""
    found = recommend(lorenz(duration), jnp.array(x), key=KEY)
    assert found.condition in ("stiff", "chaotic"), found
    assert found.probes["jump"] == 0


def test_disagreement_is_a_normal_deviate():
    """No disagreement: seldom beyond 3, in one dimension and in many; a shift of all is found."""
    rng = np.random.default_rng(1)
    score = fast_jit(jax.vmap(mixtures.disagreement))
    for dimension in (1, 3, 100):
        terms = jnp.asarray(rng.exponential(size=(500, 64, dimension)) - 1)
        _, z = score(terms, 0 * terms)
        assert np.mean(z > 3) < 0.01
        assert np.std(z) == pytest.approx(1, abs=0.1)
        apart, z = score(terms + 1.5, 0 * terms)
        assert np.mean(apart) == pytest.approx(1.5 * dimension**0.5, rel=0.03)
        assert np.min(z) > 4
