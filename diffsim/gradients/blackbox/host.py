"""The simulator on the host: NumPy in, NumPy out, every failure accounted for.

Nothing here may wait for JAX: it also runs inside callbacks, on a thread that JAX waits for.
"""

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

import jax
import numpy as np
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from diffsim.gradients.base import check_count
from diffsim.gradients.blackbox.outcome import Real, checked, describe, finite_loss
from diffsim.gradients.blackbox.pool import Failure, Pool


@dataclass(frozen=True)
class Penalty:
    """The loss that a failed sample is given."""

    value: float

    def __post_init__(self):
        if not np.isfinite(self.value):
            raise ValueError(f"Penalty: expected a finite loss, got {self.value!r}")


@dataclass(frozen=True)
class Statistics:
    """What has been asked of a simulator so far.

    Attributes:
        batches: times it was given something to do.
        samples: inputs asked for.
        calls: calls of the simulator; a batched one takes many samples a call.
        cached: samples answered from the cache.
        failures: samples without a finite loss.
        timeouts: calls stopped because they took too long.
        replaced: workers started in the place of one that died or hung.
        seconds: wall time of the batches, s.
    """

    batches: int = 0
    samples: int = 0
    calls: int = 0
    cached: int = 0
    failures: int = 0
    timeouts: int = 0
    replaced: int = 0
    seconds: float = 0.0


