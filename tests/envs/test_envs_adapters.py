"""The tasks as Gymnasium and brax environments, and brax's trainers on them."""

import json
import subprocess
import sys
from pathlib import Path

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from drift import Drift

from diffsim import envs

ROOT = Path(__file__).parents[2]


def kinds(tree):
    return jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), tree)


def test_nothing_is_printed_by_importing():
    code = "import diffsim.envs.brax_adapter, diffsim.envs.gym_adapter"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


def test_import_is_light():
    code = "import sys, diffsim.envs; print({'brax', 'gymnasium', 'mujoco'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "set()", done.stdout + done.stderr


@pytest.fixture
def gym():
    import diffsim.envs.gym_adapter

    return diffsim.envs.gym_adapter


@pytest.mark.filterwarnings("ignore:.*A Box observation space:UserWarning")
def test_gymnasium_checker(gym):
    from gymnasium.utils.env_checker import check_env

    made = gymnasium.make("diffsim/paddle-juggle-v0", render_mode="rgb_array")
    assert made.spec.max_episode_steps == 250
    check_env(made.unwrapped)


def test_gymnasium_make_says_when_episodes_are_cut(gym):
    made = gymnasium.make("diffsim/paddle-juggle-v0", max_episode_steps=300)
    assert made.unwrapped._one.env.limit > 300, "no second limit underneath"
    many = gymnasium.make_vec("diffsim/rally-v0", num_envs=2, max_episode_steps=9)
    assert many.env.limit == 9
    assert many.action_space.shape == (2, 5)
    with pytest.raises(ValueError, match="limit: expected max_episode_steps in its place"):
        gymnasium.make_vec("diffsim/rally-v0", num_envs=2, limit=9)


def same(ours, theirs):
    """Equal trees of arrays and of whatever else infos hold."""
    assert type(ours) is type(theirs)
    if isinstance(ours, dict):
        assert set(ours) == set(theirs)
        for key in ours:
            same(ours[key], theirs[key])
    elif isinstance(ours, tuple) or getattr(ours, "dtype", None) == np.dtype("O"):
        for one, other in zip(ours, theirs, strict=True):
            same(one, other)
    elif ours is not None:
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
        assert ours.dtype == theirs.dtype


@pytest.mark.parametrize("mode", ["NextStep", "SameStep", "Disabled"])
def test_gymnasium_vector_is_its_envs_in_a_row(mode, gym):
    """Against Gymnasium's own loop over single envs: ends of both kinds, at different steps."""
    task = Drift(limit=7)
    ours = gym.GymVectorEnv(task, 3, autoreset_mode=mode)
    theirs = gymnasium.vector.SyncVectorEnv([lambda: gym.GymEnv(task)] * 3, autoreset_mode=mode)
    assert ours.metadata == theirs.metadata
    assert ours.observation_space == theirs.observation_space
    same(ours.reset(seed=5), theirs.reset(seed=5))
    random, ends = np.random.default_rng(0), set()
    for step in range(24):
        actions = random.uniform(-1, 1, (3, 2)).astype(np.float32)
        got = ours.step(actions)
        same(got, theirs.step(actions))
        assert ours.observation_space.contains(got[0])
        terminated, truncated = got[2:4]
        assert not (terminated & truncated).any()
        ends |= {("lost", *terminated)} if terminated.any() else set()
        ends |= {("cut", *truncated)} if truncated.any() else set()
        over = terminated | truncated
        if over.any() and mode == "Disabled":
            with pytest.raises(gymnasium.error.ResetNeeded, match="expected a reset of rows"):
                ours.step(actions)
            same(*(e.reset(options={"reset_mask": over.copy()}) for e in (ours, theirs)))
        if step == 12:
            mask = np.array([False, True, True])
            kept = ours.reset(seed=[9, None, 4], options={"reset_mask": mask})
            same(kept, theirs.reset(seed=[9, None, 4], options={"reset_mask": mask}))
    kinds_of_end = {end[0] for end in ends}
    assert kinds_of_end == {"lost", "cut"}
    assert len(ends) > 2, "not all rows at once"
    assert ours._step._cache_size() == 1


def test_gymnasium_vector_wrappers_accept_it(gym):
    from gymnasium.wrappers import vector as wrappers

    for wrap in (
        wrappers.NormalizeObservation,
        wrappers.NormalizeReward,
        wrappers.RecordEpisodeStatistics,
        wrappers.FlattenObservation,
        lambda env: wrappers.DtypeObservation(env, np.float64),
        lambda env: wrappers.TransformObservation(env, lambda x: 2 * x),
    ):
        env = wrap(gym.GymVectorEnv(Drift(limit=1), 2))
        env.reset(seed=1)
        for _ in range(3):
            *_, truncated, info = env.step(np.zeros((2, 2), np.float32))
        assert truncated.all()
        if wrap is wrappers.RecordEpisodeStatistics:
            assert info["episode"]["l"].tolist() == [1, 1], "the reset is no step"


