"""The published cases: exact where the source is, in short form here and in full when slow."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import fast_jit

from diffsim.gradients.concentration import Bernstein
from studies.cases import CASES, Case, Measured, Published, ball_with_wall, chaos, tennis
from studies.cases.friction import cost

pytestmark = pytest.mark.slow  # compiles or starts so much that the default run has no room

KEY = jax.random.key(0)


def test_ball_with_wall_is_exact():
    told = {what: p.low for what, p in CASES["ball-with-wall"].published.items()}
    low, high = ball_with_wall.thresholds()
    assert (round(low, 4), round(high, 4)) == (0.6932, 1.1993)
    assert told["first threshold θ"] == 0.6932
    np.testing.assert_allclose(ball_with_wall.jumps(), [-0.00644, 0.00115], atol=5e-6)
    np.testing.assert_allclose(ball_with_wall.exact(0.698), [-0.02614, -0.00047], atol=5e-6)
    assert ball_with_wall.exact_descent() == pytest.approx(0.8545, abs=5e-4)


def test_ball_with_wall_jumps_where_theory_says():
    loss = jax.vmap(ball_with_wall.loss)
    for threshold, jump in zip(ball_with_wall.thresholds(), ball_with_wall.jumps()):
        below, above = loss(jnp.array([[threshold - 1e-9], [threshold + 1e-9]]))
        assert float(above - below) == pytest.approx(jump, rel=1e-6)
    # The quadrature against brute force: derivatives and values over a dense grid of noise.
    noise = jnp.linspace(-0.8, 0.8, 50_001)[:, None]
    density = ball_with_wall._density(np.asarray(noise)[:, 0])
    slopes = np.asarray(jax.vmap(jax.grad(ball_with_wall.loss))(0.698 + noise))[:, 0]
    values = np.asarray(loss(0.698 + noise))
    step = float(noise[1, 0] - noise[0, 0])
    score = np.asarray(noise)[:, 0] / ball_with_wall.SIGMA**2
    brute = [np.sum(values * score * density) * step, np.sum(slopes * density) * step]
    np.testing.assert_allclose(ball_with_wall.exact(0.698), brute, rtol=1e-4, atol=2e-6)


def test_the_source_tells_where_the_descent_is_at_step_921():
    """The end over the wall and its scatter, from exact means and variances of the score.

    v ← (1 − rate g′)² v + rate² Var/N along the exact descent; .833 is six deviations off.
    """
    wall = ball_with_wall
    noise = wall.SIGMA * jnp.linspace(-8, 8, 4_001)
    weight = jax.scipy.stats.norm.pdf(noise, scale=wall.SIGMA) * (noise[1] - noise[0])
    loss = jax.vmap(wall.loss)

    @fast_jit
    def power(angle):
        """E[(f(θ + w) − f(θ))² w²]/σ⁴."""
        gain = loss((angle + noise)[:, None]) - wall.loss(angle[None])
        return jnp.sum(weight * (gain * noise / wall.SIGMA**2) ** 2)

    angle, variance, passed = wall.START, 0.0, None
    for step in range(wall.STEPS):
        slope = wall.exact(angle)[0]
        bend = (wall.exact(angle + 1e-4)[0] - wall.exact(angle - 1e-4)[0]) / 2e-4
        term = float(power(jnp.asarray(angle))) - slope**2
        variance = (1 - wall.RATE * bend) ** 2 * variance + wall.RATE**2 * term / wall.BATCH
        angle -= wall.RATE * slope
        if passed is None and angle > 0.833:
            passed = step + 1
    assert angle == pytest.approx(wall.exact_descent(), abs=1e-12)
    deviation = variance**0.5
    assert deviation == pytest.approx(0.0034, rel=0.05)  # as measured over 2,000 trials
    told = CASES["ball-with-wall"].published
    assert told["score function descent at step 921"].high < angle - 6 * deviation
    assert passed == wall.PASSING == 921
    assert wall.exact(0.861)[0] < 0 < wall.exact(0.862)[0]  # where it comes to rest
    # With L as the source sets it ε exceeds γ even without variance: the score function alone.
    radius = Bernstein(wall.LARGEST)(jnp.zeros((wall.BATCH, 1)), 0.05)
    assert radius > wall.GAMMA


def test_pushing_in_short():
    assert all(row.agrees for row in CASES["pushing"].rows(KEY, 60))


def test_chaos_in_short():
    for row in CASES["chaos"].rows(KEY, 20_000)[:-1]:
        # 1.96 standard errors to either side in the record: four of them here.
        half = (row.ours.high - row.ours.low) / 2
        assert abs(row.ours.value - row.published.low) < 4 * half / 1.96, row.what
    angle = jnp.array([chaos.POINT])
    assert float(chaos.orbit(angle, 5)) == pytest.approx(0.5 * (1 - np.cos(64 * chaos.POINT)))


def test_figures_name_what_is_run(monkeypatch):
    """Every published figure has one of ours beside it: with the descents left out."""
    monkeypatch.setattr(ball_with_wall, "descend", lambda *a, steps, **k: jnp.full(20, steps / 1e3))
    rows = {row.what: row for row in CASES["ball-with-wall"].rows(KEY, 20)}
    assert rows.keys() >= CASES["ball-with-wall"].published.keys()
    assert rows["alpha-order descent at step 921"].ours.value == pytest.approx(0.921)
    monkeypatch.setattr(tennis, "train", lambda terms, key, n: jnp.zeros((3, 7)))
    monkeypatch.setattr(tennis, "batch_means", lambda gains, key: 100 + jnp.arange(200.0) / 50)
    rows = {row.what: row for row in CASES["tennis"].rows(KEY, 2)}
    assert rows.keys() == CASES["tennis"].published.keys()
    five = rows[tennis.FIVE].ours
    assert five.value == pytest.approx(101.99)
    assert five.high - five.value == pytest.approx(1.96 * 200**0.5 * 201**0.5 / 50 / 60**0.5)


def test_friction_costs_what_its_goal_says():
    assert float(cost(jnp.zeros(400))) == pytest.approx(401 * (0.1 * 4 + 10 * 4))


def test_tennis_bounces_back_from_the_paddle():
    state = jnp.array([0.1, 0.21, 0.3, -0.6, 0.0, 0.0, 0.0])
    after = tennis.move(state, jnp.zeros(3))
    # It meets the paddle at a height of 0.2, a third of the step in, and comes back up.
    meeting = 0.01 / 0.6
    assert float(after[1]) == pytest.approx(
        0.2 + 0.6 * (0.05 - meeting), abs=2e-5
    )  # the source's 1e-5
    assert float(after[3]) == pytest.approx(0.6 * tennis.RESTITUTION)
    missed = tennis.move(state.at[0].set(1.2), jnp.zeros(3))
    assert float(missed[3]) == pytest.approx(-0.6 * tennis.DAMPING)
    # Turned by θ with all velocities, the rally is the same rally turned.
    start = state.at[6].set(0.0)
    turned = jnp.concatenate([tennis.turn(0.3, start[:2]), tennis.turn(0.3, start[2:4]),
                              jnp.array([0.0, 0.0, 0.3])])  # fmt: skip
    rotated = tennis.move(turned, jnp.zeros(3))
    np.testing.assert_allclose(tennis.turn(-0.3, rotated[:2]), after[:2], atol=1e-12)


def test_tennis_terms_are_gradients_of_one_objective():
    """Where no ball is near an edge both kinds have one mean."""
    balls = jnp.tile(jnp.array([0.0, 1.0, 0.0, -0.4, 0.0, 0.0, 0.0]), (1500, 1))
    noise = tennis.SIGMA * jax.random.normal(KEY, (1500, tennis.LENGTH, 3))
    means, errors = [], []
    for terms in (tennis.smooth_terms, tennis.rough_terms):
        drawn = np.asarray(jax.jit(terms)(jnp.zeros((3, 7)), balls, noise))
        means.append(drawn.mean(axis=0))
        errors.append(drawn.std(axis=0) / len(drawn) ** 0.5)
    z = (means[0] - means[1]) / np.maximum(np.hypot(*errors), 1e-9)
    assert np.all(np.abs(z) < 4), z
    assert np.abs(means[0]).max() > 5 * np.hypot(*errors).max()


def test_verdicts():
    told = {"a": Published(1.0, 2.0, 0.1), "b": Published(3.0, 3.0, one_draw=True)}
    found = {"a": 2.05, "b": Measured(9.0, 2.0, 16.0), "c": 1.0}
    case = Case("x", "", "", lambda key, samples: found, 2, told)
    assert [row.verdict for row in case.rows(KEY)] == ["agrees", "agrees", "no figure published"]
    found["a"], found["b"] = 2.2, Measured(9.0, 3.5, 16.0)
    assert [row.agrees for row in case.rows(KEY)] == [False, False, None]
    with pytest.raises(ValueError, match="at least 2, got 1"):
        case.rows(KEY, 1)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_in_full(name):
    rows = CASES[name].rows(KEY)
    assert [row.what for row in rows if row.agrees is False] == []
    if name == "tennis":  # one batch, and five, cannot tell what the margin asks
        batch, five = (next(r.ours for r in rows if r.what.startswith(what))
                       for what in ("pathwise, cost", tennis.FIVE))  # fmt: skip
        assert batch.high - batch.low > 2 * (five.high - five.low) > 4 * 3


@pytest.mark.slow
def test_descents_of_friction_and_wall():
    """The pathwise descent stops early; the unbiased ones end where exact gradients lead."""
    friction = {row.what: row.ours.value for row in CASES["friction"].rows(KEY, 4)}
    for name in ("score function", "alpha-order"):
        ends = f"{name} descent ends at cost"
        assert friction[ends] < friction["pathwise descent ends at cost"] - 1000
    wall = {row.what: row.ours.value for row in CASES["ball-with-wall"].rows(KEY, 20)}
    for name in ("score function", "alpha-order"):
        assert wall[f"{name} descent ends at θ"] == pytest.approx(0.8545, abs=0.003)
