"""What a run is by default, and each formula of the trainers beside NumPy or a plain loop."""

import dataclasses
import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from drift import Drift
from flax import nnx
from jax.flatten_util import ravel_pytree
from point import Point
from test_training_closed_loop import (
    drift,  # noqa: F401 (a fixture)
    loop_and_inputs,
)
from test_training_closed_loop import settings as loop_settings

from diffsim import gradients
from diffsim.gradients.inverse_variance import cross_fitted
from diffsim.training import MLP, ClosedLoop, LoopSettings, Settings, Traced, Trainer, sharding
from diffsim.training.critic import Critic, CriticState
from diffsim.training.loop_gradients import GRADIENTS
from diffsim.training.metrics import MetricsWriter
from diffsim.training.unroll import Actor, unroll

EVERY = {
    "batch": 128, "clip": 1.0, "seed": 0, "resume": False, "warm_start": None, "optimizer": "muon",
    "learning_rate": 0.03, "gradient": "pathwise",
}  # fmt: skip
HIT = EVERY | {
    "steps": 500, "hidden": (64, 64), "log_every": 25, "checkpoint_every": 250, "robot": "paddle",
    "simulator": "events", "workers": 2, "generator": "bspline", "spin": 10.0, "floor": 8,
    "observe_spin": False, "target": (0.9, 0.0), "any_target": False, "objective": "target",
    "randomise": False, "radar": False, "sigma": None, "samples": None, "step": None,
}  # fmt: skip
ARM = HIT | {"robot": "arm", "hidden": (128, 128), "steps": 1500}
MUJOCO = ARM | {
    "simulator": "mujoco", "gradient": "spsa", "steps": 300, "batch": 32, "checkpoint_every": 50,
}  # fmt: skip
LOOP = EVERY | {
    "steps": 400, "hidden": (64, 64), "log_every": 20, "checkpoint_every": 100, "batch": 64,
    "horizon": 32, "discount": 0.99, "decay": 0.95, "critic_rate": 2e-3, "deviation": 0.1,
    "least_deviation": 0.03, "env": "paddle-juggle",
}  # fmt: skip
WORDS = {"": HIT, "--robot arm": ARM, "--task=arm": ARM, "--generator promp --spin 3": HIT,
         "--simulator mujoco": MUJOCO, "--simulator=mujoco --task paddle": MUJOCO}  # fmt: skip


def told(settings):
    return {k: v for k, v in dataclasses.asdict(settings.filled()).items() if k != "out"}


def test_what_a_run_is_unless_it_is_told_otherwise():
    """The figures that the published runs were made with."""
    for words, wanted in WORDS.items():
        assert told(Settings.defaults(words.split())) == wanted, words
    for gradient in GRADIENTS:
        suited = {
            "score-function": (256, 0.25, 0.1), "evolution-strategies": (32, 0.1, 0.03),
        }.get(gradient, (64, 0.1, 0.03))  # fmt: skip
        own = dict(zip(("batch", "deviation", "least_deviation"), suited))
        assert told(LoopSettings(gradient=gradient)) == LOOP | own | {"gradient": gradient}
        given = LoopSettings(gradient=gradient, batch=8, deviation=0.5, least_deviation=0.2)
        assert told(given) | own == LOOP | own | {"gradient": gradient}
    assert LoopSettings.betas == {"b1": 0.7, "b2": 0.95}
    es = gradients.EvolutionStrategies
    for method in (Settings(gradient="spsa", simulator="mujoco").method(),
                   Settings(gradient="spsa", samples=2, step=0.05).method()):  # fmt: skip
        assert method == gradients.SPSA(samples=2, step=0.05)
    own = Settings(gradient="spsa", simulator="mujoco", samples=7, step=0.2).method()
    assert own == gradients.SPSA(samples=7, step=0.2)
    assert Settings(gradient="evolution-strategies", sigma=0.3, samples=9).method() == es(
        0.3, samples=9
    )


def test_the_rate_warms_up_for_a_tenth_of_the_run_and_fifty_updates_at_most():
    for steps, warm in ((5, 0), (100, 10), (1000, 50)):
        rate = Settings(steps=steps).schedule(2.0)
        assert float(rate(warm)) == pytest.approx(2.0)
        assert warm == 0 or float(rate(warm / 2)) == pytest.approx(1.0)
        assert float(rate((warm + steps) / 2)) == pytest.approx(1.01)
        assert float(rate(steps)) == float(rate(9 * steps)) == pytest.approx(0.02)


