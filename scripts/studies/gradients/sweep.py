"""The ball/paddle comparison: estimators on one task over horizon, bounces, contact and noise."""

import dataclasses
import itertools
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffsim._files import read_json, replacing
from diffsim._text import short
from diffsim.gradients.base import Method, estimate
from diffsim.gradients.compare import compare
from diffsim.gradients.laws import Gaussian
from diffsim.gradients.measure_valued import MeasureValued
from diffsim.gradients.registry import METHODS, make
from diffsim.gradients.score_function import ScoreFunction
from studies.gradients import keep_up

PORTION = 8192  # evaluations of a reference at a time
LEFT_OUT = ("complex-step",)  # the simulator is not written for complex numbers


@dataclass(frozen=True)
class Setting:
    """One point of the comparison.

    Attributes:
        horizon: time simulated, s.
        bounces: number of bounces on the paddle within the horizon.
        contact: impulse, compliant:STIFFNESS (N/m) or smoothed:SHARPNESS (1/m).
        radius: radius of the paddle, m; the ball misses one of 8 cm now and then.
        sigma: standard deviation of the noise on the weights, over which the loss is smoothed.
        samples: samples of one estimate.
    """

    horizon: float = 0.8
    bounces: int = 2
    contact: str = "impulse"
    radius: float = 0.25
    sigma: float = 0.1
    samples: int = 64

    def __post_init__(self):
        keep_up.KeepUp.create(self.horizon, self.bounces, radius=self.radius)
        keep_up.contact(self.contact)
        if not 0 < self.sigma < math.inf:
            raise ValueError(f"sigma: expected > 0, got {self.sigma}")
        if self.samples < 2:
            raise ValueError(f"samples: expected at least 2, got {self.samples}")

    def task(self) -> keep_up.KeepUp:
        """The task at this point."""
        contact = keep_up.contact(self.contact)
        return keep_up.KeepUp.create(self.horizon, self.bounces, contact, self.radius)


def settings(base: Setting, axes: Mapping[str, Sequence], full: bool = False) -> list[Setting]:
    """The base and, along one axis at a time, its neighbours; or all combinations.

    >>> [s.bounces for s in settings(Setting(), {"bounces": (1, 2, 4), "sigma": (0.1,)})]
    [2, 1, 4]
    """
    if full:
        every = itertools.product(*axes.values())
        return [dataclasses.replace(base, **dict(zip(axes, point))) for point in every]
    found = [base]
    for name, values in axes.items():
        found += [dataclasses.replace(base, **{name: value}) for value in values]
    return list(dict.fromkeys(found))


def configured(name: str, sigma: float, samples: int) -> Method:
    """The registry's method with this noise and so many samples, where it has such settings.

    >>> configured("pathwise", 0.2, 8).law.sigma
    0.2
    """
    record: Any = make(name)
    values = {"law": Gaussian(sigma), "sigma": sigma, "samples": samples}
    return make(name, **{k: v for k, v in values.items() if k in record.__dataclass_fields__})


def names(wanted: Sequence[str]) -> tuple[str, ...]:
    """Method names, "all" being the whole registry but what cannot run here.

    Raises:
        ValueError: no such method, or one that cannot differentiate this task.
    """
    if "all" in wanted:
        return tuple(name for name in METHODS if name not in LEFT_OUT)
    for name in wanted:
        if name not in METHODS or name in LEFT_OUT:
            known = ", ".join(n for n in METHODS if n not in LEFT_OUT)
            raise ValueError(f"methods: expected all or some of {known}, got {name!r}")
    return tuple(wanted)


# One function for every setting, so that settings that differ in numbers only compile once.
def _loss(weights, task):
    return task(weights)


@cache
def _referee(loss: Callable) -> Callable:
    """The compiled estimate of a gradient and its variance."""

    def judged(record: Method, weights: jax.Array, task: keep_up.KeepUp, key: jax.Array):
        found = estimate(loss, record)(weights, task, key=key)
        return found.grad, found.variance

    return jax.jit(judged)


def measure(
    setting: Setting, name: str, *, seed: int, replications: int, reference: Mapping[str, Any]
) -> dict[str, Any]:
    """One method at one setting: the setting, and the record of ``compare``."""
    truth = np.asarray(reference["gradient"])
    table = compare(
        _loss, jnp.array(keep_up.WEIGHTS), {name: configured(name, setting.sigma, setting.samples)},
        reference=jnp.asarray(truth, jnp.result_type(float)), key=jax.random.key(seed),
        args=(setting.task(),), replications=replications, chunk=1, jit=jax.jit,
    )  # fmt: skip
    return {**dataclasses.asdict(setting), **table.records()[0]}


