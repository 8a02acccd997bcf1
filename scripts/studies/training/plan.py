"""One task learned by several gradients from several seeds: what each costs until it plays well."""

import dataclasses
import functools
import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from diffsim._files import read_json, replacing
from diffsim._intervals import Interval
from diffsim._text import short
from diffsim.gradients import Method, estimate
from diffsim.tasks import Task
from diffsim.training import processes
from diffsim.training.checkpoint import Checkpoints
from diffsim.training.evaluate import FRESH, as_measures
from diffsim.training.loop import Trainer, train
from diffsim.training.metrics import read
from diffsim.training.player import Traced
from diffsim.training.settings import Settings

# Of the estimators that draw: 16 simulations a serve, or 8 that are differentiated as well.
_EIGHT = (
    "score-function-antithetic", "evolution-strategies", "evolution-strategies-ranked",
    "alpha-order", "inverse-variance", "total-propagation",
)  # fmt: skip
DRAWS: dict[str, dict[str, Any]] = {
    "score-function": {"samples": 16, "sigma": 0.05},
    **{name: {"samples": 8, "sigma": 0.05} for name in _EIGHT},
}


@dataclasses.dataclass(frozen=True)
class Plan:
    """Train with each gradient from each seed and compare what it took."""

    gradients: tuple[str, ...] = (
        "pathwise", "score-function", "evolution-strategies", "alpha-order",
    )  # fmt: skip
    """Names from diffsim.gradients.METHODS."""
    seeds: tuple[int, ...] = (0, 1, 2, 3)
    """Seeds, with one run of each gradient for each."""
    steps: int = 500
    """Updates of a run."""
    batch: int = 128
    """Serves for each update."""
    log_every: int = 10
    """Updates between two measurements."""
    error: float = 6.0
    """Landing error to reach, cm, with at least 90 % legal landings among the validation serves."""
    clock: str = "seconds"
    """seconds (on the wall), or cpu_seconds (of processors), for a machine that is busy."""
    out: Path = Path("runs/gradients")
    """Folder; runs that are finished there are not repeated."""

    def __post_init__(self):
        for name in ("gradients", "seeds"):
            values = getattr(self, name)
            if not values or len(set(values)) < len(values):
                raise ValueError(f"{name}: expected different ones, at least one, got {values}")
        if not self.error > 0:
            raise ValueError(f"error: expected > 0, got {self.error}")
        if self.clock not in ("seconds", "cpu_seconds"):
            raise ValueError(f"clock: expected seconds or cpu_seconds, got {self.clock!r}")
        for name in self.gradients:
            self.settings(name, self.seeds[0])

    def settings(self, gradient: str, seed: int) -> Settings:
        """Those of one run."""
        return Settings(
            gradient=gradient,
            steps=self.steps,
            batch=self.batch,
            log_every=self.log_every,
            checkpoint_every=max(1, self.steps // 4),
            seed=seed,
            out=self.out / gradient / f"seed-{seed}",
            **DRAWS.get(gradient, {}),
        )


@dataclasses.dataclass(frozen=True)
class Run:
    """One finished training.

    Attributes:
        gradient: its name.
        seed: of the run.
        compile_seconds: to compile the update, once for all seeds, by the wall clock; not part of
            ``seconds``.
        rows: its metrics: step, evaluations, seconds, cpu_seconds, legal_rate, landing_error_cm
            and others.
        final: measures on 1,000 fresh serves, see :func:`~diffsim.training.evaluate.evaluate`.
    """

    gradient: str
    seed: int
    compile_seconds: float
    rows: list[dict[str, float]]
    final: dict[str, Interval]

    def reached(self, error: float, legal: float = 0.9) -> dict[str, float] | None:
        """The first row with at most this error, cm, and at least this rate; None if none has."""
        good = (
            row for row in self.rows
            if row["landing_error_cm"] <= error and row["legal_rate"] >= legal
        )  # fmt: skip
        return next(good, None)


def run(
    plan: Plan, task: Task | None = None, *, progress: Callable[[str, int, dict], None]
) -> Iterator[Run]:
    """The runs of a plan one after another; those finished in ``plan.out`` are only read.

    Seed by seed, so that what else the machine does falls on all gradients alike; an update is
    compiled once for all seeds. An interrupted run goes on from its last checkpoint the next time.

    Args:
        plan: what to run.
        task: what to learn; the settings' own by default.
        progress: called with the gradient, the seed and what :func:`train` reports.

    Raises:
        FileExistsError: the folder has a run with other settings.
        FloatingPointError: a loss or gradient is not finite.
        ProcessLostError: another process of the run has gone.
    """
    for gradient, seed in itertools.product(plan.gradients, plan.seeds):
        _check_same(plan.settings(gradient, seed))
    trainers: dict[str, tuple[Trainer, float]] = {}
    for seed, gradient in itertools.product(plan.seeds, plan.gradients):
        settings = plan.settings(gradient, seed)
        result = settings.out / "result.json"
        if not result.exists():
            if gradient not in trainers:
                fresh = Trainer(settings.player() if task is None else Traced(task), settings)
                trainers[gradient] = fresh, fresh.compile()
            trainer, seconds = trainers[gradient]
            resume = bool(Checkpoints(settings.out / "checkpoints").steps())
            trainer.begin(dataclasses.replace(settings, resume=resume))
            train(trainer, progress=functools.partial(progress, gradient, seed))
            if processes.first():
                final = trainer.evaluate(jax.random.key(seed + FRESH))
                with replacing(result) as temporary:
                    temporary.write_text(json.dumps({"compile_seconds": seconds, "final": final}))
            processes.meet()
        seconds, final = finished(result)
        yield Run(gradient, seed, seconds, read(settings.out / "metrics.csv"), final)


def finished(path: Path) -> tuple[float, dict[str, Interval]]:
    """Seconds of compilation and the last measures, as a run that has ended leaves them.

    Raises:
        OSError: the file cannot be read.
        ValueError: it holds something else.
    """
    data = read_json(path)
    seconds = data.get("compile_seconds")
    if not isinstance(seconds, float | int):
        raise ValueError(f"{path}: compile_seconds: expected a number, got {short(seconds)}")
    return float(seconds), as_measures(data.get("final"), path)


def _check_same(settings: Settings) -> None:
    """Raise if the run's folder has a run with other settings."""
    path = settings.out / "settings.json"
    if path.exists():
        found = dataclasses.replace(Settings.load(path), resume=False, out=settings.out)
        if found != settings:
            raise FileExistsError(f"{settings.out}: has a run with other settings; change --out")


def differentiates(method: Method) -> bool:
    """Whether the method takes derivatives of the loss, or only values.

    >>> from diffsim.gradients import SPSA, Pathwise
    >>> differentiates(Pathwise()), differentiates(SPSA())
    (True, False)
    """
    asked = []

    @jax.custom_jvp
    def loss(x):
        return jnp.sum(x)

    @loss.defjvp
    def _(primals, tangents):
        asked.append(True)
        return jnp.sum(primals[0]), jnp.sum(tangents[0])

    jax.eval_shape(lambda: estimate(loss, method)(jnp.ones(2), key=jax.random.key(0)))
    return bool(asked)
