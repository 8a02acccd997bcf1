"""How every study measures and tells: calls in turns, ratios, one table, JSON and CSV, figures."""

import dataclasses
import functools
import inspect
import json
import math
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich.console import Console
from rich.table import Column, Table

from diffsim._files import replacing, writable, write_rows
from diffsim.report import progress

Row = Mapping[str, Any]  # what is measured by name; the first entry says of what
Found = dict[str, list[dict[str, Any]]]  # tables by their titles


def timed(
    call: Callable[[], Any], clock: Callable[[], float] = time.perf_counter, warm: bool = False
) -> Callable[[], float]:
    """Seconds that a call takes until its arrays are there, after an untimed one if ``warm``."""

    def seconds() -> float:
        if warm:
            jax.block_until_ready(call())
        start = clock()
        jax.block_until_ready(call())
        return clock() - start

    return seconds


def turns(
    calls: Mapping[str, Callable[[], Any]], rounds: Iterable, seed: int | None = None
) -> dict[str, np.ndarray]:
    """What each call gives in each round, (rounds, …).

    The calls take turns, so that what else the machine does falls on all alike; in a random order
    where ``seed`` is given.

    >>> turns({"a": lambda: 1.0, "b": lambda: 2.0}, range(3))["b"].tolist()
    [2.0, 2.0, 2.0]
    """
    rng = None if seed is None else np.random.default_rng(seed)
    found: dict[str, list] = {name: [] for name in calls}
    for _ in rounds:
        for name in list(calls) if rng is None else rng.permutation(list(calls)):
            found[name].append(calls[name]())
    return {name: np.array(values) for name, values in found.items()}


def medians(
    calls: Mapping[str, Callable[[], Any]], rounds: int, seed: int | None = None, **how: Any
) -> dict[str, float]:
    """Median seconds of each call, taken in :func:`turns`; ``how`` as of :func:`timed`."""
    seconds = turns({name: timed(f, **how) for name, f in calls.items()}, range(rounds), seed)
    return {name: float(np.median(values)) for name, values in seconds.items()}


def least(calls: Mapping[str, Callable[[], Any]], rounds: int, **how: Any) -> dict[str, float]:
    """Least seconds of each call, as of :func:`medians`: other work on the machine only adds."""
    seconds = turns({name: timed(f, **how) for name, f in calls.items()}, range(rounds))
    return {name: float(values.min()) for name, values in seconds.items()}


def ratios(values: Mapping[str, float], base: str) -> dict[str, float]:
    """All values over that of ``base``.

    >>> ratios({"a": 2.0, "b": 3.0}, "a")
    {'a': 1.0, 'b': 1.5}
    """
    return {name: value / values[base] for name, value in values.items()}


def show(title: str, rows: Iterable[Row], console: Console | None = None) -> Found:
    """Print rows as a table, made while one waits; give them back under their title.

    A column stands for each name; numbers have three digits, and what is None or NaN is a dash.
    """
    console = wide(console or Console())
    done: list[dict[str, Any]] = []
    with progress.waiting(title) as tell:
        for row in rows:
            done.append(plain(row))
            tell(f"{title}: {len(done)} rows")
    columns = list(dict.fromkeys(name for row in done for name in row))
    heads = (Column(name, justify="right" if i else "left") for i, name in enumerate(columns))
    table = Table(*heads, title=title, title_justify="left", box=None)
    for row in done:
        table.add_row(*(told(row.get(name)) for name in columns))
    console.print(table, highlight=False, markup=False)
    return {title: done}


def checking(call: Callable[..., Any]) -> Callable[..., Any]:
    """The call, which begins when its counts are positive and its files can be written."""

    @functools.wraps(call)
    def checked(*args: Any, **flags: Any) -> Any:
        for name, value in inspect.signature(call).bind(*args, **flags).arguments.items():
            _check(name, value)
        return call(*args, **flags)

    return checked


def _check(name: str, value: Any) -> None:
    if dataclasses.is_dataclass(value):
        for part, own in vars(value).items():
            _check(part, own)
    if type(value) is tuple:
        for own in value:
            _check(name, own)
    if type(value) is int and name != "seed" and value < 1:
        raise ValueError(f"{name}: expected at least 1, got {value}")
    if isinstance(value, Path) and value.suffix:
        writable(value)


def wide(console: Console) -> Console:
    """The console, as wide as a table is where it writes to a file."""
    if not console.is_terminal:
        console.width = max(console.width, 160)
    return console


def told(value: Any) -> str:
    """A cell of a table.

    >>> [told(x) for x in (0.012345, None, "dense", 12, (1.0, 0.5))]
    ['0.0123', '–', 'dense', '12', '1 [0.5]']
    """
    if isinstance(value, tuple | list):
        first, *rest = map(told, value)
        return f"{first} [{', '.join(rest)}]"
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def plain(value: Any) -> Any:
    """The same in Python's own kinds, which JSON has; None for what is no finite number.

    >>> plain({"a": np.float32(0.5), "b": [np.inf, (1, "x")]})
    {'a': 0.5, 'b': [None, [1, 'x']]}
    """
    if isinstance(value, Mapping):
        return {str(name): plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    if isinstance(value, np.generic | np.ndarray | jax.Array):
        return plain(np.asarray(value).tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value


def save(path: Path, found: Any) -> Path:
    """Write what was found as JSON, or as CSV where the name ends so and it is rows."""
    if path.suffix == ".csv":
        write_rows(path, found)
        return path
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(plain(found), indent=1))
    return path