def test_the_hardest_task_is_what_its_settings_say():
    plain, fast = Settings().task(), Settings(objective="fastest").task()
    assert (plain.target.tolist(), fast.target.tolist()) == ([0.9, 0.0], [0.685, 0.0])
    assert (fast.tolerance.tolist(), float(fast.hurry_weight)) == ([0.5, 0.55], 0.5)
    assert plain.hurry_weight is None
    assert (plain.targets, plain.randomisation, plain.observe_spin) == (None, None, False)
    other = Settings(any_target=True, randomise=True, observe_spin=True).task()
    np.testing.assert_allclose(other.targets, [[0.3, -0.5], [1.2, 0.5]])
    assert other.randomisation is not None
    assert other.observe_spin


def test_a_network_is_layers_of_tanh():
    net = MLP(3, (5, 4), 2, rngs=nnx.Rngs(0))
    net.last.kernel[...] = jax.random.normal(jax.random.key(0), (4, 2))
    net.last.bias[...] = jnp.array([0.5, -1.0])
    x = np.array([0.3, -2.0, 1.0])
    value = x
    for layer in net.hidden:
        value = np.tanh(value @ np.asarray(layer.kernel[...]) + np.asarray(layer.bias[...]))
    value = value @ np.asarray(net.last.kernel[...]) + [0.5, -1.0]
    np.testing.assert_allclose(net(x), value, rtol=1e-12)
    assert [layer.kernel.shape for layer in net.hidden] == [(3, 5), (5, 4)]


def test_commands_are_the_mean_and_noise_of_the_deviation():
    env, noise = Drift(), jax.random.normal(jax.random.key(0), (3, 2))
    actor, params = Actor.create(2, 2, (4,), jax.random.key(1), 0.2)
    network = jax.tree.map(lambda p: p + 0.1, params["network"])
    params = {"network": network, "log_deviation": jnp.log(jnp.array([0.2, 0.5]))}
    state = env.reset(jax.random.key(2))
    _, stretch = jax.jit(lambda p, s: unroll(env, actor, p, s, noise))(params, state)
    for t in range(3):
        np.testing.assert_allclose(stretch.obs[t], state.obs)
        command = actor.mean(params, state.obs) + jnp.array([0.2, 0.5]) * noise[t]
        np.testing.assert_allclose(stretch.command[t], command, rtol=1e-12)
        state = env.step(state, jnp.tanh(command))
        assert float(stretch.reward[t]) == pytest.approx(float(state.reward))
    made = Actor.create(2, 3, (4,), jax.random.key(1), 0.2)[1]["log_deviation"]
    np.testing.assert_allclose(made, np.full(3, np.log(0.2)))


def some_ended(states):
    """Starts of which some are lost within the stretch."""
    return states.replace(obs=states.obs.at[::3].set(jnp.array([1.35, 0.1])))


def test_sampled_gradients_are_their_sums():
    """Σ γ^t (R_t − b_t) ∇ log π / n over live steps, costs of −r/T, b the others' mean; and its mix
    with the pathwise terms, α of each quarter of the rollouts from the other three."""
    loop, params, critic, states, noise = loop_and_inputs(8)
    states = some_ended(states)

    @jax.jit
    def look(params):
        arguments = loop, params, critic, states, noise, jax.random.key(0)
        score, mixed = (GRADIENTS[name](*arguments) for name in ("score-function",
                                                                 "inverse-variance"))  # fmt: skip
        costs, powers = -score.stretch.reward / 6, 0.97 ** jnp.arange(6.0)
        to_go = jnp.stack([costs[:, t:] @ powers[: 6 - t] for t in range(6)], axis=1)
        weights = powers * (to_go - (jnp.sum(to_go, axis=0) - to_go) / 7)
        weights = jnp.where(score.stretch.live, weights, 0)

        def log_probs(params, weights, obs, command):
            logs = jax.vmap(loop.actor.log_prob, (None, 0, 0))(params, obs, command)
            return jnp.sum(weights * logs)

        def terms(function, *rows):
            found = jax.vmap(jax.grad(function), (None, *[0] * len(rows)))(params, *rows)
            return jax.vmap(lambda row: ravel_pytree(row)[0])(found)

        rough = terms(log_probs, weights, score.stretch.obs, score.stretch.command)
        smooth = terms(lambda p, s, z: loop.cost(p, None, s, z)[0], states, noise)
        return score, mixed, costs @ powers, rough, smooth, cross_fitted(smooth, rough, 4)

    score, mixed, costs, rough, smooth, alphas = look(params)
    assert score.stretch.live.any(axis=0).all()
    assert not score.stretch.live.all()
    close = {"rtol": 1e-9, "atol": 1e-12}
    np.testing.assert_allclose(ravel_pytree(score.grad)[0], rough.mean(axis=0), **close)
    weight = np.repeat(alphas, 2)[:, None]
    wanted = np.mean(weight * smooth + (1 - weight) * rough, axis=0)
    np.testing.assert_allclose(ravel_pytree(mixed.grad)[0], wanted, **close)
    assert float(mixed.info["alpha"]) == pytest.approx(float(np.mean(alphas)))
    assert 0 < np.min(alphas) < np.max(alphas) < 1
    for found in (score, mixed):
        assert float(found.value) == pytest.approx(float(np.mean(costs)), rel=1e-9)


