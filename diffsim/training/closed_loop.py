"""Train a policy in a step-wise task: one trainer, the gradient its argument."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct

from diffsim import envs
from diffsim.envs import EnvState, restart
from diffsim.envs.base import strong
from diffsim.training import processes, sharding
from diffsim.training.checkpoint import Checkpoints
from diffsim.training.critic import Critic, CriticState, td_lambda
from diffsim.training.episodes import Episodes
from diffsim.training.evaluate import Measure
from diffsim.training.loop import restore
from diffsim.training.loop_gradients import GRADIENTS, Loop
from diffsim.training.stored import Stored, check_one_of
from diffsim.training.unroll import Actor

_FILLED = ("batch", "learning_rate", "deviation", "least_deviation")
# Backpropagation needs few episodes and little noise, estimators from values more of both.
SUITED: dict[str, tuple] = {
    "analytic": (64, 3e-3, 0.1, 0.03),
    "reinforce": (256, 2e-3, 0.25, 0.1),
    "evolution-strategies": (32, 1e-2, 0.1, 0.03),
}


@dataclasses.dataclass(frozen=True)
class LoopSettings(Stored):
    """How to train a policy in a step-wise task."""

    env: str = "paddle-juggle"
    """paddle-juggle, hit-to-target or rally."""
    gradient: str = "analytic"
    """analytic (backpropagation over the horizon), shac (with a critic for what comes after),
    reinforce (score function with reward-to-go), interpolated, or evolution-strategies."""
    steps: int = 400
    """Updates of the policy."""
    batch: int | None = None
    """Episodes played side by side; None, here and below, for what suits the gradient."""
    horizon: int = 32
    """Control steps of an update."""
    discount: float = 0.99
    """γ, of a control step."""
    decay: float = 0.95
    """λ of the critic's targets."""
    learning_rate: float | None = None
    """Of Adam, falling linearly to a hundredth."""
    critic_rate: float = 2e-3
    """Of the critic's Adam."""
    clip: float = 1.0
    """Largest norm of the gradient; larger ones are scaled down."""
    hidden: tuple[int, ...] = (64, 64)
    """Widths of the hidden layers of policy and critic."""
    deviation: float | None = None
    """Standard deviation of each command at the start."""
    least_deviation: float | None = None
    """Below which it does not fall."""
    seed: int = 0
    """Of everything drawn at random."""
    log_every: int = 20
    """Updates between two rows of metrics."""
    checkpoint_every: int = 100
    """Updates between two checkpoints."""
    out: Path = Path("runs/juggle")
    """Folder for metrics and checkpoints."""
    resume: bool = False
    """Go on from the last checkpoint in the folder, with that run's settings."""

    def __post_init__(self):
        self.check_positive((
            "steps", "batch", "horizon", "discount", "learning_rate", "critic_rate", "clip",
            "deviation", "least_deviation", "log_every", "checkpoint_every", "hidden",
        ))  # fmt: skip
        check_one_of("env", self.env, envs.ENVS)
        check_one_of("gradient", self.gradient, GRADIENTS)

    def filled(self) -> "LoopSettings":
        """With what suits the gradient in the place of each None."""
        suited = dict(zip(_FILLED, SUITED.get(self.gradient, SUITED["analytic"])))
        open_ = {name: suited[name] for name in _FILLED if getattr(self, name) is None}
        return dataclasses.replace(self, **open_)


@struct.dataclass
class LoopState:
    """Everything a run needs to go on, bit for bit.

    Attributes:
        params: of the policy.
        optimizer: state of its optimiser.
        critic: the critic.
        states: the episodes under way.
        key: random key of the next update.
        step: updates done, ().
    """

    params: Any
    optimizer: Any
    critic: CriticState
    states: EnvState
    key: jax.Array
    step: jax.Array