def test_gymnasium_envs_refuse_what_they_cannot_play(gym):
    env = gym.GymVectorEnv("paddle-juggle", 3, limit=4)
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step(np.zeros((3, 5)))
    first, _ = env.reset(seed=5)
    for rows in (2, 4):
        with pytest.raises(ValueError, match=rf"actions: expected shape \(3, 5\).*\({rows}, 5\)"):
            env.step(np.zeros((rows, 5)))
    with pytest.raises(ValueError, match=r"finite numbers, got others in rows \[1\]"):
        env.step(np.tile([[0], [np.nan], [0]], 5))
    with pytest.raises(ValueError, match=r"shape \(3, 5\), got rows of many lengths"):
        env.step([[0.0] * 5, [0.0], [0.0] * 5])
    for bad in (np.zeros((3, 5), complex), [["left"] * 5] * 3, np.empty((3, 5), object)):
        with pytest.raises(TypeError, match="actions: expected real numbers, got "):
            env.step(bad)
    for most in (0, 1.5, "9"):
        with pytest.raises(ValueError, match=rf"expected an integer above 0, got {most!r}"):
            gym.GymVectorEnv("paddle-juggle", 3, max_episode_steps=most)
    np.testing.assert_allclose(env.reset(seed=5)[0], first)
    for mask, error in (
        ([True] * 3, TypeError),
        (np.ones(3), TypeError),
        (np.ones(2, bool), ValueError),
        (np.zeros(3, bool), ValueError),
    ):
        with pytest.raises(error, match="reset_mask: expected"):
            env.reset(options={"reset_mask": mask})
    with pytest.raises(ValueError, match="options: expected reset_mask only, got start"):
        env.reset(options={"start": 1})
    with pytest.raises(ValueError, match="seed: expected 3, one a row, got 2"):
        env.reset(seed=[1, 2])
    with pytest.raises(ValueError, match="render: expected render_mode='rgb_array'"):
        env.render()
    with pytest.raises(
        ValueError, match=r"autoreset_mode: expected one of NEXT_STEP, .*got 'never'"
    ):
        gym.GymVectorEnv("rally", autoreset_mode="never")
    for word in ("SAME_STEP", "SameStep"):
        assert gym.GymVectorEnv("rally", autoreset_mode=word).metadata["autoreset_mode"].name == (
            "SAME_STEP"
        )
    with pytest.raises(ValueError, match="render_mode: expected None or 'rgb_array', got 'human'"):
        gym.GymEnv("rally", render_mode="human")

    one = gym.GymEnv(Drift(limit=1))
    one.reset(seed=0)
    with pytest.raises(ValueError, match="actions: expected shape"):
        one.step(np.zeros(3))
    assert one.step(np.zeros(2))[3]
    with pytest.raises(gymnasium.error.ResetNeeded, match="which ended"):
        one.step(np.zeros(2))


def test_pictures_show_the_ball(gym):
    env = gym.GymVectorEnv("rally", 2, render_mode="rgb_array")
    env.reset(seed=0)
    one, other = env.render()
    assert one.dtype == np.uint8
    assert one.shape[2] == 3
    assert 0 < (one != other).any(axis=2).mean() < 0.01, "two serves, one court"
    assert env.metadata["render_fps"] == 25
    nothing = gym.GymEnv(Drift(), render_mode="rgb_array")
    nothing.reset()
    with pytest.raises(ValueError, match="expected a task with paddles, got Drift"):
        nothing.render()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_stable_baselines_checks_and_learns(gym):
    sb3 = pytest.importorskip("stable_baselines3")
    from stable_baselines3.common.env_checker import check_env

    env = gymnasium.make("diffsim/paddle-juggle-v0", render_mode="rgb_array")
    check_env(env, warn=True)
    model = sb3.PPO("MlpPolicy", env, n_steps=500, batch_size=100, seed=0, device="cpu")
    model.learn(2000)
    assert model.num_timesteps == 2000
    action, _ = model.predict(env.reset(seed=0)[0], deterministic=True)
    assert env.action_space.contains(action)


@pytest.fixture
def brax_envs():
    with jax.numpy_dtype_promotion("standard"):  # brax mixes precisions
        import brax.envs

        import diffsim.envs.brax_adapter  # noqa: F401

        yield brax.envs


@pytest.mark.filterwarnings("ignore")
def test_brax_resets_to_fresh_starts(brax_envs):
    from diffsim.envs.brax_adapter import BraxEnv

    env = brax_envs.training.wrap(BraxEnv(Drift()), episode_length=2)
    state = jax.jit(env.reset)(jax.random.split(jax.random.PRNGKey(0), 3))
    step, seen = jax.jit(env.step), [state.obs]
    for i in range(1, 7):
        before = kinds(state)
        state = step(state, jnp.zeros((3, 2)))
        assert kinds(state) == before
        assert (state.done == (i % 2 == 0)).all()
        if i % 2 == 0:
            np.testing.assert_array_equal(state.pipeline_state.steps, 0)
            np.testing.assert_array_equal(state.obs, state.pipeline_state.obs)
            seen.append(state.obs)
    starts = np.concatenate(seen)[:, 0]
    assert len(np.unique(starts)) == len(starts)
    assert step._cache_size() == 1


