"""The tasks as brax environments, and brax's own trainers on them; the only file that needs brax.

>>> import brax.envs
>>> import diffsim.envs.brax_adapter
>>> brax.envs.create("diffsim-paddle-juggle").observation_size
19
"""

import contextlib
import functools
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image, ImageOps

from diffsim import _check
from diffsim.envs import ENVS, Env, EnvState, make

with contextlib.redirect_stdout(sys.stderr):  # what brax lacks, it says
    from brax import envs as brax_envs
    from brax.envs.base import Env as BraxBase
    from brax.envs.base import State
    from brax.training.agents.apg import train as apg
    from brax.training.agents.es import train as es
    from brax.training.agents.ppo import train as ppo
    from brax.training.agents.ppo.networks import make_ppo_networks
    from brax.training.agents.sac import train as sac


class BraxEnv(BraxBase):
    """A task as a brax environment, its :class:`EnvState` the ``pipeline_state``.

    brax's auto-reset puts back the first state of an episode, always the same. Here the state it
    puts back is drawn anew at every step (a draw costs little), so each episode has a fresh start
    under brax's own wrappers and trainers.

    brax's domain randomisation puts other tasks in the place of ``sys`` and says by the tree of
    axes which of their leaves are batched, as ``in_axes`` of ``jax.vmap``:

    >>> def lighter(task):
    ...     masses = task.world.ball.mass * jnp.array([0.9, 1.0])
    ...     def put(tree, x):
    ...         ball = tree.world.ball.replace(mass=x)
    ...         return tree.replace(world=tree.world.replace(ball=ball))
    ...     return put(task, masses), put(jax.tree.map(lambda _: None, task), 0)
    >>> both = brax_envs.training.wrap(BraxEnv(make("rally")), randomization_fn=lighter)
    >>> both.reset(jax.random.split(jax.random.PRNGKey(0), 2)).obs.shape
    (2, 21)

    Args:
        env: the task.

    Attributes:
        sys: the task, a frozen record whose leaves are its constants.
    """

    def __init__(self, env: Env):
        self.sys = env

    def reset(self, rng: jax.Array) -> State:
        key, start_key = jax.random.split(rng)
        start = self.sys.reset(start_key)
        return self._state(start, {}, {"key": key})

    def step(self, state: State, action: jax.Array) -> State:
        after = self.sys.step(state.pipeline_state, action)
        info = dict(state.info)
        if "first_pipeline_state" in info:  # of brax's AutoResetWrapper
            info["key"], start_key = jax.random.split(info["key"])
            fresh = self.sys.reset(start_key)
            info |= {"first_pipeline_state": fresh, "first_obs": fresh.obs}
        return self._state(after, state.metrics, info)

    def _state(self, state, metrics, info) -> State:
        done = state.done.astype(state.reward.dtype)
        return State(state, state.obs, state.reward, done, metrics | state.metrics, info)

    @property
    def observation_size(self) -> int:
        return len(self.sys.observations)

    @property
    def action_size(self) -> int:
        return len(self.sys.actions)

    @property
    def backend(self) -> str:
        return "diffsim"

    @property
    def dt(self) -> float:
        """Time of a control step, s."""
        return self.sys.period

    def render(
        self,
        trajectory: Sequence[EnvState],
        height: int = 240,
        width: int = 320,
        camera: str | None = None,
    ) -> list[np.ndarray]:
        """Pictures of pipeline states, each (height, width, 3) uint8.

        Raises:
            ValueError: a camera, which there is none of; a task with nothing to show.
        """
        from diffsim.report.episode import EpisodePicture

        if camera is not None:
            raise ValueError(f"camera: expected None, from the side and above, got {camera!r}")
        draw = EpisodePicture(self.sys)

        def fitted(state: EnvState) -> np.ndarray:
            whole = Image.fromarray(draw(state))
            return np.asarray(ImageOps.pad(whole, (width, height), color="white"))

        return [fitted(state) for state in trajectory]


def _create(name: str, **settings: Any) -> BraxEnv:
    return BraxEnv(make(name, **settings))


for _name in ENVS:
    brax_envs.register_environment(f"diffsim-{_name}", functools.partial(_create, _name))


