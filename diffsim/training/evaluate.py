"""How well a policy plays on fresh serves, with 95 % intervals."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from diffsim._text import short

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
    player: Any, policy: Callable, key: jax.Array, count: int = 1000
) -> dict[str, Measure]:
    """Play ``count`` fresh serves in the real world, see :func:`summary`.

    Args:
        player: of one trajectory a serve, :class:`~diffsim.training.player.Traced` or ``Hosted``.
        policy: observation to trajectory weights.
        count: serves.
    """
    return summary(player.play(policy, key, count))


# A distance is told in cm.
_CENTIMETRES = {"landing_error": "landing_error_cm"}


def summary(outcome: dict[str, np.ndarray]) -> dict[str, Measure]:
    """A task's measures, one row a serve, with 95 % intervals.

    Of what happens or not, ``hit``, the rate among all serves, ``hit_rate``, with its Wilson
    interval (E. B. Wilson, J. Am. Stat. Assoc. 22 (1927) 209); of a number its mean where it is
    not NaN, with a normal one, NaN if there is none; of a load the worst, as these rows have it
    (no sample bounds that from above). What is no number is left out.

    >>> legal, error = np.array([True, False]), np.array([0.5, np.nan])
    >>> found = summary({"legal": legal, "landing_error": error})
    >>> found["legal_rate"].value, found["landing_error_cm"].value
    (0.5, 50.0)
    """
    rates, means = {}, {}
    for name, values in outcome.items():
        if values.ndim == 1 and values.dtype == bool:
            rates[f"{name}_rate"] = wilson(int(values.sum()), len(values))
        elif name == "load":
            means["worst_load"] = Measure(*[float(values.max())] * 3)
        elif values.ndim == 1:
            told = values[~np.isnan(values)]
            scale = 100 if name in _CENTIMETRES else 1
            means[_CENTIMETRES.get(name, name)] = mean_interval(scale * told)
    return rates | means


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


# What measures are called in a table, in its order; others follow under their own names.
_LABELS = {
    "hit_rate": "hit rate",
    "legal_rate": "legal landings",
    "landing_error_cm": "landing error",
    "flight_time": "flight of the return",
    "feasible_rate": "swings within limits",
    "worst_load": "worst share of a limit",
    "sound_rate": "sound simulations",
}
# Unit and digits of means over legal landings.
_OF_LEGAL: dict[str, tuple[str, int]] = {"landing_error_cm": ("cm", 1), "flight_time": ("s", 2)}


def rows(measures: dict[str, Measure]) -> list[tuple[str, str]]:
    """The measures as text, for a table."""
    order = [name for name in _LABELS if name in measures]
    order += [name for name in measures if name not in _LABELS]
    return [
        (_LABELS.get(name, name.replace("_", " ")), _told(name, measures[name])) for name in order
    ]


def _told(name: str, measure: Measure) -> str:
    if name.endswith("_rate"):
        return _percent(measure)
    if name in _OF_LEGAL:
        return of_legal(measure, *_OF_LEGAL[name])
    if name == "worst_load":
        return f"{100 * measure.value:.0f} %"
    return "{:.3g} [{:.3g}, {:.3g}]".format(*measure)


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
