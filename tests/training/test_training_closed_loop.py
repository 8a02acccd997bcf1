"""The closed-loop trainer on a task that costs nothing, and (slow) on juggling."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from drift import Drift
from jax.flatten_util import ravel_pytree

from diffsim import envs
from diffsim.training import ClosedLoop, LoopSettings, Trainer, train
from diffsim.training.critic import Critic, td_lambda
from diffsim.training.episodes import Episodes
from diffsim.training.loop_gradients import GRADIENTS, Loop
from diffsim.training.metrics import read
from diffsim.training.unroll import Actor, discounted, unroll

pytestmark = pytest.mark.usefixtures("one_by_one")


@pytest.fixture(autouse=True)
def drift(monkeypatch):
    monkeypatch.setitem(envs.ENVS, "drift", Drift)


def settings(out, **changes):
    few = {
        "env": "drift", "steps": 40, "batch": 32, "horizon": 8, "hidden": (16,), "log_every": 10,
        "checkpoint_every": 10, "learning_rate": 1e-2, "deviation": 0.3,
    }  # fmt: skip
    return LoopSettings(out=out, **few | changes)


def trainer_of(settings):
    return Trainer(settings.player(), settings)


def loop_and_inputs(batch, horizon=6):
    keys = jax.random.split(jax.random.key(1), 5)
    env = Drift()
    actor, params = Actor.create(2, 2, (8,), keys[0])
    params = jax.tree.map(lambda p: p + 0.1 * jax.random.normal(keys[1], p.shape), params)
    critic, state = Critic.create(2, (8,), 1e-3, keys[2])
    states = jax.vmap(env.reset)(jax.random.split(keys[3], batch))
    noise = jax.random.normal(keys[4], (batch, horizon, 2))
    return Loop(env, actor, critic, 0.97), params, state.params, states, noise


@pytest.mark.parametrize("gradient", ["pathwise", "shac"])
def test_backpropagated_gradients_are_those_of_the_objective(gradient):
    loop, params, critic, states, noise = loop_and_inputs(4)
    critic = jax.tree.map(lambda p: p + 0.3, critic)
    found = jax.jit(GRADIENTS[gradient])(loop, params, critic, states, noise, jax.random.key(0))
    flat, unravel = ravel_pytree(params)
    bootstrap = critic if gradient == "shac" else None

    def cost(x):
        rows = jax.vmap(loop.cost, (None, None, 0, 0))(unravel(x), bootstrap, states, noise)
        return jnp.mean(rows[0])

    np.testing.assert_allclose(found.value, cost(flat), rtol=1e-12)
    way, h = jax.random.normal(jax.random.key(2), flat.shape), 1e-6
    slope = (cost(flat + h * way) - cost(flat - h * way)) / (2 * h)
    np.testing.assert_allclose(ravel_pytree(found.grad)[0] @ way, slope, rtol=1e-6)


@pytest.mark.parametrize(
    "gradient",
    [
        "score-function",
        "inverse-variance",
        pytest.param("evolution-strategies", marks=pytest.mark.slow),
    ],
)
def test_sampled_gradients_agree_with_the_pathwise_one_in_the_mean(gradient):
    """Over 40 batches the mean agrees within 4 standard errors, on three directions."""
    loop, params, critic, states, noise = loop_and_inputs(64)
    # The task's only jump is where the point is lost: without it all have one expectation.
    states = states.replace(obs=0.3 * states.obs)
    run = jax.jit(jax.vmap(lambda z, k: (
        ravel_pytree(GRADIENTS[gradient](loop, params, critic, states, z, k).grad)[0],
        ravel_pytree(GRADIENTS["pathwise"](loop, params, critic, states, z, k).grad)[0],
    )))  # fmt: skip
    keys = jax.random.split(jax.random.key(5), 40)
    drawn = jax.vmap(lambda key: jax.random.normal(key, noise.shape))(keys)
    sampled, exact = run(drawn, keys)
    ways = jax.random.normal(jax.random.key(6), (3, exact.shape[1]))
    difference = (sampled - exact) @ ways.T
    error = difference.std(axis=0, ddof=1) / np.sqrt(len(keys))
    assert (
        np.abs(difference.mean(axis=0)) < 4 * error + 0.05 * np.abs(exact @ ways.T).mean()
    ).all()
    assert ((exact @ ways.T).mean(axis=0) ** 2).sum() > 0


SHORT = ("pathwise",)


@pytest.mark.parametrize(
    "gradient",
    [pytest.param(g, marks=() if g in SHORT else pytest.mark.slow) for g in GRADIENTS],
)
def test_every_gradient_learns(gradient, tmp_path):
    rate = 0.05 if gradient in ("score-function", "evolution-strategies") else 0.02
    trainer = trainer_of(settings(tmp_path, gradient=gradient, learning_rate=rate, steps=60))
    before = trainer.measure()
    for _ in range(60):
        trainer.update()
    after = trainer.measure()
    assert after["return"] > before["return"] + 3
    assert after["survival_rate"] > 0.9 > before["survival_rate"]
    assert after["control_steps"] == 60 * 32 * 8


def test_resumed_run_is_bit_exact(tmp_path):
    whole = trainer_of(settings(tmp_path / "whole", gradient="shac", steps=20))
    train(whole)
    part, expected = whole, whole.state
    part.begin(settings(tmp_path / "part", gradient="shac", steps=20))

    def stop(row):
        if row["step"] == 13:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(part, progress=stop)
    again = trainer_of(dataclasses.replace(part.settings, resume=True))
    train(again)
    for state in (again.state, Trainer.restored(tmp_path / "part", LoopSettings).state):
        for a, b in zip(jax.tree.leaves(expected), jax.tree.leaves(state), strict=True):
            if jax.dtypes.issubdtype(a.dtype, jax.dtypes.prng_key):
                a, b = jax.random.key_data(a), jax.random.key_data(b)
            np.testing.assert_array_equal(a, b)
    clocks = {"seconds": 0, "cpu_seconds": 0}
    rows, wanted = (
        [row | clocks for row in read(tmp_path / name / "metrics.csv")]
        for name in ("part", "whole")
    )
    assert rows == wanted
    assert [row["step"] for row in rows] == [0, 10, 20]


def test_a_loss_that_is_not_finite_is_named(tmp_path):
    trainer = Trainer(ClosedLoop(Drift(poison=True)), settings(tmp_path))
    with pytest.raises(FloatingPointError, match="step 0: loss nan"):
        trainer.update()
    assert int(trainer.state.step) == 0


def test_td_lambda_between_its_ends():
    rng = np.random.default_rng(0)
    rewards, values = rng.normal(size=(2, 6))
    ended = np.array([0, 0, 1, 0, 0, 0], bool)
    one_step = rewards + 0.9 * np.where(ended, 0, values)
    np.testing.assert_allclose(td_lambda(rewards, values, ended, 0.9, 0.0), one_step)
    full = td_lambda(rewards, values, ended, 0.9, 1.0)
    np.testing.assert_allclose(full[0], rewards[:3] @ 0.9 ** np.arange(3))
    np.testing.assert_allclose(full[3], rewards[3:] @ 0.9 ** np.arange(3) + 0.9**3 * values[5])


def test_a_command_s_log_probability_is_the_normal_law_s():
    actor, params = Actor.create(3, 2, (4,), jax.random.key(0))
    params |= {"log_deviation": jnp.log(jnp.array([0.3, 2.0]))}  # a mean of zero at first
    command = np.array([-0.5, 1.5])
    expected = scipy.stats.norm.logpdf(command, 0, [0.3, 2.0]).sum() + np.log(2 * np.pi)
    found = actor.log_prob(params, jnp.ones(3), jnp.array(command))
    assert float(found) == pytest.approx(expected, rel=1e-12)


def test_critic_learns_what_is_to_come():
    critic, state = Critic.create(2, (16,), 1e-2, jax.random.key(0))
    obs = jax.random.uniform(jax.random.key(1), (256, 2), minval=-1.0)
    goals, live = 1 + obs[:, 0], obs[:, 1] < 0.5
    poisoned = jnp.where(live, goals, jnp.nan)  # rows that do not count may hold anything
    fit = jax.jit(critic.fit)
    for key in jax.random.split(jax.random.key(2), 60):
        state = fit(state, obs, poisoned, live, key)
    for params in (state.params, state.target):
        np.testing.assert_allclose(critic.value(params, obs)[live], goals[live], atol=0.15)


def test_unroll_stops_at_the_end_and_discounts():
    loop, params, *_ = loop_and_inputs(1)
    start = loop.env.reset(jax.random.key(0))
    start = start.replace(obs=jnp.array([1.4, 0.0]))
    push = params["log_deviation"] * 0 - 30  # no noise
    still = {"network": jax.tree.map(jnp.zeros_like, params["network"]), "log_deviation": push}
    end, stretch = unroll(loop.env, loop.actor, still, start, jnp.zeros((4, 2)))
    assert stretch.live.tolist() == [True, True, False, False]
    rewards = [1 / (1 + (1.3 * 1.4) ** 2), 0, 0, 0]
    np.testing.assert_allclose(stretch.reward, rewards)
    np.testing.assert_allclose(discounted(stretch, end, 0.5, 8.0), rewards[0] / 4)
    alive = end.replace(done=jnp.asarray(False))
    np.testing.assert_allclose(discounted(stretch, alive, 0.5, 8.0), rewards[0] / 4 + 8 / 16 / 4)


def test_episodes_count_what_is_played():
    episodes = Episodes(Drift(), lambda gain, obs: -gain * obs)
    held = episodes.evaluate(jnp.asarray(2.0), jax.random.key(0), 50)
    assert held["survival_rate"].value == 1
    assert held["seconds"].value == pytest.approx(2.0)
    let_go = episodes.play(jnp.asarray(0.0), jax.random.key(0), 50)
    assert let_go["done"].all()
    assert (let_go["steps"] < 20).all()
    assert (let_go["return"] < let_go["steps"]).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gradient": "newton"}, "gradient: expected one of pathwise"),
        ({"gradient": "analytic"}, "gradient: expected 'pathwise', as 'analytic' is called now"),
        ({"gradient": "reinforce"}, "gradient: expected 'score-function'"),
        ({"gradient": "interpolated"}, "gradient: expected 'inverse-variance'"),
        ({"env": "squash"}, "env: expected one of paddle-juggle"),
        ({"horizon": 0}, "horizon: expected > 0"),
    ],
)
def test_refusals(change, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        settings(tmp_path, **change)


@pytest.mark.slow
@pytest.mark.parametrize("gradient", ["pathwise", "shac", "score-function"])
def test_juggling_is_learned(gradient, tmp_path):
    """Ten seconds without a drop from at least 90 % of the starts."""
    trainer = trainer_of(LoopSettings(gradient=gradient, steps=300, out=tmp_path))
    for _ in range(300):
        trainer.update()
    assert trainer.evaluate(jax.random.key(3), 500)["survival_rate"].low > 0.9
