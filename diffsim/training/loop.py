"""The training loop: any task, any gradient estimator, the network always by backpropagation."""

import functools
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx, struct

from diffsim.gradients import estimate, surrogate
from diffsim.tasks import HostTask, Task
from diffsim.training import folder, host, processes, sharding
from diffsim.training.checkpoint import Checkpoints
from diffsim.training.evaluate import mean_interval, outcomes
from diffsim.training.metrics import MetricsWriter
from diffsim.training.policy import MLP
from diffsim.training.settings import Settings


@struct.dataclass
class TrainState:
    """Everything a run needs to go on, bit for bit.

    Attributes:
        params: of the network.
        optimizer: state of the optimiser.
        key: random key of the next step.
        step: updates done, ().
    """

    params: Any
    optimizer: Any
    key: jax.Array
    step: jax.Array


class Trainer:
    """One run: builds the network and the update from settings, and keeps its state.

    Args:
        task: what to learn.
        settings: how.
    """

    def __init__(self, task: Task | HostTask, settings: Settings):
        self.task: Any = task
        self._terms: Callable
        warm = min(50, settings.steps // 10)
        schedule = optax.warmup_cosine_decay_schedule(
            0.0 if warm else settings.learning_rate, settings.learning_rate, warm,
            settings.steps, 0.01 * settings.learning_rate,
        )  # fmt: skip
        self._optimizer = optax.chain(
            optax.clip_by_global_norm(settings.clip), optax.adam(schedule)
        )
        self._draw, self._apply = jax.jit(self._drawn), jax.jit(self._applied)
        if host.is_host(task):
            self._slope = host.box(task).value_and_grad(self._answers, settings.method())
            self._update = self._host_step
            self._terms = functools.partial(host.results, task, real=False)
        else:
            plain: Any = task
            self._loss = plain.loss
            self._update = jax.jit(self._step)
            self._terms = jax.jit(jax.vmap(plain.terms))
        self.begin(settings)

    def begin(self, settings: Settings) -> None:
        """Start over, with what is compiled; only seed, folder and resuming may have changed."""
        self.settings = settings
        key, network_key, probe_key = jax.random.split(jax.random.key(settings.seed), 3)
        self._validation = jax.random.fold_in(key, 1)
        inputs = self.task.observe(self.task.sample(probe_key)).size
        seed = nnx.Rngs(network_key)
        network = MLP(inputs, settings.hidden, self.task.weight_count, rngs=seed)
        self._graph, params = nnx.split(network)
        state = TrainState(params, self._optimizer.init(params), key, jnp.zeros((), int))
        self.state = sharding.replicated(state)

    def compile(self) -> float:
        """Compile the update without doing one; the seconds that took."""
        start = time.perf_counter()
        jax.block_until_ready(self._update(self.state)[1])
        return time.perf_counter() - start

    @classmethod
    def restored(cls, folder: Path) -> "Trainer":
        """The run in ``folder`` (or whose checkpoints are in it) at its last checkpoint.

        Raises:
            FileNotFoundError: no settings or no checkpoint there.
        """
        folder = folder.parent if folder.name == "checkpoints" else folder
        settings = Settings.load(folder / "settings.json")
        trainer = cls(settings.task(), settings)
        restore(trainer, Checkpoints(folder / "checkpoints"))
        return trainer

    def policy(self, params: Any = None) -> Callable[[jax.Array], jax.Array]:
        """Observation to trajectory weights, with the present or other parameters."""
        params = sharding.local(self.state.params) if params is None else params
        return nnx.merge(self._graph, params)

    def serves(self, key: jax.Array) -> Any:
        """A batch of starts."""
        keys = jax.random.split(key, self.settings.batch)
        return jax.vmap(self.task.sample)(keys)

    def _answers(self, params, starts):
        network = nnx.merge(self._graph, params)
        return jax.vmap(lambda start: network(self.task.observe(start)))(starts)

    def _drawn(self, state: TrainState):
        key, serve_key, noise_key = jax.random.split(state.key, 3)
        return key, self.serves(serve_key), noise_key

    def _applied(self, state: TrainState, key, slope) -> TrainState:
        with jax.numpy_dtype_promotion("standard"):  # optax mixes precisions
            updates, optimizer = self._optimizer.update(slope, state.optimizer, state.params)
            params = optax.apply_updates(state.params, updates)
        return TrainState(params, optimizer, key, state.step + 1)

    def _step(self, state: TrainState):
        key, *keys = jax.random.split(state.key, 3)
        rows = [jax.random.split(each, self.settings.batch) for each in keys]
        value, slope = sharding.averaged(self._value_and_slope)(state.params, rows)
        return self._applied(state, key, slope), value, optax.tree.norm(slope)

    def _value_and_slope(self, params, keys):
        """Over serves and noise drawn from these keys, whichever device has them."""
        serve_keys, noise_keys = keys
        starts = jax.vmap(self.task.sample)(serve_keys)
        loss = surrogate(self._loss, self.settings.method())

        def objective(params):
            weights = self._answers(params, starts)
            return jnp.mean(
                jax.vmap(lambda w, s, k: loss(w, s, key=k))(weights, starts, noise_keys)
            )

        return jax.value_and_grad(objective)(params)

    def _host_step(self, state: TrainState):
        """The same with the simulator between the compiled forward pass and pullback.

        Every process simulates its share of the serves; its devices do not matter.
        """
        state = sharding.local(state)
        key, starts, noise_key = self._draw(state)
        noise_keys = jax.random.split(noise_key, self.settings.batch)
        starts, noise_keys = processes.own((starts, noise_keys))
        practice = host.world(starts.position, False)
        value, slope = processes.averaged(
            self._slope(state.params, starts, args=(starts, practice), key=noise_keys)
        )
        new = sharding.replicated(self._apply(state, key, slope))
        return new, value, optax.tree.norm(slope)

    def evaluations_per_step(self) -> int:
        """Simulations an update takes, a derivative counted as one."""
        start = self.task.sample(self._validation)
        weights = jnp.zeros(self.task.weight_count, start.position.dtype)
        if host.is_host(self.task):
            each = host.box(self.task).evaluations(weights, self.settings.method())
            return each * self.settings.batch
        one = jax.eval_shape(
            lambda: estimate(self._loss, self.settings.method())(
                weights, start, key=self._validation
            )
        )
        return one.evaluations * self.settings.batch

    @processes.together()
    def update(self) -> tuple[float, float]:
        """One update; the loss and the gradient's norm.

        Raises:
            FloatingPointError: either is not finite; the state from before the update is kept.
            ProcessLostError: another process of the run has gone.
        """
        new, value, size = self._update(self.state)
        value, size = float(value), float(size)
        if not (jnp.isfinite(value) and jnp.isfinite(size)):
            raise FloatingPointError(self._blame(value, size))
        self.state = new
        return value, size

    def _blame(self, value: float, size: float) -> str:
        state = sharding.local(self.state)
        _, serve_key, _ = jax.random.split(state.key, 3)
        starts = self.serves(serve_key)
        terms = self._terms(self._answers(state.params, starts), starts)
        bad = [name for name, term in terms.items() if not bool(jnp.all(jnp.isfinite(term)))]
        where = f"in the loss term {' and '.join(bad)}" if bad else "in the gradient"
        return (
            f"step {int(self.state.step)}: loss {value}, gradient norm {size}: not finite {where}"
        )

    def measure(self) -> dict[str, float]:
        """Loss terms and real-world measures on one fixed batch of serves."""
        starts = self.serves(self._validation)
        weights = self._answers(sharding.local(self.state.params), starts)
        terms, outcome = self._terms(weights, starts), outcomes(self.task, weights, starts)
        means = {name: float(jnp.mean(term)) for name, term in terms.items()}
        return {
            "loss": sum(means.values()),
            "hit_rate": float(outcome["hit"].mean()),
            "legal_rate": float(outcome["legal"].mean()),
            "landing_error_cm": mean_interval(100 * outcome["landing_error"][outcome["legal"]])[0],
            **({"sound_rate": float(outcome["sound"].mean())} if "sound" in outcome else {}),
            **{f"term_{name}": value for name, value in means.items()},
        }


def restore(trainer: Any, checkpoints: Checkpoints) -> np.ndarray:
    """Put a trainer's state to that of the last checkpoint; the (wall, processor) seconds spent.

    Raises:
        FileNotFoundError: there is no checkpoint.
        ValueError: none is whole.
    """
    clocks = sharding.replicated(jnp.zeros(2))
    trainer.state, spent = checkpoints.restore((trainer.state, clocks))
    return np.array(spent, float)


@processes.together()
def train(trainer: Trainer, *, progress: Callable[[dict[str, float]], None] | None = None) -> Path:
    """Run to the last step, writing metrics and checkpoints; resumes where it is asked to.

    The folder gets ``settings.json``, ``metrics.csv``, TensorBoard files and ``checkpoints/``, and
    ``run.lock`` while the run lasts. An
    interrupt (Ctrl-C) saves a checkpoint before it is passed on. Of several processes, which must
    see one folder, the first alone writes metrics and measures, and an interrupt saves nothing, as
    it may come to each at another step.

    Args:
        trainer: the run.
        progress: called with each row of metrics and, between rows, with ``{"step": n}``.

    Returns:
        The folder of the checkpoints.

    Raises:
        FloatingPointError: a loss or gradient is not finite; the state that leads to it is saved
            in ``failure/``.
        FileExistsError: the folder has checkpoints and ``resume`` is off, or another run has it.
        FileNotFoundError: there is nothing to resume.
        ValueError: what is to be resumed has other settings, or no whole checkpoint.
        OSError: the folder cannot be written.
        ProcessLostError: another process of the run has gone.
    """
    with folder.ready(trainer.settings) as checkpoints:
        _train(trainer, checkpoints, progress)
    return checkpoints.folder


def _train(trainer: Trainer, checkpoints: Checkpoints, progress) -> None:
    settings = trainer.settings
    spent = np.zeros(2)  # on updates: wall clock and processor, s
    cost = trainer.evaluations_per_step()
    if settings.resume:
        spent = restore(trainer, checkpoints)
    first = processes.first()
    if first:
        settings.save(settings.out / "settings.json")

    def save(into: Checkpoints, step: int) -> None:
        into.save(step, (trainer.state, sharding.replicated(jnp.asarray(spent))))

    begin = int(trainer.state.step) + settings.resume
    writer: Any = MetricsWriter(settings.out, begin) if first else nullcontext()
    with writer as metrics:

        def report() -> None:
            step = int(trainer.state.step)
            seconds, cpu = spent.tolist()
            row = {"step": step, "evaluations": step * cost, "seconds": seconds, "cpu_seconds": cpu}
            metrics.write(row | trainer.measure())
            if progress is not None:
                progress(metrics.rows[-1])

        def due(step: int) -> bool:
            return step % settings.log_every == 0 or step == settings.steps

        # The first row; or that of a step after which the run was interrupted too soon.
        step = int(trainer.state.step)
        if first and due(step) and (not metrics.rows or metrics.rows[-1]["step"] < step):
            report()
        try:
            while (step := int(trainer.state.step)) < settings.steps:
                begun = _clocks()
                trainer.update()
                spent += _clocks() - begun
                step += 1
                if progress is not None:
                    progress({"step": step})
                if first and due(step):
                    report()
                if step % settings.checkpoint_every == 0 or step == settings.steps:
                    save(checkpoints, step)
        except FloatingPointError:
            save(Checkpoints(settings.out / "failure"), step)
            raise
        except KeyboardInterrupt:
            if jax.process_count() == 1:
                save(checkpoints, int(trainer.state.step))
            raise


def _clocks() -> np.ndarray:
    """Wall clock and this process's processor time, s."""
    return np.array([time.perf_counter(), time.process_time()])