def test_a_fit_of_the_critic_is_a_step_down_the_squares_of_what_counts():
    """One batch, plain descent: V − ∇ mean (V − G)², and a fifth of the old in the slow copy."""
    made, state = Critic.create(2, (5,), 1e-2, jax.random.key(0))
    assert (made.epochs, made.minibatches, made.slowness) == (4, 4, 0.2)
    critic = made.replace(optimizer=optax.sgd(0.1), epochs=1, minibatches=1)
    params = jax.tree.map(lambda p: p + 0.2, state.params)
    obs = jax.random.normal(jax.random.key(1), (6, 2))
    goals, live = jnp.arange(6.0), np.array([1, 1, 0, 1, 1, 0], bool)

    @jax.jit
    def look(params, key):
        def squares(params):
            return jnp.mean((critic.value(params, obs[live]) - goals[live]) ** 2)

        before = state.replace(params=params, optimizer=critic.optimizer.init(params))
        after = critic.fit(before, obs, goals, jnp.asarray(live), key)
        wanted = jax.tree.map(lambda p, g: p - 0.1 * g, params, jax.grad(squares)(params))
        slow = jax.tree.map(lambda old, new: 0.2 * old + 0.8 * new, before.target, wanted)
        return (after.params, after.target), (wanted, slow)

    found, wanted = look(params, jax.random.key(2))
    for ours, exact in zip(jax.tree.leaves(found), jax.tree.leaves(wanted)):
        np.testing.assert_allclose(ours, exact, rtol=1e-9)
    with jax.numpy_dtype_promotion("standard"):
        long = jax.tree.map(lambda p: p + 100, params)
        _, memory = made.optimizer.update(long, made.optimizer.init(params), params)
    assert float(optax.tree.norm(optax.tree.get(memory, "mu"))) == pytest.approx(0.1)  # cut to 1


def test_the_critic_leaves_out_what_fills_no_batch():
    """Seven rows in threes, drawn anew in each epoch: the seventh of a draw is not used."""
    made, state = Critic.create(2, (3,), 1e-2, jax.random.key(0))
    critic = made.replace(optimizer=optax.sgd(0.1), epochs=2, minibatches=2)
    obs, goals = jax.random.normal(jax.random.key(1), (7, 2)), jnp.arange(7.0)

    @jax.jit
    def look(key):
        before = state.replace(optimizer=critic.optimizer.init(state.params))
        params = before.params
        for own in jax.random.split(key, 2):
            order = jax.random.permutation(own, 7)
            for batch in (order[:3], order[3:6]):
                slopes = jax.grad(
                    lambda p, rows: jnp.mean((critic.value(p, obs[rows]) - goals[rows]) ** 2)
                )(params, batch)
                params = jax.tree.map(lambda p, g: p - 0.1 * g, params, slopes)
        return critic.fit(before, obs, goals, jnp.ones(7, bool), key).params, params

    for ours, exact in zip(*map(jax.tree.leaves, look(jax.random.key(2)))):
        np.testing.assert_allclose(ours, exact, rtol=1e-9)