class LoopTrainer:
    """One run; :func:`diffsim.training.train` drives it.

    Each update plays every episode ``horizon`` steps on from where it was, so the episodes are
    seen at all their ages; those that ended are replaced by fresh starts in between.

    Args:
        settings: how.
    """

    def __init__(self, settings: LoopSettings):
        self.env = env = envs.make(settings.env)
        top: Any = settings.filled().learning_rate
        rate = optax.linear_schedule(top, 0.01 * top, settings.steps)
        self._optimizer = optax.chain(
            optax.clip_by_global_norm(settings.clip), optax.adam(rate, b1=0.7, b2=0.95)
        )
        self.begin(settings)
        self._episodes = Episodes(env, self.act)
        self._update = jax.jit(self._step)

    @classmethod
    def restored(cls, folder: Path) -> "LoopTrainer":
        """The run in ``folder`` at its last checkpoint.

        Raises:
            FileNotFoundError: no settings or no checkpoint there.
        """
        trainer = cls(LoopSettings.load(folder / "settings.json"))
        restore(trainer, Checkpoints(folder / "checkpoints"))
        return trainer

    def begin(self, settings: LoopSettings) -> None:
        """Start anew; what is compiled is kept, so only seed and folder may differ."""
        self.settings: Any = settings.filled()  # no None is left
        settings = self.settings
        key, actor_key, critic_key, start_key = jax.random.split(jax.random.key(settings.seed), 4)
        seen, commands = len(self.env.observations), len(self.env.actions)
        actor, params = Actor.create(seen, commands, settings.hidden, actor_key, settings.deviation)
        critic, critic_state = Critic.create(
            seen, settings.hidden, settings.critic_rate, critic_key
        )
        self.loop = Loop(self.env, actor, critic, settings.discount)
        self._validation = jax.random.fold_in(key, 1)
        self.state = sharding.replicated(strong(LoopState(
            params, self._optimizer.init(params), critic_state, self._fresh(start_key), key,
            jnp.zeros((), int),
        )))  # fmt: skip

    def act(self, network: Any, obs: jax.Array) -> jax.Array:
        """The policy without its noise: ``state.params["network"]`` and observation to action."""
        return jnp.tanh(self.loop.actor.mean({"network": network}, obs))

    def _fresh(self, key: jax.Array) -> EnvState:
        return jax.vmap(self.env.reset)(jax.random.split(key, self.settings.batch))

    def _step(self, state: LoopState):
        key, noise_key, slope_key, fit_key, fresh_key = jax.random.split(state.key, 5)
        shape = (self.settings.batch, self.settings.horizon, len(self.env.actions))
        noise = jax.random.normal(noise_key, shape, state.states.obs.dtype)
        slope = GRADIENTS[self.settings.gradient](
            self.loop, state.params, state.critic.target, state.states, noise, slope_key
        )
        with jax.numpy_dtype_promotion("standard"):  # optax mixes precisions
            updates, optimizer = self._optimizer.update(slope.grad, state.optimizer, state.params)
            params = optax.apply_updates(state.params, updates)
        floor = jnp.log(jnp.asarray(self.settings.least_deviation))
        params["log_deviation"] = jnp.maximum(params["log_deviation"], floor)
        critic = self._fitted(state.critic, slope, fit_key)
        fresh = self._fresh(fresh_key)
        states, _ = jax.vmap(lambda end, new: restart(self.env, end, new))(slope.end, fresh)
        new = LoopState(params, optimizer, critic, states, key, state.step + 1)
        return strong(new), slope.value, optax.tree.norm(slope.grad)

    def _fitted(self, state: CriticState, slope, key: jax.Array) -> CriticState:
        if self.settings.gradient != "shac":
            return state
        stretch, end, value = slope.stretch, slope.end, self.loop.critic.value
        after = jnp.concatenate([stretch.obs[:, 1:], end.obs[:, None]], axis=1)
        ended = ~jnp.concatenate([stretch.live[:, 1:], ~end.done[:, None]], axis=1)
        goals = jax.vmap(td_lambda, (0, 0, 0, None, None))(
            stretch.reward, value(state.target, after), ended,
            self.settings.discount, self.settings.decay,
        )  # fmt: skip
        obs = stretch.obs.reshape(-1, stretch.obs.shape[-1])
        return self.loop.critic.fit(state, obs, goals.ravel(), stretch.live.ravel(), key)

    def evaluations_per_step(self) -> int:
        """Control steps played for each update, a derivative counted as one."""
        return self.settings.batch * self.settings.horizon

    @processes.together()
    def update(self) -> tuple[float, float]:
        """One update; the cost of a step and the gradient's norm.

        Raises:
            FloatingPointError: either is not finite; the state from before the update is kept.
            ProcessLostError: another process of the run has gone.
        """
        new, value, size = self._update(self.state)
        value, size = float(value), float(size)
        if not (jnp.isfinite(value) and jnp.isfinite(size)):
            raise FloatingPointError(
                f"step {int(self.state.step)}: cost {value}, gradient norm {size}: not finite"
            )
        self.state = new
        return value, size

    def evaluate(self, key: jax.Array, count: int = 1000) -> dict[str, Measure]:
        """How whole episodes from fresh starts go; see :meth:`Episodes.evaluate`."""
        network = sharding.local(self.state.params["network"])
        return self._episodes.evaluate(network, key, count)

    def measure(self) -> dict[str, float]:
        """The same on one fixed batch of starts, without intervals."""
        measures = self.evaluate(self._validation, 64)
        # "seconds" is the wall clock in a row of metrics.
        names = {"seconds": "seconds_up"}
        played = int(self.state.step) * self.evaluations_per_step()
        means = {names.get(name, name): measure.value for name, measure in measures.items()}
        return {"control_steps": played, **means}
