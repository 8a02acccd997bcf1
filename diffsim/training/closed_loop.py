"""Play a step-wise task episode by episode, as a player, and the settings of such a run."""

import dataclasses
import functools
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, ClassVar, Self

import jax
import jax.numpy as jnp
import optax

from diffsim import _check, envs
from diffsim._intervals import Interval
from diffsim._types import Network, Tree
from diffsim.envs import EnvState, restart
from diffsim.training.critic import Critic, CriticState, td_lambda
from diffsim.training.episodes import Episodes
from diffsim.training.loop_gradients import GRADIENTS, Loop
from diffsim.training.player import Player, repeated
from diffsim.training.settings import RunSettings
from diffsim.training.unroll import Actor

_FILLED = ("batch", "deviation", "least_deviation")
# Backpropagation needs few episodes and little noise, estimators from values more of both.
SUITED: dict[str, tuple] = {
    "pathwise": (64, 0.1, 0.03),
    "score-function": (256, 0.25, 0.1),
    "evolution-strategies": (32, 0.1, 0.03),
}


@dataclasses.dataclass(frozen=True)
class LoopSettings(RunSettings):
    """How to train a policy in a step-wise task."""

    env: str = "paddle-juggle"
    """paddle-juggle, hit-to-target or rally."""
    gradient: str = "pathwise"
    """pathwise, shac (with a critic), score-function, inverse-variance or evolution-strategies."""
    steps: int = 400
    """Updates of the policy."""
    batch: int | None = None
    """Episodes played side by side; None takes what suits the gradient."""
    horizon: int = 32
    """Control steps in an update."""
    discount: float = 0.99
    """Discount γ of a control step."""
    decay: float = 0.95
    """λ of the critic's TD(λ) targets."""
    learning_rate: float | None = None
    """Falls linearly to a hundredth; None takes 0.03 for muon, 0.003 for adam."""
    critic_rate: float = 2e-3
    """Learning rate of the critic, with Adam."""
    deviation: float | None = None
    """Standard deviation of each command at the start; None takes what suits the gradient."""
    least_deviation: float | None = None
    """Least standard deviation of a command; None takes what suits the gradient."""
    log_every: int = 20
    """Updates between two rows of metrics."""
    checkpoint_every: int = 100
    """Updates between two checkpoints."""
    out: Path = Path("runs/juggle")
    """Folder for metrics and checkpoints."""

    betas: ClassVar[dict[str, float]] = {"b1": 0.7, "b2": 0.95}

    def __post_init__(self):
        super().__post_init__()
        self.check_positive(("horizon", "discount", "critic_rate", "deviation", "least_deviation"))
        if self.discount > 1:
            raise ValueError(f"discount: expected at most 1, got {self.discount}")
        _check.one_of("env", self.env, envs.ENVS)

    def estimators(self) -> Collection[str]:
        return GRADIENTS

    def filled(self) -> Self:
        """With what suits gradient and optimizer in the place of each None."""
        suited = dict(zip(_FILLED, SUITED.get(self.gradient, SUITED["pathwise"])))
        open_ = {name: suited[name] for name in _FILLED if getattr(self, name) is None}
        return dataclasses.replace(super().filled(), **open_)

    def schedule(self, top: float) -> optax.Schedule:
        return optax.linear_schedule(top, 0.01 * top, self.steps)

    def player(self) -> Player:
        return ClosedLoop(envs.make(self.env))