@pytest.mark.filterwarnings("ignore")
def test_brax_randomises_the_domain(brax_envs):
    """Each row plays its own task: the same draw starts as much higher as is juggled higher."""
    from diffsim.envs.brax_adapter import BraxEnv

    base = BraxEnv(envs.make("paddle-juggle"))

    def randomised(task):
        axes = jax.tree.map(lambda _: None, task)
        return task.replace(height=jnp.array([0.3, 0.5])), axes.replace(height=0)

    env = brax_envs.training.wrap(base, episode_length=5, randomization_fn=randomised)
    key = jax.random.PRNGKey(0)
    state = env.reset(jnp.stack([key, key]))
    low, high = state.pipeline_state.ball.position
    np.testing.assert_allclose(high - low, [0, 0, 0.2], atol=1e-6)
    assert kinds(jax.eval_shape(env.step, state, jnp.zeros((2, 5)))) == kinds(state)
    assert base.sys.height.shape == (), "the task is its own again"
    assert env.dt == base.sys.period


@pytest.mark.filterwarnings("ignore")
def test_brax_renders_states(brax_envs):
    env = brax_envs.create("diffsim-rally")
    state = env.reset(jax.random.PRNGKey(0))
    first, second = env.render([state.pipeline_state] * 2, height=100, width=150)
    assert first.shape == (100, 150, 3)
    assert first.dtype == np.uint8
    assert len(np.unique(first)) > 10
    np.testing.assert_array_equal(first, second)
    with pytest.raises(ValueError, match="camera: expected None"):
        env.render([state.pipeline_state], camera="track")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", envs.ENVS)
def test_brax_creates_the_tasks_by_name(name, brax_envs):
    env = brax_envs.create(f"diffsim-{name}", episode_length=5, batch_size=2)
    state = jax.eval_shape(env.reset, jax.random.PRNGKey(0))
    task = envs.make(name)
    assert (env.observation_size, env.action_size) == (len(task.observations), len(task.actions))
    after = jax.eval_shape(env.step, state, jnp.zeros((2, env.action_size)))
    assert kinds(after) == kinds(state)


@pytest.mark.filterwarnings("ignore")
def test_what_brax_does_not_do_is_said_before_it_starts(brax_envs, monkeypatch):
    from diffsim.envs.brax_adapter import train

    with pytest.raises(ValueError, match=r"ppo: brax expects batch_size \* num_minibatches % num_"):
        train(Drift(), "ppo", 10, num_envs=7)
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    for algorithm in ("apg", "es"):
        with pytest.raises(ValueError, match=f"{algorithm}: brax runs it in one process"):
            train(Drift(), algorithm, 10)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_brax_apg_learns_through_resets(brax_envs):
    """It differentiates through the wrapped steps, and sees more starts than it has envs."""
    from diffsim.envs.brax_adapter import train

    returns = []
    with jax.enable_x64(False):
        policy = train(
            Drift(), "apg", 40, evaluations=2, num_envs=8, horizon_length=8, num_eval_envs=16,
            learning_rate=2e-2, progress=lambda _, row: returns.append(row["eval/episode_reward"]),
        )  # fmt: skip
        assert returns[1] > returns[0] + 2
        assert policy(jnp.zeros(2, jnp.float32)).shape == (2,)


TINY = {
    "es": ("200", "--set population_size 4 num_eval_envs 4"),
    "apg": ("2", "--set num_envs 4 horizon_length 4 num_eval_envs 4"),
    "ppo": (
        "400",
        "--set num_envs 16 batch_size 16 num_minibatches 2 unroll_length 5 num_eval_envs 4",
    ),
    "sac": (
        "400",
        "--set num_envs 4 batch_size 16 min_replay_size 100 max_replay_size 1000 "
        "grad_updates_per_step 1 num_eval_envs 4",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", TINY)
def test_brax_trainers_run_on_two_devices(algorithm, tmp_path):
    budget, settings = TINY[algorithm]
    command = (
        f"scripts/train_brax.py --algorithm {algorithm} --budget {budget} --limit 20 "
        f"--evaluations 2 --out {tmp_path} {settings}"
    )
    done = subprocess.run(
        [sys.executable, *command.split()], cwd=ROOT, capture_output=True, text=True,
        env={
            "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu", "PATH": "",
            "XLA_FLAGS": "--xla_force_host_platform_device_count=2",
        },
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    stored = json.loads((tmp_path / "settings.json").read_text())
    assert (stored["algorithm"], stored["budget"]) == (algorithm, int(budget))
    assert stored["set"]["num_eval_envs"] == 4
    lines = (tmp_path / "metrics.csv").read_text().splitlines()
    assert lines[0] == "step,seconds,return,length"
    last = [float(number) for number in lines[-1].split(",")]
    assert len(lines) == 3
    assert np.isfinite(last).all()
    assert 0 < last[3] <= 20
