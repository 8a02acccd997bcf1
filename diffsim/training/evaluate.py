"""How well a policy plays on fresh serves, with 95 % intervals."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from diffsim._intervals import Interval, mean_interval, wilson
from diffsim._text import short
from diffsim._types import Tree

FRESH = 1_000_003  # added to a run's seed for the serves that judge it, never those of training


def in_chunks(play: Callable[[Tree], Tree], rows: Tree, size: int) -> Tree:
    """``play(rows)`` on the host, played in chunks of one size: any number of rows compiles once.

    >>> import jax.numpy as jnp
    >>> in_chunks(jnp.sqrt, jnp.array([1.0, 4.0, 9.0]), 2).tolist()
    [1.0, 2.0, 3.0]
    """
    count = len(jax.tree.leaves(rows)[0])
    numbers = np.arange(-(-count // size) * size) % count  # the last chunk filled up
    parts = [jax.device_get(play(_rows(rows, part))) for part in numbers.reshape(-1, size)]
    return jax.tree.map(lambda *parts: np.concatenate(parts)[:count], *parts)


@jax.jit
def _rows(tree: Tree, numbers: np.ndarray) -> Tree:
    return jax.tree.map(lambda leaf: leaf[numbers], tree)


def as_measures(stored: Any, path: Path) -> dict[str, Interval]:
    """Measures as the JSON file at a path holds them.

    Raises:
        ValueError: it holds something else.
    """
    try:
        return {name: Interval(*map(float, numbers)) for name, numbers in stored.items()}
    except (AttributeError, TypeError, ValueError):
        raise ValueError(
            f"{path}: expected for each measure a number and its interval, got {short(stored)}"
        ) from None


def evaluate(
    player: Any, policy: Callable, key: jax.Array, count: int = 1000
) -> dict[str, Interval]:
    """Play ``count`` fresh serves in the real world, see :func:`summary`.

    Args:
        player: of one trajectory a serve, :class:`~diffsim.training.player.Traced` or ``Hosted``.
        policy: observation to trajectory weights.
        count: serves.
    """
    return summary(player.play(policy, key, count))


# A distance is told in cm.
_CENTIMETRES = {"landing_error": "landing_error_cm"}


def summary(outcome: dict[str, np.ndarray]) -> dict[str, Interval]:
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
            means["worst_load"] = Interval(*[float(values.max())] * 3)
        elif values.ndim == 1:
            told = values[~np.isnan(values)]
            scale = 100 if name in _CENTIMETRES else 1
            means[_CENTIMETRES.get(name, name)] = mean_interval(scale * told)
    return rates | means


# What measures are called in a table, in its order; others follow under their own names.
_LABELS = {
    "hit_rate": "hit rate",
    "legal_rate": "legal landings",
    "landing_error_cm": "landing error",
    "flight_time": "flight of the return",
    "feasible_rate": "swings within limits",
    "worst_load": "worst share of a limit",
    "sound_rate": "sound simulations",
    "survival_rate": "lasted to the end",
    "seconds": "time up, s",
    "return": "return",
    "height": "sum of heights, m",
    "landing_error": "landing error, m",
}
# Unit and digits of means over legal landings.
_OF_LEGAL: dict[str, tuple[str, int]] = {"landing_error_cm": ("cm", 1), "flight_time": ("s", 2)}


def rows(measures: dict[str, Interval]) -> list[tuple[str, str]]:
    """The measures as text, for a table."""
    order = [name for name in _LABELS if name in measures]
    order += [name for name in measures if name not in _LABELS]
    return [
        (_LABELS.get(name, name.replace("_", " ")), _told(name, measures[name])) for name in order
    ]


def _told(name: str, measure: Interval) -> str:
    if name.endswith("_rate"):
        return _percent(measure)
    if name in _OF_LEGAL:
        return of_legal(measure, *_OF_LEGAL[name])
    if name == "worst_load":
        return f"{100 * measure.value:.0f} %"
    return str(measure)


def _percent(measure: Interval) -> str:
    value, low, high = (100 * number for number in measure)
    return f"{value:.1f} % [{low:.1f}, {high:.1f}]"


def of_legal(measure: Interval, unit: str, digits: int = 1) -> str:
    """A mean over legal landings as text."""
    if math.isnan(measure.value):
        return "no legal landing"
    value, low, high = (f"{number:.{digits}f}" for number in measure)
    return f"{value} {unit} [{low}, {high}]"