def test_the_critic_is_given_what_came_after_each_step(tmp_path, monkeypatch):
    """G_t = r_t + γ [(1 − λ) V(next) + λ G_{t+1}], in a plain loop over the episodes."""
    given = {}

    def fit(self, state, obs, goals, live, key):
        given.update(obs=obs, goals=goals, live=live)
        return state

    monkeypatch.setattr(Critic, "fit", fit)
    settings = loop_settings(
        tmp_path, gradient="shac", hidden=(8,), batch=6, horizon=5, discount=0.9, decay=0.7
    )
    player = ClosedLoop(Drift()).bound(settings.filled())
    loop, params, critic, states, noise = loop_and_inputs(6, 5)
    critic = jax.tree.map(lambda p: p + 0.3, critic)
    play = jax.jit(jax.vmap(loop.play, (None, 0, 0)))
    end, stretch = play(params, some_ended(states), noise)
    assert end.done.any()
    assert not end.done.all()

    @jax.jit
    def look(critic):
        state = CriticState(None, critic, None)
        player._fitted(state, types.SimpleNamespace(stretch=stretch, end=end), None)
        value = player.loop.critic.value
        return dict(given), value(critic, stretch.obs), value(critic, end.obs)

    found, values, last = look(critic)
    goals = found["goals"].reshape(6, 5)
    for i in range(6):
        later = float(last[i])
        for t in reversed(range(5)):
            if not stretch.live[i, t]:
                later = 0.0
                continue
            over = bool(end.done[i]) if t == 4 else not bool(stretch.live[i, t + 1])
            rest = 0.3 * float(last[i] if t == 4 else values[i, t + 1]) + 0.7 * later
            later = float(stretch.reward[i, t]) + 0.9 * (0.0 if over else rest)
            assert float(goals[i, t]) == pytest.approx(later, rel=1e-9), (i, t)
    np.testing.assert_array_equal(found["obs"], stretch.obs.reshape(30, 2))
    np.testing.assert_array_equal(found["live"], stretch.live.ravel())


def test_deviations_do_not_fall_below_the_least_and_ended_episodes_begin_again(tmp_path):
    settings = loop_settings(tmp_path, batch=6, horizon=5, deviation=0.3, least_deviation=0.1)
    player = ClosedLoop(Drift()).bound(settings.filled())
    spread = jnp.log(jnp.array([0.05, 0.2]))
    limited = player.limited({"network": 1.0, "log_deviation": spread})
    np.testing.assert_allclose(np.exp(limited["log_deviation"]), [0.1, 0.2])
    begin = jax.jit(player.begin)
    params, (critic, states) = begin(jax.random.split(jax.random.key(0), 4))
    states = some_ended(states)
    keys = jax.random.split(jax.random.key(1), 4)
    noise = jax.random.normal(keys[0], (6, 5, 2))
    _, _, (_, after) = jax.jit(player.gradient)(params, (critic, states), keys)
    end, _ = jax.jit(jax.vmap(player.loop.play, (None, 0, 0)))(params, states, noise)
    over = end.done | (end.steps >= 20)
    assert over.any()
    assert not over.all()
    np.testing.assert_allclose(after.obs[~over], end.obs[~over], rtol=1e-9)
    assert (after.steps[over] == 0).all()
    assert len(np.unique(np.asarray(after.obs[over])[:, 0])) == int(over.sum())
    assert player.measure(params, jax.random.key(0), 3)["control_steps"] == 3 * 6 * 5


def test_every_finite_number_of_a_row_is_an_event_of_its_step(tmp_path, monkeypatch):
    told = []
    with MetricsWriter(tmp_path) as metrics:
        monkeypatch.setattr(metrics._board, "add_scalar", lambda *event: told.append(event))
        metrics.write({"step": 7, "alpha": 3.0, "lost": np.nan, "zeta": -2.0})
        metrics.write({"step": 9, "zeta": 1.0, "alpha": np.inf, "lost": 0.0})
    assert sorted(told) == [("alpha", 3.0, 7), ("lost", 0.0, 9), ("zeta", -2.0, 7),
                            ("zeta", 1.0, 9)]  # fmt: skip


def test_a_player_has_four_keys_to_draw_with_at_the_start_and_in_each_update(tmp_path, monkeypatch):
    given, own = {}, {name: getattr(Traced, name) for name in ("begin", "gradient")}

    def begin(self, keys):
        given["begin"] = len(keys)
        return own["begin"](self, keys)

    def gradient(self, params, memory, keys):
        given["gradient"] = len(keys)
        return own["gradient"](self, params, memory, keys)

    monkeypatch.setattr(Traced, "begin", begin)
    monkeypatch.setattr(Traced, "gradient", gradient)
    settings = Settings(out=tmp_path, steps=2, batch=4, hidden=(8,))
    Trainer(Traced(Point()), settings).update()
    assert given == {"begin": 4, "gradient": 4}


def test_on_one_device_nothing_is_copied():
    tree = {"a": jnp.ones(3), "key": jax.random.key(0)}
    assert sharding.replicated(tree) is tree
    assert sharding.local(tree) is tree