@dataclasses.dataclass(frozen=True, eq=False)
class ClosedLoop:
    """A player of a step-wise task.

    Each update plays every episode ``horizon`` steps on from where it was, so the episodes are
    seen at all their ages; those that ended are replaced by fresh starts in between. What it
    carries from one update to the next is the critic and the episodes under way.

    Attributes:
        env: the task.
        settings: how to train, filled.

    >>> from diffsim.training import LoopSettings, Trainer
    >>> player = ClosedLoop(envs.make("paddle-juggle"))
    >>> Trainer(player, LoopSettings(batch=4, horizon=8)).evaluations_per_step()
    32
    """

    env: envs.Env
    settings: Any = None

    def bound(self, settings: LoopSettings) -> Self:
        return dataclasses.replace(self, settings=settings)

    def begin(self, keys):
        (_, params), (_, critic) = self._made(*keys[:2])
        return params, (critic, self._fresh(keys[2]))

    def repeated(self, step: Callable) -> Callable:
        return repeated(step)

    def gradient(self, params, memory, keys):
        settings, (critic, states) = self.settings, memory
        noise_key, slope_key, fit_key, fresh_key = keys
        shape = (settings.batch, settings.horizon, len(self.env.actions))
        noise = jax.random.normal(noise_key, shape, states.obs.dtype)
        slope = GRADIENTS[settings.gradient](
            self.loop, params, critic.target, states, noise, slope_key
        )
        critic = self._fitted(critic, slope, fit_key)
        fresh = self._fresh(fresh_key)
        states, _ = jax.vmap(lambda end, new: restart(self.env, end, new))(slope.end, fresh)
        return slope.value, slope.grad, (critic, states)

    def limited(self, params):
        floor = jnp.log(jnp.asarray(self.settings.least_deviation))
        return params | {"log_deviation": jnp.maximum(params["log_deviation"], floor)}

    def evaluations(self) -> int:
        """Control steps played for each update, a derivative counted as one."""
        return self.settings.batch * self.settings.horizon

    def blame(self, params, keys) -> str:
        return "in the stretches played"

    def evaluate(self, params: Tree, key: jax.Array, count: int) -> dict[str, Interval]:
        """How whole episodes go; see :meth:`Episodes.evaluate`."""
        return self._episodes.evaluate(params["network"], key, count)

    def measure(self, params: Tree, key: jax.Array, step: int) -> dict[str, float]:
        """The same of a few, without intervals."""
        # "seconds" is the wall clock in a row of metrics.
        names = {"seconds": "seconds_up"}
        measures = self.evaluate(params, key, 64)
        means = {names.get(name, name): measure.value for name, measure in measures.items()}
        return {"control_steps": step * self.evaluations(), **means}

    def policy(self, params: Tree) -> Callable[[jax.Array], jax.Array]:
        """Observation to action, without noise."""
        return lambda obs: self.act(params["network"], obs)

    def act(self, network: Network, obs: jax.Array) -> jax.Array:
        """The policy without its noise: ``params["network"]`` and observation to action."""
        return jnp.tanh(self.loop.actor.mean({"network": network}, obs))

    def close(self) -> None:
        pass

    def _fresh(self, key: jax.Array) -> EnvState:
        return jax.vmap(self.env.reset)(jax.random.split(key, self.settings.batch))

    def _made(self, actor_key, critic_key):
        """The actor and the critic, each with its first state."""
        settings, seen = self.settings, len(self.env.observations)
        commands = len(self.env.actions)
        return (
            Actor.create(seen, commands, settings.hidden, actor_key, settings.deviation),
            Critic.create(seen, settings.hidden, settings.critic_rate, critic_key),
        )

    @functools.cached_property
    def loop(self) -> Loop:
        (actor, _), (critic, _) = self._made(*jax.random.split(jax.random.key(0)))
        return Loop(self.env, actor, critic, self.settings.discount)

    @functools.cached_property
    def _episodes(self) -> Episodes:
        return Episodes(self.env, self.act)

    def _fitted(self, state: CriticState, slope, key: jax.Array) -> CriticState:
        if self.settings.gradient != "shac":
            return state
        stretch, end, value = slope.stretch, slope.end, self.loop.critic.value
        after = jnp.concatenate([stretch.obs[:, 1:], end.obs[:, None]], axis=1)
        ended = ~jnp.concatenate([stretch.live[:, 1:], ~end.done[:, None]], axis=1)
        goals = jax.vmap(td_lambda, (0, 0, 0, None, None))(
            stretch.reward,
            value(state.target, after),
            ended,
            self.settings.discount,
            self.settings.decay,
        )
        obs = stretch.obs.reshape(-1, stretch.obs.shape[-1])
        return self.loop.critic.fit(state, obs, goals.ravel(), stretch.live.ravel(), key)