class Host:
    """A simulator with its workers, cache, policy and counts; see :class:`BlackBox`."""

    def __init__(
        self, simulator, *, output, loss, batched, workers, timeout, on_error, cache, progress
    ):
        if not callable(simulator):
            raise TypeError(f"simulator: expected a callable, got {simulator!r}")
        for name, count in {"workers": workers, "cache": cache}.items():
            check_count(name, count, 0)
        if timeout is not None and not timeout > 0:
            raise ValueError(f"timeout: expected > 0 s or None, got {timeout!r}")
        if timeout is not None and not workers:
            raise ValueError("timeout: expected workers >= 1 with it, as only they can be stopped")
        if on_error not in ("raise", "mask") and not isinstance(on_error, Penalty):
            raise ValueError(
                f"on_error: expected 'raise', 'mask' or Penalty(value), got {on_error!r}"
            )
        self.simulator, self.loss, self.batched = simulator, loss, batched
        self.output = Real() if output is None else output
        if output is not None and loss is None and jax.tree.leaves(output)[0].shape != ():
            raise ValueError(f"loss: expected one for an output that is no scalar, {output!r}")
        self.timeout, self.on_error, self.progress = timeout, on_error, progress
        self.pool = Pool(simulator, workers) if workers else None
        self.error: BaseException | None = None  # the last one raised, for those who lost it
        self._cache: OrderedDict[bytes, Any] = OrderedDict()
        self._cache_size, self._counts = cache, Statistics()

    @property
    def statistics(self) -> Statistics:
        pool = self.pool
        if pool is None:
            return self._counts
        return _added(self._counts, timeouts=pool.timeouts, replaced=pool.replaced)

    def losses(self, arguments: tuple, dtype: Any) -> np.ndarray:
        """The loss of each row of the arguments' leaves, (n,): NaN for one that is masked.

        Raises:
            FloatingPointError: every row failed, or the arguments are not finite.
            Exception: with on_error="raise", the first failure, told its input.
        """
        try:
            return self._losses(arguments, dtype)
        except BaseException as error:
            self.error = error
            raise

    def _losses(self, arguments, dtype):
        for leaf in jax.tree.leaves(arguments[0]):
            if not np.all(np.isfinite(leaf)):
                raise FloatingPointError("x: expected finite inputs for the simulator, got NaN")
        rows, results = self.results(arguments)
        losses = np.full(len(rows), np.nan)
        failures: list[tuple[int, BaseException]] = []
        for index, result in enumerate(results):
            try:
                if isinstance(result, Failure):
                    raise result.error
                losses[index] = finite_loss(self.loss(result) if self.loss else result)
            except Exception as error:
                if not isinstance(result, Failure) and not isinstance(error, FloatingPointError):
                    raise _told(error, rows[index]) from None
                failures.append((index, error))
        self._counts = _added(self._counts, failures=len(failures))
        if failures:
            first = _told(failures[0][1], rows[failures[0][0]])
            if self.on_error == "raise":
                raise first
            if len(failures) == len(rows):
                raise FloatingPointError(
                    f"simulator: all {len(rows)} samples failed, so there is no gradient; the "
                    f"first by {type(first).__name__}: {first}"
                ) from first
            if isinstance(self.on_error, Penalty):
                losses[[index for index, _ in failures]] = self.on_error.value
        return losses.astype(dtype)

    def results(self, arguments: tuple) -> tuple[list[tuple], list[Any]]:
        """The rows of the arguments, and the checked result, or a Failure, of each."""
        leaves, structure = jax.tree.flatten(arguments)
        # Copied: the simulator may keep or change what it is given.
        leaves = [np.array(leaf) for leaf in leaves]
        rows = [jax.tree.unflatten(structure, row) for row in zip(*leaves)]
        started = time.perf_counter()
        keys = [b"".join(np.asarray(leaf).tobytes() for leaf in row) for row in zip(*leaves)]
        found = {i: self._cache[key] for i, key in enumerate(keys) if key in self._cache}
        missing = [i for i in range(len(rows)) if i not in found]
        with self._bar(len(missing)) as advance:
            pieces = self._pieces(missing)
            outcomes = self._simulate(pieces, leaves, structure, rows, advance)
        for index, result in outcomes.items():
            if self._cache_size and not isinstance(result, Failure):
                self._cache[keys[index]] = result
                if len(self._cache) > self._cache_size:
                    self._cache.popitem(last=False)
        self._counts = _added(
            self._counts, batches=1, samples=len(rows), cached=len(found),
            seconds=time.perf_counter() - started,
        )  # fmt: skip
        outcomes |= found
        return rows, [outcomes[index] for index in range(len(rows))]

    def _pieces(self, missing: list[int]) -> list[list[int]]:
        """Which rows go into which call."""
        if not self.batched:
            return [[index] for index in missing]
        parts = np.array_split(
            np.asarray(missing, int), max(1, self.pool.count if self.pool else 1)
        )
        return [part.tolist() for part in parts if len(part)]

    def _simulate(self, pieces, leaves, structure, rows, advance) -> dict[int, Any]:
        """Results by row; a batched call that failed is halved until the culprits stand alone."""
        if self.batched:
            calls = [jax.tree.unflatten(structure, [leaf[p] for leaf in leaves]) for p in pieces]
        else:
            calls = [rows[piece[0]] for piece in pieces]

        def each(index, outcome):
            alone = len(pieces[index]) == 1
            if isinstance(outcome, Failure) and alone and self.on_error == "raise":
                raise _told(outcome.error, rows[pieces[index][0]])
            if not isinstance(outcome, Failure) or alone:
                advance(len(pieces[index]))

        self._counts = _added(self._counts, calls=len(calls))
        results: dict[int, Any] = {}
        halves = []
        for piece, outcome in zip(pieces, self._run(calls, each)):
            if isinstance(outcome, Failure) and len(piece) > 1:
                halves += [piece[: len(piece) // 2], piece[len(piece) // 2 :]]
            elif isinstance(outcome, Failure):
                results[piece[0]] = outcome
            else:
                results |= self._split(outcome, piece, rows)
        if halves:
            results |= self._simulate(halves, leaves, structure, rows, advance)
        return results

    def _run(self, calls: Sequence[tuple], each: Callable) -> list[Any]:
        if self.pool is not None:
            return self.pool.run(calls, self.timeout, each)
        outcomes = []
        for index, arguments in enumerate(calls):
            try:
                outcome = self.simulator(*arguments)
            except Exception as error:
                outcome = Failure(error)
            each(index, outcome)
            outcomes.append(outcome)
        return outcomes

    def _split(self, outcome: Any, piece: list[int], rows: list[tuple]) -> dict[int, Any]:
        lead = (len(piece),) if self.batched else ()
        try:
            result = checked(outcome, self.output, lead)
        except (TypeError, ValueError) as error:
            raise _told(error, rows[piece[0]]) from None
        if not self.batched:
            return {piece[0]: result}
        return {row: jax.tree.map(itemgetter(i), result) for i, row in enumerate(piece)}

    @contextmanager
    def _bar(self, total: int):
        if not self.progress or not total:
            yield lambda count: None
            return
        columns = TextColumn("simulating"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
        with Progress(*columns, transient=True) as bar:
            job = bar.add_task("simulating", total=total)
            yield lambda count: bar.advance(job, count)


def _told(error: BaseException, row: tuple) -> BaseException:
    """The error with the input that caused it as a note, once."""
    note = f"The simulator's input: {describe(row)}"
    if note not in getattr(error, "__notes__", ()):
        error.add_note(note)
    return error


def _added(counts: Statistics, **more: float) -> Statistics:
    return Statistics(**{k: v + more.get(k, 0) for k, v in vars(counts).items()})
