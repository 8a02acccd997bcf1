"""The tasks as Gymnasium and brax environments, and brax's trainers on them."""

import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from drift import Drift

from diffsim import envs

ROOT = Path(__file__).parents[2]


def kinds(tree):
    return jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), tree)


def test_import_is_light():
    code = "import sys, diffsim.envs; print({'brax', 'gymnasium', 'mujoco'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "set()", done.stdout + done.stderr


@pytest.mark.filterwarnings("ignore:.*A Box observation space:UserWarning")
def test_gymnasium_checker():
    import gymnasium
    from gymnasium.utils.env_checker import check_env

    import diffsim.envs.gym_adapter  # noqa: F401

    check_env(gymnasium.make("diffsim/paddle-juggle-v0").unwrapped, skip_render_check=True)


def test_gymnasium_vector_resets_in_the_same_step():
    import gymnasium

    from diffsim.envs.gym_adapter import GymVectorEnv

    vector = GymVectorEnv("paddle-juggle", 3, limit=4)
    with pytest.raises(gymnasium.error.ResetNeeded):
        vector.step(np.zeros((3, 5)))
    first, _ = vector.reset(seed=5)
    again, _ = vector.reset(seed=5)
    np.testing.assert_array_equal(first, again)
    assert vector.observation_space.contains(first)
    for step in range(1, 5):
        obs, rewards, terminated, truncated, info = vector.step(vector.action_space.sample() * 0)
        assert vector.observation_space.contains(obs)
        assert (rewards > 0).all()
        assert not terminated.any()
        assert truncated.all() == truncated.any() == (step == 4)
        assert ("final_obs" in info) == (step == 4)
    fresh = vector._state
    assert (np.asarray(fresh.steps) == 0).all()
    assert not np.isclose(obs, first).all(axis=1).any(), "another start than the first"
    assert np.abs(info["final_obs"][0] - obs[0]).max() > 0.01
    made = gymnasium.make_vec("diffsim/rally-v0", num_envs=2, limit=9)
    assert made.env.limit == 9
    assert made.action_space.shape == (2, 10)


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
    lines = (tmp_path / "metrics.csv").read_text().splitlines()
    assert lines[0] == "step,seconds,return,length"
    last = [float(number) for number in lines[-1].split(",")]
    assert len(lines) == 3
    assert np.isfinite(last).all()
    assert 0 < last[3] <= 20
