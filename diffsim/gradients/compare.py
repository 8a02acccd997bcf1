"""Estimators side by side on one loss: bias, variance, error and cost, each with its interval."""

import functools
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import struct

from diffsim import _show
from diffsim._files import replacing, write_rows
from diffsim._intervals import Interval
from diffsim._types import Tree
from diffsim.gradients.base import Method, checked_key, posed, reduced
from diffsim.gradients.flat import flatten
from diffsim.gradients.registry import make

COLUMNS = ("bias", "variance", "mse", "cosine", "snr", "seconds")


@struct.dataclass
class Row:
    """One method. Bias, variance and mse are NaN for a rank-shaped objective: other units.

    Attributes:
        name, objective: of the method.
        evaluations: of the loss, for one estimate.
        bias: ‖E ĝ − reference‖, the part due to sampling taken off.
        variance: trace of the covariance of one estimate.
        mse: E‖ĝ − reference‖².
        cosine: mean cosine between ĝ and the reference.
        snr: ‖E ĝ‖²/variance.
        seconds: for one compiled estimate.
    """

    name: str
    objective: str
    evaluations: int
    bias: Interval
    variance: Interval
    mse: Interval
    cosine: Interval
    snr: Interval
    seconds: Interval


@struct.dataclass
class Comparison:
    """The table.

    Attributes:
        rows: one a method.
        replications: independent estimates each figure rests on.
        confidence: of the intervals.
        reference: the gradient compared with, flat.
        reference_error: root of the variance of the reference; 0 where it was given.
    """

    rows: tuple[Row, ...]
    replications: int
    confidence: float
    reference: np.ndarray
    reference_error: float

    def __repr__(self) -> str:
        names = ", ".join(row.name for row in self.rows)
        error = self.reference_error
        return _show.record("Comparison", rows=names, reference=self.reference, error=error)

    def _repr_html_(self) -> str:
        return _show.html_table(*self._told())

    def _told(self) -> tuple[str, tuple[str, ...], list[list[str]]]:
        """Title, headings and cells."""
        title = f"{self.replications} replications, {100 * self.confidence:g} % intervals"
        headings = ("method", "objective", "evaluations", *COLUMNS)
        cells = [
            [row.name, row.objective, str(row.evaluations)]
            + [str(getattr(row, column)) for column in COLUMNS]
            for row in self.rows
        ]
        return title, headings, cells

    def table(self) -> Any:
        """A rich Table."""
        from rich.table import Table

        title, headings, cells = self._told()
        table = Table(title=title)
        for heading in headings:
            table.add_column(heading, justify="left" if heading == "method" else "right")
        for row in cells:
            table.add_row(*row)
        return table

    def __str__(self) -> str:
        from rich.console import Console

        console = Console(width=200, color_system=None)
        with console.capture() as capture:
            console.print(self.table())
        return capture.get()

    def records(self) -> list[dict[str, Any]]:
        """One flat dict a method, keys such as ``bias``, ``bias_low``, ``bias_high``."""
        records = []
        for row in self.rows:
            record: dict[str, Any] = {
                "method": row.name,
                "objective": row.objective,
                "evaluations": row.evaluations,
            }
            for column in COLUMNS:
                figure = getattr(row, column)
                record[column] = figure.value
                record[f"{column}_low"], record[f"{column}_high"] = figure.low, figure.high
            records.append(record)
        return records

    def save(self, path: str | os.PathLike) -> None:
        """Write ``.csv`` or ``.json``, under a temporary name first.

        Raises:
            ValueError: another suffix.
        """
        target = Path(path)
        if target.suffix not in (".csv", ".json"):
            raise ValueError(f"path: expected a .csv or .json file, got {target.name!r}")
        records = self.records()
        if target.suffix == ".csv":
            write_rows(target, records)
            return
        finite = [
            {k: None if v != v or v in (np.inf, -np.inf) else v for k, v in r.items()}
            for r in records
        ]
        with replacing(target) as temporary:
            temporary.write_text(
                json.dumps({"replications": self.replications, "rows": finite}, indent=1)
            )


