"""The tasks for users of Gymnasium (and so of torch): NumPy in and out, one env or many.

Importing this file registers ``diffsim/paddle-juggle-v0`` and the others.

>>> import gymnasium
>>> import diffsim.envs.gym_adapter
>>> envs = gymnasium.make_vec("diffsim/rally-v0", num_envs=3)
>>> envs.reset(seed=0)[0].shape, envs.single_action_space.shape
((3, 21), (5,))
"""

import dataclasses
import inspect
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffsim import _extra
from diffsim.envs import ENVS, Env, make
from diffsim.physics.vector import choose

try:
    import gymnasium
except ModuleNotFoundError as error:
    raise _extra.missing("diffsim.envs.gym_adapter", "gymnasium", "gym") from error
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space
from jax.typing import DTypeLike

from diffsim._types import ArrayLike

NEXT_STEP, SAME_STEP = AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP
AUTORESET = {word: mode for mode in AutoresetMode for word in (mode, mode.name, mode.value)}
MODES = ("rgb_array",)
ENDLESS = 2**31 - 1


class GymVectorEnv(gymnasium.vector.VectorEnv):
    """Many copies of a task, stepped by one compiled call.

    Row i behaves as a :class:`GymEnv` that is seeded with the i-th seed, and the whole as
    Gymnasium's ``SyncVectorEnv`` of them, in each of the autoreset modes: after the end of an
    episode the next call starts the next one (NEXT_STEP), or the same call does, the last
    observation and metrics being ``infos["final_obs"]`` and ``infos["final_info"]`` (SAME_STEP),
    or ``reset(options={"reset_mask": rows})`` must (DISABLED).

    Args:
        env: the task, or its name.
        num_envs: how many.
        render_mode: None or "rgb_array".
        autoreset_mode: of Gymnasium's, or its name.
        max_episode_steps: after which an episode is truncated, in place of the task's ``limit``.
        settings: of the task, where it is given by name.

    Raises:
        ValueError: a setting that cannot be.
    """

    def __init__(
        self,
        env: Env | str,
        num_envs: int = 1,
        render_mode: str | None = None,
        autoreset_mode: AutoresetMode | str = NEXT_STEP,
        max_episode_steps: int | None = None,
        **settings: Any,
    ):
        if max_episode_steps is not None:
            if "limit" in settings:
                raise ValueError("limit: expected max_episode_steps in its place")
            if not (isinstance(max_episode_steps, (int, np.integer)) and max_episode_steps > 0):
                raise ValueError(
                    f"max_episode_steps: expected an integer above 0, got {max_episode_steps!r}"
                )
        if num_envs < 1:
            raise ValueError(f"num_envs: expected at least 1, got {num_envs}")
        if autoreset_mode not in AUTORESET:
            raise ValueError(
                f"autoreset_mode: expected one of {', '.join(AutoresetMode.__members__)}, "
                f"got {autoreset_mode!r}"
            )
        if render_mode not in (None, *MODES):
            raise ValueError(f"render_mode: expected None or 'rgb_array', got {render_mode!r}")
        env = make(env, **settings) if isinstance(env, str) else env
        if max_episode_steps is not None:
            env = dataclasses.replace(env, limit=max_episode_steps)  # type: ignore[type-var]
        self.env, self.num_envs, self.render_mode = env, num_envs, render_mode
        self._mode = AUTORESET[autoreset_mode]
        self.metadata = _metadata(env) | {"autoreset_mode": self._mode}
        self.single_observation_space = gymnasium.spaces.Box(
            -np.inf, np.inf, (len(env.observations),), np.float32
        )
        self.single_action_space = gymnasium.spaces.Box(-1.0, 1.0, (len(env.actions),), np.float32)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._seeds = self._episodes = np.zeros(num_envs, np.uint32)
        self._ended = np.zeros(num_envs, bool)
        self._state: Any = None
        self._picture: Any = None
        self._reset, self._step = jax.jit(self._starts), jax.jit(self._stepped)

    def _starts(self, seeds, episodes):
        """The first state of each row's episode of this number."""

        def one(seed, episode):
            return self.env.reset(jax.random.fold_in(jax.random.key(seed), episode))

        return jax.vmap(one)(seeds, episodes)

    def _stepped(self, state, ended, actions, seeds, episodes):
        """The state to go on from, what the step led to, and which rows started afresh."""
        outcome = jax.vmap(self.env.step)(state, actions)
        over = outcome.done | (outcome.steps >= self.env.limit)
        if self._mode is AutoresetMode.DISABLED:
            return outcome, outcome, over
        fresh, started = self._starts(seeds, episodes), over
        if self._mode is NEXT_STEP:
            outcome = jax.vmap(choose)(ended, fresh, outcome)
            return outcome, outcome, over & ~ended
        return jax.vmap(choose)(started, fresh, outcome), outcome, over

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ):
        """Start episodes: the next ones of all rows or of ``options["reset_mask"]``.

        Args:
            seed: row i is seeded with the i-th, or with seed + i; None goes on as it is.
            options: ``reset_mask``, the rows to reset, (num_envs,) bool.

        Raises:
            ValueError, TypeError: other options, or a mask that is none; seeds that are not one a
                row.
            gymnasium.error.ResetNeeded: a mask before the first whole reset.
        """
        rows = self._rows(options)
        if isinstance(seed, Sequence):
            if len(seed) != self.num_envs:
                raise ValueError(f"seed: expected {self.num_envs}, one a row, got {len(seed)}")
            seeds = list(seed)
        else:
            super().reset(seed=seed)
            seeds = [None if seed is None else seed + i for i in range(self.num_envs)]
        if self._state is None:
            if not rows.all():
                raise gymnasium.error.ResetNeeded("reset_mask: expected a whole reset first")
            self._seeds = self.np_random.integers(2**32, size=self.num_envs, dtype=np.uint32)
        drawn = rows & np.array([one is not None for one in seeds])
        self._episodes = np.where(drawn, 0, self._episodes + rows).astype(np.uint32)
        self._seeds = self._seeds.copy()
        for row in np.flatnonzero(drawn):
            self._seeds[row] = seeding.np_random(seeds[row])[0].integers(2**32, dtype=np.uint32)
        fresh = self._reset(self._seeds, self._episodes)
        if not rows.all():
            fresh = jax.vmap(choose)(jnp.asarray(rows), fresh, self._state)
        self._state, self._ended = fresh, self._ended & ~rows
        return self._own(fresh.obs), {}

    def _rows(self, options: dict[str, Any] | None) -> np.ndarray:
        if not options:
            return np.ones(self.num_envs, bool)
        if set(options) != {"reset_mask"}:
            raise ValueError(f"options: expected reset_mask only, got {', '.join(options)}")
        mask = options["reset_mask"]
        if not isinstance(mask, np.ndarray) or mask.dtype != bool:
            kind = getattr(mask, "dtype", type(mask).__name__)
            raise TypeError(f"reset_mask: expected a NumPy array of bool, got {kind}")
        if mask.shape != (self.num_envs,) or not mask.any():
            raise ValueError(
                f"reset_mask: expected shape ({self.num_envs},) with a True, got {mask.tolist()}"
            )
        return mask

    def _own(self, rows: jax.Array, dtype: DTypeLike = np.float32) -> np.ndarray:
        return np.array(rows, dtype)

    def _checked(self, actions: ArrayLike) -> np.ndarray:
        shape = self.action_space.shape
        try:
            actions = np.asarray(actions)
        except ValueError:  # NumPy's says nothing of actions
            raise ValueError(f"actions: expected shape {shape}, got rows of many lengths") from None
        if actions.shape != shape:
            raise ValueError(
                f"actions: expected shape {shape}, one row an env, got {actions.shape}"
            )
        if actions.dtype.kind not in "fiub":
            raise TypeError(f"actions: expected real numbers, got {actions.dtype}")
        with np.errstate(over="ignore"):  # of what is not finite in the env's precision, below
            actions = actions.astype(self._state.obs.dtype)
        if not np.isfinite(actions).all():
            wrong = np.flatnonzero(~np.isfinite(actions).all(axis=1)).tolist()
            raise ValueError(f"actions: expected finite numbers, got others in rows {wrong}")
        return actions

    def step(self, actions: np.ndarray):
        """See Gymnasium; ``infos`` holds the task's metrics, and under ``_name`` of which rows.

        Raises:
            ValueError: actions of another shape, or not finite.
            TypeError: actions that are no real numbers.
            gymnasium.error.ResetNeeded: before a reset; with autoreset disabled, also after an end.
        """
        if self._state is None:
            raise gymnasium.error.ResetNeeded("step: expected a reset first")
        before = self._ended
        if self._mode is AutoresetMode.DISABLED and before.any():
            raise gymnasium.error.ResetNeeded(
                f"step: expected a reset of rows {np.flatnonzero(before).tolist()}, which ended"
            )
        self._state, outcome, ended = self._step(
            self._state, before, self._checked(actions), self._seeds, self._episodes + 1
        )
        terminated, self._ended = self._own(outcome.done, bool), self._own(ended, bool)
        fresh = {NEXT_STEP: before, SAME_STEP: self._ended}.get(self._mode, before & False)
        self._episodes = self._episodes + fresh.astype(np.uint32)
        metrics = {name: self._own(m, np.float64) for name, m in outcome.metrics.items()}
        info = _masked(metrics, ~fresh)
        if self._mode is SAME_STEP and ended.any():
            last = np.full(self.num_envs, None, object)
            for row in np.flatnonzero(self._ended):
                last[row] = self._own(outcome.obs[row])
            final = {"final_obs": last, "final_info": _masked(metrics, self._ended)}
            info |= final | {f"_{name}": self._ended.copy() for name in final}
        reward = self._own(outcome.reward, np.float64)
        return self._own(self._state.obs), reward, terminated, self._ended & ~terminated, info

    def render(self) -> tuple[np.ndarray, ...]:
        """A picture of each row, (height, width, 3) uint8.

        Raises:
            ValueError: made without ``render_mode="rgb_array"``; a task with nothing to show.
            gymnasium.error.ResetNeeded: before a reset.
        """
        if self.render_mode is None:
            raise ValueError("render: expected render_mode='rgb_array' when the env is made")
        if self._state is None:
            raise gymnasium.error.ResetNeeded("render: expected a reset first")
        if self._picture is None:
            from diffsim.report.episode import EpisodePicture

            self._picture = EpisodePicture(self.env)
        rows = range(self.num_envs)
        return tuple(self._picture(jax.tree.map(lambda x, i=i: x[i], self._state)) for i in rows)


