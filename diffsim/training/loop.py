"""The trainer and its loop: any player, any gradient estimator; it knows of nothing else."""

import dataclasses
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct

from diffsim._intervals import Interval
from diffsim._types import Tree
from diffsim.envs.base import strong
from diffsim.training import folder, processes, sharding
from diffsim.training.checkpoint import Checkpoints
from diffsim.training.metrics import MetricsWriter
from diffsim.training.player import KEYS, Player
from diffsim.training.settings import RunSettings, Settings

PACE = 0.25  # s; as many updates as that takes are one call of a compiled program


@struct.dataclass
class TrainState:
    """Everything a run needs to go on, bit for bit.

    Attributes:
        params: what is learned.
        optimizer: state of the optimiser.
        memory: what the player carries from one update to the next.
        key: random key of the next update.
        step: updates done, ().
    """

    params: Tree
    optimizer: optax.OptState
    memory: Tree
    key: jax.Array
    step: jax.Array


class Trainer:
    """One run: makes the update of a player from settings, and keeps its state.

    Args:
        player: what to learn, and how that is played.
        settings: how to learn.
    """

    def __init__(self, player: Player, settings: RunSettings):
        self.player: Any = player.bound(settings.filled())
        self._optimizer = settings.transformation()
        self._applied = jax.jit(self._apply)
        # Each as one program: operation by operation they are some sixty to compile.
        self._drawn, self._started = jax.jit(self.player.begin), jax.jit(self._start)
        self._update = self.player.repeated(self._step)
        self.begin(settings)

    def begin(self, settings: RunSettings) -> None:
        """Start over, with what is compiled; only seed, folder and resuming may have changed."""
        self.settings: Any = settings.filled()
        key, *keys = jax.random.split(jax.random.key(settings.seed), 1 + KEYS)
        self._validation = jax.random.fold_in(key, 1)
        params, memory = self._drawn(keys)
        if settings.warm_start is not None and not settings.resume:
            params = _taken_over(settings.warm_start, params, type(settings))
        self.state = sharding.replicated(self._started(params, memory, key))

    def _start(self, params: Tree, memory: Tree, key: jax.Array) -> TrainState:
        step, optimizer = jnp.zeros((), int), self._optimizer.init(params)
        return strong(TrainState(params, optimizer, memory, key, step))

    @classmethod
    def restored(cls, folder: Path, kind: type[RunSettings] = Settings) -> "Trainer":
        """The run in ``folder`` (or whose checkpoints are in it) at its last checkpoint.

        Args:
            kind: of its settings.

        Raises:
            FileNotFoundError: no settings or no checkpoint there.
            ValueError: it is a run of another kind.
        """
        folder = folder.parent if folder.name == "checkpoints" else folder
        settings = kind.load(folder / "settings.json")
        trainer = cls(settings.player(), dataclasses.replace(settings, warm_start=None))
        restore(trainer, Checkpoints(folder / "checkpoints"))
        return trainer

    def compile(self) -> float:
        """Compile the update without doing one; the seconds that took."""
        start = time.perf_counter()
        jax.block_until_ready(self._update(self.state, 1)[1])
        return time.perf_counter() - start

    def policy(self, params: Tree = None) -> Callable[[jax.Array], jax.Array]:
        """From what is seen to what is done, with the present or other parameters."""
        return self.player.policy(self._params if params is None else params)

    def evaluations_per_step(self) -> int:
        """Simulations, or control steps, of an update, a derivative counted as one."""
        return self.player.evaluations()

    @property
    def _params(self) -> Tree:
        return sharding.local(self.state.params)

    def _step(self, state: TrainState):
        key, *keys = jax.random.split(state.key, 1 + KEYS)
        value, slope, memory = self.player.gradient(state.params, state.memory, keys)
        return self._applied(state, key, slope, memory), value, optax.tree.norm(slope)

    def _apply(self, state: TrainState, key, slope, memory) -> TrainState:
        with jax.numpy_dtype_promotion("standard"):  # optax mixes precisions
            updates, optimizer = self._optimizer.update(slope, state.optimizer, state.params)
            params = optax.apply_updates(state.params, updates)
        params = self.player.limited(params)
        return strong(TrainState(params, optimizer, memory, key, state.step + 1))

    @processes.together()
    def update(self, count: int = 1) -> tuple[float, float]:
        """So many updates; the loss and the gradient's norm of the last.

        Raises:
            FloatingPointError: either is not finite; the state from before that update is kept.
            ProcessLostError: another process of the run has gone.
        """
        self.state, value, size = self._update(self.state, count)
        value, size = float(value), float(size)
        if not (np.isfinite(value) and np.isfinite(size)):
            state = sharding.local(self.state)
            where = self.player.blame(state.params, jax.random.split(state.key, 1 + KEYS)[1:])
            raise FloatingPointError(
                f"step {int(state.step)}: loss {value}, gradient norm {size}: not finite {where}"
            )
        return value, size

    def measure(self) -> dict[str, float]:
        """How it goes on one fixed batch of starts, as a row of metrics tells."""
        return self.player.measure(self._params, self._validation, int(self.state.step))

    def evaluate(self, key: jax.Array, count: int = 1000) -> dict[str, Interval]:
        """How well ``count`` fresh starts are played, with 95 % intervals."""
        return self.player.evaluate(self._params, key, count)


def _taken_over(folder: Path, params: Any, kind: type[RunSettings]) -> Any:
    """The parameters that another run has learned, for a player that begins with ``params``."""
    found = sharding.local(Trainer.restored(folder, kind).state.params)
    wanted, got = ([leaf.shape for leaf in jax.tree.leaves(tree)] for tree in (params, found))
    if wanted != got:
        raise ValueError(f"warm_start: expected weights of shapes {wanted}, got {got} in {folder}")
    return found


def restore(trainer: Trainer, checkpoints: Checkpoints) -> np.ndarray:
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
        progress: called with each row of metrics and, between rows, with ``{"step": n}``, after
            each update or, of short ones, a few times a second.

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
            pace = 1  # updates at a time; clocks differ from process to process
            while (step := int(trainer.state.step)) < settings.steps:
                marks = settings.log_every, settings.checkpoint_every
                count = min(pace, settings.steps - step, *(mark - step % mark for mark in marks))
                begun = _clocks()
                trainer.update(count)
                took = _clocks() - begun
                spent += took
                if jax.process_count() == 1:
                    pace = max(1, min(2 * pace, int(PACE * count / took[0])))
                step += count
                if progress is not None:
                    progress({"step": step})
                if first and due(step):
                    report()
                if step % settings.checkpoint_every == 0 or step == settings.steps:
                    save(checkpoints, step)
        except FloatingPointError:
            save(Checkpoints(settings.out / "failure"), int(trainer.state.step))
            raise
        except KeyboardInterrupt:
            if jax.process_count() == 1:
                save(checkpoints, int(trainer.state.step))
            raise


def _clocks() -> np.ndarray:
    """Wall clock and this process's processor time, s."""
    return np.array([time.perf_counter(), time.process_time()])