def judged(record: Mapping[str, Any], reference: Mapping[str, Any]) -> dict[str, Any]:
    """The record, and what follows from it.

    ``relative_*`` are in units of the length of the reference gradient. ``verdict`` is "right"
    where the bias is within a tenth by all of its 95 % interval, to which two errors of the
    reference are added on either side; "wrong" where it is beyond by all of it; else "cannot
    tell". ``evaluations_to_tenth`` and ``seconds_to_tenth`` are what it takes to bring the standard
    deviation to a tenth by more or fewer samples, None where it is wrong. All three are None for a
    rank-shaped objective.
    """
    # A gradient of exactly 0, as of a loss that is flat there, leaves no unit to measure in.
    size = float(np.linalg.norm(reference["gradient"])) or math.nan
    shaped = record["objective"] == "rank-shaped"  # another objective: only its direction compares
    low = (record["bias_low"] - 2 * reference["error"]) / size
    high = (record["bias_high"] + 2 * reference["error"]) / size
    verdict = "right" if high <= 0.1 else "wrong" if low > 0.1 else "cannot tell"
    usable = not shaped and verdict != "wrong"
    estimates = max(record["variance"] / (0.1 * size) ** 2, 1 / record["samples"])
    return {
        **record,
        "reference_norm": size,
        "reference_error": reference["error"],
        "reference_evaluations": reference["evaluations"],
        "relative_bias": record["bias"] / size,
        "relative_deviation": record["variance"] ** 0.5 / size,
        "relative_bias_low": max(low, 0.0),
        "relative_bias_high": high,
        "verdict": None if shaped else verdict,
        "evaluations_to_tenth": record["evaluations"] * estimates if usable else None,
        "seconds_to_tenth": record["seconds"] * estimates if usable else None,
    }


def judge_of(name: str) -> str:
    """Who makes a method's reference, of values alone: never the method itself.

    >>> judge_of("pathwise"), judge_of("measure-valued")
    ('measure-valued', 'score-function')
    """
    return "score-function" if name == "measure-valued" else "measure-valued"


def reference(
    setting: Setting, judge: str, *, seed: int, samples: int, seconds: float = math.inf
) -> dict[str, Any]:
    """The gradient of the smoothed loss and its standard error, by a method of its own.

    In portions, until there are so many evaluations or so many seconds have passed; what it then
    rests on is told, and where its error is too large, so is that nothing can be told.
    """
    portion = min(samples, PORTION)
    record: Method = ScoreFunction(Gaussian(setting.sigma), samples=portion)
    if judge == "measure-valued":
        record = MeasureValued(setting.sigma, samples=max(2, portion // (2 * len(keep_up.WEIGHTS))))
    key = jax.random.fold_in(jax.random.key(seed), 1)
    found: list[tuple[np.ndarray, np.ndarray]] = []
    begun = time.monotonic()
    while len(found) * portion < samples and (not found or time.monotonic() - begun < seconds):
        own = jax.random.fold_in(key, len(found))
        one = _referee(_loss)(record, jnp.array(keep_up.WEIGHTS), setting.task(), own)
        found.append(jax.tree.map(np.asarray, one))
    gradients, variances = (np.stack(part) for part in zip(*found, strict=True))
    return {
        "gradient": gradients.mean(axis=0).tolist(),
        "error": float(np.sum(variances)) ** 0.5 / len(found),
        "evaluations": len(found) * portion,
    }


def _whole(key: str, record: object) -> bool:
    """Whether a stored record has what :func:`judged` asks of it."""
    if not isinstance(record, dict):
        return False
    if key.startswith("reference "):
        gradient, names = record.get("gradient"), ["error", "evaluations"]
        numbers = gradient if isinstance(gradient, list) and gradient else [None]
    else:
        names = ["bias", "bias_low", "bias_high", "variance", "samples", "evaluations", "seconds"]
        numbers = [] if isinstance(record.get("objective"), str) and record.get("samples") else [0j]
    numbers = [*numbers, *(record.get(name) for name in names)]
    return all(type(number) in (int, float) for number in numbers)


class Store:
    """Finished measurements in one JSON file, rewritten whole after each of them."""

    def __init__(self, path: Path):
        self.path = path
        self.done: dict[str, Any] = read_json(path) if path.exists() else {}
        for key, record in self.done.items():
            if not _whole(key, record):
                raise ValueError(
                    f"{path}: expected whole records, or no file, got {short(repr(record))} for "
                    f"{short(key)}"
                )

    def get(self, key: str, make: Callable[[], Any]) -> Any:
        """What is stored under ``key``, made and stored first if it is not there."""
        if key not in self.done:
            made = make()
            self.done[key] = made
            with replacing(self.path) as temporary:
                temporary.write_text(json.dumps(self.done, indent=1))
        return self.done[key]


def sweep(
    points: Sequence[Setting],
    methods: Sequence[str],
    store: Store,
    *,
    seed: int = 0,
    replications: int = 128,
    reference_samples: int = 65536,
    reference_seconds: float = math.inf,
) -> Iterator[dict[str, Any]]:
    """Measure every method at every setting, one record at a time; finished ones are reused.

    Args:
        points: of the comparison, see :func:`settings`.
        methods: names from the registry.
        store: where finished records are kept.
        seed: of every draw.
        replications: independent estimates a record rests on.
        reference_samples: evaluations that the reference gradient rests on.
        reference_seconds: after which it rests on those done by then.
    """
    precision = jnp.result_type(float).name
    most, seconds = reference_samples, reference_seconds
    for point in points:
        smooth = dataclasses.asdict(point) | {"samples": 0}  # whatever the samples
        for name in methods:
            judge = judge_of(name)
            marks = json.dumps([smooth, seed, most, seconds, precision, judge])
            truth = store.get(
                f"reference {marks}",
                partial(reference, point, judge, seed=seed, samples=most, seconds=seconds),
            )
            record = store.get(
                f"{name} × {point.samples}, {replications} times, {marks}",
                partial(
                    measure, point, name, seed=seed, replications=replications, reference=truth
                ),
            )
            yield judged(record, truth)
