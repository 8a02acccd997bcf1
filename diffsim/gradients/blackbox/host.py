"""The simulator on the host: NumPy in, NumPy out, every failure accounted for.

Nothing here may wait for JAX: it also runs inside callbacks, on a thread that JAX waits for.
"""

import operator
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import jax
import numpy as np
from jax.typing import DTypeLike

from diffsim._types import Tree
from diffsim.gradients.base import check_count
from diffsim.gradients.blackbox.outcome import Real, checked, describe, real
from diffsim.gradients.blackbox.pool import INF, Failure, Pool
from diffsim.gradients.blackbox.worker import called


@dataclass(frozen=True)
class Penalty:
    """The loss that a failed sample is given."""

    value: float

    def __post_init__(self):
        if not np.isfinite(real("Penalty", self.value)):
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
        replaced: workers started in the place of one that died, hung or came to a limit.
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
    """A simulator with its workers, cache, policy and counts.

    See :class:`~diffsim.gradients.BlackBox`.
    """

    def __init__(
        self,
        simulator,
        *,
        output,
        loss,
        batched,
        workers,
        timeout,
        most_calls,
        most_memory,
        on_error,
        cache,
        progress,
    ):
        if not callable(simulator):
            raise TypeError(f"simulator: expected a callable, got {simulator!r}")
        for name, count in {"workers": workers, "cache": cache}.items():
            check_count(name, count, 0)
        limits = {"timeout": timeout, "most_calls": most_calls, "most_memory": most_memory}
        for name, limit in limits.items():
            if limit is not None and not limit > 0:
                raise ValueError(f"{name}: expected > 0 or None, got {limit!r}")
            if limit is not None and not workers:
                raise ValueError(
                    f"{name}: expected workers >= 1 with it, as only they can be stopped"
                )
        if on_error not in ("raise", "mask") and not isinstance(on_error, Penalty):
            raise ValueError(
                f"on_error: expected 'raise', 'mask' or Penalty(value), got {on_error!r}"
            )
        self.simulator, self.loss, self.batched = simulator, loss, batched
        self.output = Real() if output is None else output
        if loss is None and not (
            jax.tree_util.all_leaves([self.output]) and self.output.shape == ()
        ):
            raise ValueError(f"loss: expected one for an output that is no scalar, {output!r}")
        self.timeout, self.on_error, self.progress = timeout, on_error, progress
        most = most_calls or INF, most_memory or INF
        self.pool = Pool(simulator, workers, *most) if workers else None
        self.error: BaseException | None = None  # the last one raised, for those who lost it
        self._cache: OrderedDict[bytes, Tree] = OrderedDict()
        self._cache_size, self._counts = cache, Statistics()

    @property
    def statistics(self) -> Statistics:
        pool = self.pool
        if pool is None:
            return self._counts
        return _added(self._counts, timeouts=pool.timeouts, replaced=pool.replaced)

    def losses(self, arguments: tuple, dtype: DTypeLike) -> np.ndarray:
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
            bad = leaf[~np.isfinite(leaf)]
            if bad.size:
                raise FloatingPointError(f"x: expected finite simulator inputs, got {bad[0]}")
        found, failures = self.results(arguments)
        count = len(jax.tree.leaves(arguments)[0])
        losses = np.array(found, float) if self.loss is None else np.zeros(count)
        if self.loss is not None:
            for index in range(count):
                if index not in failures:
                    try:
                        losses[index] = real("loss", called(self.loss, (_row(found, index),)))
                    except Exception as error:
                        raise _told(error, _row(arguments, index)) from None
        dtype = np.dtype(dtype)
        penalty = self.on_error.value if isinstance(self.on_error, Penalty) else np.nan
        with np.errstate(over="ignore"):
            cast = losses.astype(dtype)
            if np.isinf(np.asarray(penalty).astype(dtype)):
                raise ValueError(f"Penalty: expected a loss finite in {dtype}, got {penalty}")
        for index in np.flatnonzero(~np.isfinite(cast)).tolist():
            beyond = f" in {dtype}" if np.isfinite(losses[index]) else ""
            wrong = f"simulator: expected a finite loss{beyond}, got {losses[index]}"
            failures.setdefault(index, FloatingPointError(wrong))
        self._counts = _added(self._counts, failures=len(failures))
        if failures:
            index, first = min(failures.items())
            first = _told(first, _row(arguments, index))
            if self.on_error == "raise":
                raise first
            if len(failures) == count:
                raise FloatingPointError(
                    f"simulator: all {count} samples failed, so there is no gradient; the "
                    f"first by {type(first).__name__}: {first}"
                ) from first
            cast[list(failures)] = penalty
        return cast

    def results(self, arguments: tuple) -> tuple[Tree, dict[int, BaseException]]:
        """The checked result of each row, leaves (n, ...), and the errors of those that failed."""
        arguments = jax.tree.map(np.array, arguments)  # copied: simulators may keep or change it
        leaves = jax.tree.leaves(arguments)
        count, started = len(leaves[0]), time.perf_counter()
        found = jax.tree.map(
            lambda leaf: np.zeros((count, *leaf.shape), leaf.dtype or float), self.output
        )
        failures: dict[int, BaseException] = {}
        keys = []  # the inputs' bytes, before the simulator has a chance to change them
        if self._cache_size:
            keys = [b"".join(leaf[i].tobytes() for leaf in leaves) for i in range(count)]
        known = {i for i, key in enumerate(keys) if key in self._cache}
        for index in known:
            _put(found, index, self._cache[keys[index]])
        missing = [index for index in range(count) if index not in known]
        pieces = [[index] for index in missing]
        if self.batched:
            parts = np.array_split(missing, self.pool.count if self.pool else 1)
            pieces = [part.tolist() for part in parts if len(part)]
        with self._bar(len(missing)) as advance:
            while pieces:
                pieces = self._simulate(pieces, arguments, found, failures, advance)
        if keys:
            fresh = [index for index in missing if index not in failures]
            self._cache |= {keys[i]: jax.tree.map(np.copy, _row(found, i)) for i in fresh}
            while len(self._cache) > self._cache_size:
                self._cache.popitem(last=False)
        self._counts = _added(
            self._counts,
            batches=1,
            samples=count,
            cached=len(known),
            seconds=time.perf_counter() - started,
        )
        return found, failures

    def _simulate(self, pieces, arguments, found, failures, advance) -> list[list[int]]:
        """Fill in found and failures; batched calls that failed come back in halves."""
        places = pieces if self.batched else [piece[0] for piece in pieces]

        def each(call, outcome):
            alone = len(pieces[call]) == 1
            if isinstance(outcome, Failure) and alone and self.on_error == "raise":
                raise _told(outcome.error, _row(arguments, pieces[call][0]))
            if not isinstance(outcome, Failure) or alone:
                advance(len(pieces[call]))

        self._counts = _added(self._counts, calls=len(pieces))
        halves: list[list[int]] = []
        calls = [_row(arguments, place) for place in places]
        for piece, place, outcome in zip(pieces, places, self._run(calls, each)):
            middle = len(piece) // 2
            if not isinstance(outcome, Failure):
                try:
                    lead = (len(piece),) if self.batched else ()
                    _put(found, place, checked(outcome, self.output, lead))
                except (TypeError, ValueError) as error:
                    raise _told(error, _row(arguments, piece[0])) from None
            elif middle:
                halves += [piece[:middle], piece[middle:]]
            else:
                failures[piece[0]] = outcome.error
        return halves

    def _run(self, calls: Sequence[tuple], each: Callable) -> list[Tree]:
        if self.pool is not None:
            return self.pool.run(calls, self.timeout, each)
        outcomes = []
        for index, arguments in enumerate(calls):
            try:
                outcome = called(self.simulator, arguments)
            except Exception as error:
                outcome = Failure(error)
            each(index, outcome)
            outcomes.append(outcome)
        return outcomes

    @contextmanager
    def _bar(self, total: int):
        if not self.progress or not total:
            yield lambda count: None
            return
        from rich import progress as rich  # here, as most boxes show nothing

        columns = [
            rich.TextColumn("simulating"),
            rich.BarColumn(),
            rich.MofNCompleteColumn(),
            rich.TimeRemainingColumn(),
        ]
        console = None if self.progress is True else self.progress
        with rich.Progress(*columns, console=console, transient=True) as bar:
            job = bar.add_task("simulating", total=total)
            yield lambda count: bar.advance(job, count)


def _row(tree: Tree, place: Tree) -> Tree:
    """One row, or some, of every leaf."""
    return jax.tree.map(operator.itemgetter(place), tree)


def _put(tree: Tree, place: Tree, row: Tree) -> None:
    jax.tree.map(lambda leaf, value: operator.setitem(leaf, place, value), tree, row)


def _told(error: BaseException, row: tuple) -> BaseException:
    """The error with the input that caused it as a note, once."""
    note = f"The simulator's input: {describe(row)}"
    if note not in getattr(error, "__notes__", ()):
        error.add_note(note)
    return error


def _added(counts: Statistics, **more: float) -> Statistics:
    return Statistics(**{k: v + more.get(k, 0) for k, v in vars(counts).items()})