def _metadata(env: Env) -> dict[str, Any]:
    return {"render_modes": list(MODES), "render_fps": round(1 / env.period)}


def _masked(values: dict[str, np.ndarray], rows: np.ndarray) -> dict[str, Any]:
    """Values of some rows, 0 in the others, as Gymnasium tells them apart; none without a row."""
    if not rows.any():
        return {}
    kept = {name: np.where(rows, value, 0.0) for name, value in values.items()}
    return kept | {f"_{name}": rows.copy() for name in values}


class GymEnv(gymnasium.Env):
    """One copy of a task; an episode that has ended must be reset.

    Args:
        env: the task, or its name.
        render_mode: None or "rgb_array".
        settings: of the task, where it is given by name.
    """

    metadata: dict[str, Any] = {"render_modes": list(MODES), "render_fps": 25}  # noqa: RUF012

    def __init__(self, env: Env | str, render_mode: str | None = None, **settings: Any):
        self._one = GymVectorEnv(env, 1, render_mode, AutoresetMode.DISABLED, **settings)
        self.render_mode, self.metadata = render_mode, _metadata(self._one.env)
        self.observation_space = self._one.single_observation_space
        self.action_space = self._one.single_action_space

    def reset(self, *, seed: int | None = None, options: dict | None = None):
        super().reset(seed=seed)
        if options:
            raise ValueError(f"options: expected none, got {', '.join(options)}")
        return self._one.reset(seed=seed)[0][0], {}

    def step(self, action: np.ndarray):
        obs, reward, terminated, truncated, info = self._one.step(np.asarray(action)[None])
        numbers = {name: float(m[0]) for name, m in info.items() if not name.startswith("_")}
        return obs[0], float(reward[0]), bool(terminated[0]), bool(truncated[0]), numbers

    def render(self) -> np.ndarray:
        return self._one.render()[0]


class Registered(GymEnv):
    """What ``gymnasium.make`` makes, which truncates by its own ``max_episode_steps``."""

    def __init__(self, env: str, render_mode: str | None = None, **settings: Any):
        super().__init__(env, render_mode, max_episode_steps=ENDLESS, **settings)


for _name in ENVS:
    gymnasium.register(
        f"diffsim/{_name}-v0",
        entry_point="diffsim.envs.gym_adapter:Registered",
        vector_entry_point="diffsim.envs.gym_adapter:GymVectorEnv",
        max_episode_steps=inspect.signature(ENVS[_name].create).parameters["limit"].default,
        kwargs={"env": _name},
    )
