"""The tasks for users of Gymnasium (and so of torch): NumPy in and out, one env or many.

Importing this file registers ``diffsim/paddle-juggle-v0`` and the others.

>>> import gymnasium
>>> import diffsim.envs.gym_adapter
>>> envs = gymnasium.make_vec("diffsim/rally-v0", num_envs=3)
>>> envs.reset(seed=0)[0].shape, envs.single_action_space.shape
((3, 31), (10,))
"""

from typing import Any

import jax
import numpy as np

from diffsim import _extra
from diffsim.envs import ENVS, Env, make, restart

try:
    import gymnasium
except ModuleNotFoundError as error:
    raise _extra.missing("diffsim.envs.gym_adapter", "gymnasium", "gym") from error
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space


def _spaces(env: Env) -> tuple[gymnasium.spaces.Box, gymnasium.spaces.Box]:
    seen, set_ = len(env.observations), len(env.actions)
    return (
        gymnasium.spaces.Box(-np.inf, np.inf, (seen,), np.float32),
        gymnasium.spaces.Box(-1.0, 1.0, (set_,), np.float32),
    )


class GymVectorEnv(gymnasium.vector.VectorEnv):
    """Many copies of a task, stepped by one compiled call.

    An env that ends is reset in the same step, to a fresh start; its last observation is in
    ``infos["final_obs"]``.

    Args:
        env: the task, or its name.
        num_envs: how many.
        settings: of the task, where it is given by name.
    """

    def __init__(self, env: Env | str, num_envs: int = 1, **settings: Any):
        self.env = env = make(env, **settings) if isinstance(env, str) else env
        self.num_envs = num_envs
        self.metadata = {"autoreset_mode": AutoresetMode.SAME_STEP, "render_modes": []}
        self.single_observation_space, self.single_action_space = _spaces(env)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)

        def step(state, actions, keys):
            outcome = jax.vmap(env.step)(state, actions)
            fresh = jax.vmap(env.reset)(keys)
            return *jax.vmap(lambda o, f: restart(env, o, f))(outcome, fresh), outcome

        self._reset = jax.jit(jax.vmap(env.reset))
        self._step = jax.jit(step)
        self._state: Any = None

    def _keys(self) -> jax.Array:
        seed = int(self.np_random.integers(2**31))
        return jax.random.split(jax.random.key(seed), self.num_envs)

    def reset(self, *, seed: int | None = None, options: dict | None = None):
        super().reset(seed=seed)
        self._state = self._reset(self._keys())
        return self._own(self._state.obs), {}

    def _own(self, rows: jax.Array, dtype: Any = np.float32) -> np.ndarray:
        return np.array(rows, dtype)

    def step(self, actions: np.ndarray):
        if self._state is None:
            raise gymnasium.error.ResetNeeded("step: expected a reset first")
        rows = np.arange(self.num_envs)
        actions = np.asarray(actions, self._state.obs.dtype)[rows]
        self._state, ended, outcome = self._step(self._state, actions, self._keys())
        terminated, ended = self._own(outcome.done, bool), self._own(ended, bool)
        info: dict[str, Any] = {name: self._own(m) for name, m in outcome.metrics.items()}
        if ended.any():
            last = self._own(outcome.obs)
            info["final_obs"] = np.full(self.num_envs, None, object)
            for index in np.flatnonzero(ended):
                info["final_obs"][index] = last[index]
            info["_final_obs"] = ended.copy()
        reward = self._own(outcome.reward, np.float64)
        return self._own(self._state.obs), reward, terminated, ended & ~terminated, info


class GymEnv(gymnasium.Env):
    """One copy of a task: a vector of one, not reset by itself.

    Args:
        env: the task, or its name.
        settings: of the task, where it is given by name.
    """

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012

    def __init__(self, env: Env | str, render_mode: None = None, **settings: Any):
        self._one = GymVectorEnv(env, 1, **settings)
        self.observation_space = self._one.single_observation_space
        self.action_space = self._one.single_action_space

    def reset(self, *, seed: int | None = None, options: dict | None = None):
        super().reset(seed=seed)
        return self._one.reset(seed=seed)[0][0], {}

    def step(self, action: np.ndarray):
        obs, reward, terminated, truncated, info = self._one.step(np.asarray(action)[None])
        last = info.pop("final_obs", obs)[0]
        info.pop("_final_obs", None)
        numbers = {name: float(value[0]) for name, value in info.items()}
        return last, float(reward[0]), bool(terminated[0]), bool(truncated[0]), numbers


for _name in ENVS:
    gymnasium.register(
        f"diffsim/{_name}-v0",
        entry_point="diffsim.envs.gym_adapter:GymEnv",
        vector_entry_point="diffsim.envs.gym_adapter:GymVectorEnv",
        kwargs={"env": _name},
    )
