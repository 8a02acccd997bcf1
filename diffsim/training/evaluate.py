"""How well a policy plays on fresh serves, with 95 % intervals."""

import math
import operator
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from diffsim._text import short
from diffsim.tasks import HostTask, Task
from diffsim.training import host

FRESH = 1_000_003  # added to a run's seed for the serves that judge it, never those of training


class Measure(NamedTuple):
    """A number and the ends of its 95 % interval."""

    value: float
    low: float
    high: float


def as_measures(stored: Any, path: Path) -> dict[str, Measure]:
    """Measures as the JSON file at a path holds them.

    Raises:
        ValueError: it holds something else.
    """
    try:
        return {name: Measure(*map(float, numbers)) for name, numbers in stored.items()}
    except (AttributeError, TypeError, ValueError):
        raise ValueError(
            f"{path}: expected for each measure a number and its interval, got {short(stored)}"
        ) from None


def evaluate(
    task: Task | HostTask, policy: Any, key: jax.Array, count: int = 1000
) -> dict[str, Measure]:
    """Play ``count`` serves in the real world.

    A serve that cannot be hit counts as not hit. The rates have Wilson intervals (E. B. Wilson,
    J. Am. Stat. Assoc. 22 (1927) 209), the mean landing error, over legal landings, a normal one.

    Args:
        policy: observation to trajectory weights.
        count: serves.

    Returns:
        ``hit_rate``, ``legal_rate`` (of all serves) and ``landing_error_cm`` (NaN without any);
        ``flight_time`` of the legal returns, s, where the task says so;
        ``sound_rate``, of the serves for which the simulation vouches, where it says so;
        ``feasible_rate``, of the swings within the robot's limits, and ``worst_load``, the largest
        share of a limit that one took (no sample bounds that from above), where it says so.
    """
    return summary(play(task, policy, key, count))


def play(
    task: Task | HostTask, policy: Any, key: jax.Array, count: int = 1000
) -> dict[str, np.ndarray]:
    """The task's measures of each of ``count`` serves: see :meth:`Task.measures`."""
    starts = jax.vmap(task.sample)(jax.random.split(key, count))
    weights = jax.vmap(lambda start: policy(task.observe(start)))(starts)
    return outcomes(task, weights, starts)


def summary(outcome: dict[str, np.ndarray]) -> dict[str, Measure]:
    """What :func:`evaluate` returns, of measures played.

    >>> yes, load = np.ones(2, bool), np.array([0.5, 1.2])
    >>> played = {"hit": yes, "legal": yes, "landing_error": 0.03 * yes, "load": load}
    >>> found = summary(played)
    >>> found["feasible_rate"].value, found["worst_load"]
    (0.5, Measure(value=1.2, low=1.2, high=inf))
    """
    errors, count = 100 * outcome["landing_error"][outcome["legal"]], len(outcome["hit"])
    found = {
        "hit_rate": wilson(int(outcome["hit"].sum()), count),
        "legal_rate": wilson(int(outcome["legal"].sum()), count),
        "landing_error_cm": mean_interval(errors),
    }
    if "load" in outcome:
        worst = float(outcome["load"].max())
        found["feasible_rate"] = wilson(int((outcome["load"] <= 1).sum()), count)
        found["worst_load"] = Measure(worst, worst, math.inf)
    if "flown" in outcome:
        found["flight_time"] = mean_interval(outcome["flown"][outcome["legal"]])
    if "sound" in outcome:
        found["sound_rate"] = wilson(int(outcome["sound"].sum()), count)
    return found


_CHUNK = 128  # rows played by one call, so that any number of them compiles once


_players: dict[int, tuple[Task, Callable]] = {}


def _player(task: Any) -> Callable:
    """The compiled measures of a batch, one for each task; its settings are constants in it."""
    if id(task) not in _players:  # the task is kept with its id, so that the id stays its own
        _players[id(task)] = task, jax.jit(jax.vmap(task.measures))
    return _players[id(task)][1]


def outcomes(task: Task | HostTask, weights: jax.Array, starts: Any) -> dict[str, np.ndarray]:
    """The task's measures of each row, on the host."""
    if host.is_host(task):
        return host.results(task, weights, starts, real=True)
    count = weights.shape[0]
    rows = np.arange(-(-count // _CHUNK) * _CHUNK) % count  # the last chunk filled up
    play, chunks = _player(task), []
    for chunk in rows.reshape(-1, _CHUNK):
        part = jax.tree.map(operator.itemgetter(chunk), (weights, starts))
        chunks.append(jax.device_get(play(*part)))
    return jax.tree.map(lambda *parts: np.concatenate(parts)[:count], *chunks)


def wilson(successes: int, count: int, z: float = 1.959964) -> Measure:
    """A rate and its Wilson score interval.

    >>> tuple(round(x, 3) for x in wilson(95, 100))
    (0.95, 0.888, 0.978)
    """
    rate = successes / count
    middle = (rate + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z / (1 + z**2 / count) * math.sqrt(rate * (1 - rate) / count + z**2 / (4 * count**2))
    return Measure(rate, max(middle - half, 0.0), min(middle + half, 1.0))


def mean_interval(values: np.ndarray, z: float = 1.959964) -> Measure:
    """A mean and its normal interval; NaN without values.

    >>> mean_interval(np.array([1.0, 1.0]))
    Measure(value=1.0, low=1.0, high=1.0)
    """
    if len(values) == 0:
        return Measure(math.nan, math.nan, math.nan)
    mean = float(np.mean(values))
    half = (
        z * float(np.std(values, ddof=1)) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    )
    return Measure(mean, mean - half, mean + half)


def rows(measures: dict[str, Measure]) -> list[tuple[str, str]]:
    """The measures as text, for a table."""
    told = [
        ("hit rate", _percent(measures["hit_rate"])),
        ("legal landings", _percent(measures["legal_rate"])),
        ("landing error", of_legal(measures["landing_error_cm"], "cm")),
    ]
    if "flight_time" in measures:
        told.append(("flight of the return", of_legal(measures["flight_time"], "s", 2)))
    if "feasible_rate" in measures:
        told += [
            ("within limits", _percent(measures["feasible_rate"])),
            ("worst share of a limit", f"{100 * measures['worst_load'].value:.0f} %"),
        ]
    if "sound_rate" in measures:
        told.append(("sound simulations", _percent(measures["sound_rate"])))
    return told


def _percent(measure: Measure) -> str:
    value, low, high = (100 * number for number in measure)
    return f"{value:.1f} % [{low:.1f}, {high:.1f}]"


def of_legal(measure: Measure, unit: str, digits: int = 1) -> str:
    """A mean over legal landings as text."""
    if math.isnan(measure.value):
        return "no legal landing"
    value, low, high = (f"{number:.{digits}f}" for number in measure)
    return f"{value} {unit} [{low}, {high}]"


def student_interval(values: Sequence[float] | np.ndarray) -> Measure:
    """A mean and its 95 % interval by Student's t, for few values; NaN from a single one.

    >>> [round(x, 2) for x in student_interval([1.0, 2.0, 3.0])]
    [2.0, -0.48, 4.48]
    """
    from scipy.stats import t

    mean, count = float(np.mean(values)), len(values)
    if count < 2:
        return Measure(mean, math.nan, math.nan)
    half = float(t.ppf(0.975, count - 1)) * float(np.std(values, ddof=1)) / count**0.5
    return Measure(mean, mean - half, mean + half)