def compare(
    loss: Callable,
    x: Tree,
    methods: Mapping[str, Method] | Sequence[str],
    *,
    reference: Tree,
    key: jax.Array,
    replications: int = 256,
    confidence: float = 0.95,
    args: tuple = (),
    stochastic: bool = False,
    chunk: int | None = None,
    jit: Callable = jax.jit,
) -> Comparison:
    """Run every method many times at x and measure how far its estimates are from a reference.

    All methods get the same keys. Intervals are bootstrap percentiles over the replications
    (1,000 resamples); that of the time is the normal one over 7 runs.

    Args:
        loss: (tree, *args) → scalar (with ``key=`` if stochastic).
        x: tree of floats.
        methods: name → record, or names from the registry.
        reference: the true gradient as a tree like x, or a Method, averaged over 16 times
            ``replications`` of its estimates.
        key: used once.
        replications: estimates a method, at least 8.
        confidence: of the intervals, e.g. 0.95.
        args: passed to the loss. Calls with one loss and other args, or other numbers in a
            method, share what was compiled.
        stochastic: the loss takes a key.
        chunk: replications at once, None for all; 1 calls one compiled estimate in a Python loop
            and compiles nothing else, for losses that take long.
        jit: what compiles, such as :func:`jax.jit`.

    Raises:
        ValueError: too few replications for an interval, or no methods.
        FloatingPointError: estimates that are not finite.

    >>> x = jax.numpy.ones(2)
    >>> c = compare(lambda x: x @ x, x, ["pathwise", "spsa"], reference=2 * x,
    ...     key=jax.random.key(0), replications=16)
    >>> c.rows[0].evaluations, round(c.rows[0].cosine.value, 3)
    (1, 1.0)
    """
    if replications < 8:
        raise ValueError(f"replications: expected at least 8 for an interval, got {replications}")
    if not isinstance(methods, Mapping):
        methods = {name: make(name) for name in methods}
    if not methods:
        raise ValueError("methods: expected at least one, got none")
    key = checked_key(key, True, "compare")
    run_key, reference_key, bootstrap_key = jax.random.split(key, 3)
    keys = jax.random.split(run_key, replications)
    error = 0.0
    try:
        runner = _runner(loss, stochastic, chunk, jit)
    except TypeError:  # a loss that cannot be hashed is compiled anew
        runner = _runner.__wrapped__(loss, stochastic, chunk, jit)
    if isinstance(reference, Method):
        many = jax.random.split(reference_key, 16 * replications)
        rows, _, _ = runner("reference", reference, x, args, many)
        truth = rows.mean(axis=0)
        error = float(np.sqrt(rows.var(axis=0, ddof=1).sum() / len(rows)))
    else:
        truth = np.asarray(flatten("reference", reference)[0], np.float64)
    seed = np.asarray(jax.random.key_data(bootstrap_key)).tolist()
    table = []
    for name, record in methods.items():
        found, evaluations, seconds = runner(name, record, x, args, keys)
        if found.shape[1] != truth.size:
            raise ValueError(f"reference: expected {found.shape[1]} numbers, got {truth.size}")
        figures = _figures(found, truth, np.random.default_rng(seed), confidence)
        if record.objective == "rank-shaped":
            nothing = Interval(np.nan, np.nan, np.nan)
            figures.update(bias=nothing, variance=nothing, mse=nothing)
        table.append(
            Row(name, record.objective, evaluations, **figures, seconds=_timed(seconds, confidence))
        )
    return Comparison(tuple(table), replications, confidence, truth, error)


@functools.lru_cache(maxsize=8)
def _runner(loss, stochastic, chunk, jit) -> Callable:
    """What replicates a method: estimates (R, p), evaluations of one, and seconds of some."""
    counts: dict[Any, int] = {}

    def one(record, x, args, key):
        draws = record.draw(posed(loss, record, x, args, key, stochastic=stochastic))
        gradient = reduced(draws, masked=False)[1]
        counts[jax.tree.structure(record), gradient.size] = draws.evaluations
        return gradient

    def batch(record, x, args, keys):
        return jax.lax.map(
            lambda key: one(record, x, args, key), keys, batch_size=chunk or len(keys)
        )

    single, whole = jit(one), jit(batch)

    def replicate(name, record, x, args, keys):
        record.check()
        jax.block_until_ready(single(record, x, args, keys[0]))
        rows, seconds = [], []
        for key in keys if chunk == 1 else keys[:7]:
            begin = time.perf_counter()
            rows.append(jax.block_until_ready(single(record, x, args, key)))
            seconds.append(time.perf_counter() - begin)
        found = np.asarray(rows if chunk == 1 else whole(record, x, args, keys), np.float64)
        if not np.all(np.isfinite(found)):
            bad = int(np.sum(~np.isfinite(found).all(axis=1)))
            raise FloatingPointError(f"{name}: {bad} of {len(found)} estimates are not finite")
        evaluations = counts[jax.tree.structure(record), found.shape[1]]
        return found, evaluations, np.array(seconds)

    return replicate


def _figures(rows, truth, generator, confidence) -> dict[str, Interval]:
    """Bias, variance, mse, cosine and SNR with bootstrap percentiles."""
    count = len(rows)
    weights = generator.multinomial(count, np.full(count, 1 / count), 1000) / count
    # Centred, so that squares do not cancel and equal rows give exactly nothing.
    centre = rows[0] + (rows - rows[0]).mean(axis=0)
    offsets = rows - centre
    lengths = np.linalg.norm(rows, axis=1) * np.linalg.norm(truth)
    cosines = np.divide(rows @ truth, lengths, out=np.zeros(count), where=lengths > 0)

    def statistics(w, resampled):
        shift = w @ offsets
        variance = np.maximum(w @ np.sum(offsets**2, axis=1) - np.sum(shift**2, axis=1), 0)
        variance = variance * count / (count - 1)
        extra = (2 if resampled else 1) * variance / count  # sampling's own share
        mean = centre + shift
        bias = np.sqrt(np.maximum(np.sum((mean - truth) ** 2, axis=1) - extra, 0))
        power = np.maximum(np.sum(mean**2, axis=1) - extra, 0)
        with np.errstate(divide="ignore", invalid="ignore"):
            snr = power / variance
        mse = w @ np.sum((rows - truth) ** 2, axis=1)
        return {"bias": bias, "variance": variance, "mse": mse, "cosine": w @ cosines, "snr": snr}

    tails = [50 - 50 * confidence, 50 + 50 * confidence]
    point = statistics(np.full((1, count), 1 / count), False)
    spread = statistics(weights, True)
    figures = {}
    for name, values in spread.items():
        steady = np.all(values == values[0])  # percentiles of infinities are not numbers
        low, high = (values[0], values[0]) if steady else np.percentile(values, tails)
        figures[name] = Interval(float(point[name][0]), float(low), float(high))
    return figures


def _timed(seconds: np.ndarray, confidence: float) -> Interval:
    z = float(jax.scipy.special.ndtri(0.5 + 0.5 * confidence))
    error = float(seconds.std(ddof=1)) / len(seconds) ** 0.5
    found = Interval.normal(float(seconds.mean()), error, z)
    return found._replace(low=max(0.0, found.low))