@contextlib.contextmanager
def replicated_puts() -> Iterator[None]:
    """Give jax back ``device_put_replicated``, which brax 0.14 calls and jax 0.10 dropped."""
    if hasattr(jax, "device_put_replicated"):
        yield
        return

    def put(tree, devices):
        return jax.pmap(lambda _: tree, devices=devices)(jnp.arange(len(devices)))

    jax.device_put_replicated = put
    try:
        yield
    finally:
        del jax.device_put_replicated


# Of each trainer: the function, the name of its budget, and settings that suit these tasks.
TRAINERS: dict[str, tuple[Callable, str, dict[str, Any]]] = {
    "ppo": (
        ppo.train,
        "num_timesteps",
        {
            "num_envs": 256,
            "batch_size": 64,
            "num_minibatches": 16,
            "unroll_length": 10,
            "num_updates_per_batch": 4,
            "learning_rate": 1e-3,
            "max_grad_norm": 1.0,
            "entropy_cost": 1e-2,
            "discounting": 0.99,
            "gae_lambda": 0.95,
            "normalize_observations": True,
            "num_eval_envs": 64,
            "deterministic_eval": True,
            "network_factory": functools.partial(
                make_ppo_networks,
                policy_hidden_layer_sizes=(64, 64),
                value_hidden_layer_sizes=(64, 64),
            ),
        },
    ),
    "sac": (
        sac.train,
        "num_timesteps",
        {
            "num_envs": 32,
            "batch_size": 128,
            "grad_updates_per_step": 8,
            "learning_rate": 1e-3,
            "min_replay_size": 2048,
            "max_replay_size": 200_000,
            "discounting": 0.98,
        },
    ),
    "apg": (
        apg.train,
        "policy_updates",
        {"num_envs": 64, "horizon_length": 32, "learning_rate": 2e-3, "max_gradient_norm": 1.0},
    ),
    "es": (
        es.train,
        "num_timesteps",
        {"population_size": 64, "learning_rate": 1e-2, "perturbation_std": 0.05},
    ),
}
# es refuses several; apg mixes up the shapes of its parts.
ONE_PROCESS = ("apg", "es")


def train(
    env: Env,
    algorithm: str,
    budget: int,
    *,
    seed: int = 0,
    evaluations: int = 5,
    progress: Callable[[int, dict], None] = lambda *_: None,
    **settings: Any,
) -> Callable[[jax.Array], jax.Array]:
    """Train on a task with one of brax's own trainers, which divide the environments over devices.

    Args:
        env: the task.
        algorithm: "ppo", "sac", "apg" or "es".
        budget: environment steps; for apg, updates of the policy.
        evaluations: how often to evaluate, at least 2.
        progress: called at each with the steps done (apg: evaluations) and brax's metrics.
        settings: of brax's ``train``, in place of those in ``TRAINERS``.

    Returns:
        The policy, observation to action.

    Raises:
        ValueError: no such algorithm; one that does not run in several processes; settings that
            brax refuses, such as environments that the devices cannot share equally.
    """
    _check.one_of("algorithm", algorithm, TRAINERS)
    if jax.process_count() > 1 and algorithm in ONE_PROCESS:
        raise ValueError(
            f"{algorithm}: brax runs it in one process, whose devices share the work; expected "
            f"--processes 1, got {jax.process_count()}"
        )
    function, unit, defaults = TRAINERS[algorithm]
    arguments = defaults | {"episode_length": env.limit} | settings
    try:
        with replicated_puts():
            make_policy, params, _ = function(
                BraxEnv(env),
                **{unit: budget},
                seed=seed,
                num_evals=evaluations,
                progress_fn=progress,
                **arguments,
            )
    except AssertionError as error:  # brax says no more than where
        line = str(traceback.extract_tb(error.__traceback__)[-1].line)
        raise ValueError(
            f"{algorithm}: brax expects {line.removeprefix('assert ')}, not so with these settings "
            f"on {jax.device_count()} devices"
        ) from error
    policy, unused = make_policy(params, deterministic=True), jax.random.key(0)
    return lambda obs: policy(obs, unused)[0]
