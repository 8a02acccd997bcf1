"""Worker processes that outlive what a simulator does to them.

``concurrent.futures`` and ``loky`` give up the whole pool when one worker dies, ``pebble`` when one
is killed while idle, and it leaves the children of one that hangs; here a worker that is killed or
hangs is replaced, with its children. Each has a pipe of its own, so none can die with a lock.
"""

import contextlib
import multiprocessing
import pickle
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing import spawn
from multiprocessing.connection import Connection, wait
from pathlib import Path

from diffsim._types import Tree
from diffsim.gradients.blackbox.worker import RETIRED

INF = float("inf")
START_LIMIT = 120.0  # s a worker may take to import the simulator
RERUNS = 1  # of a call whose worker died, as the death may have had another cause
CHUNK = 64  # calls a worker is sent at once; it answers each by itself
GLANCE = 1.0  # s until it is seen that a worker died whose children hold its pipe open


@dataclass(frozen=True)
class Failure:
    """A call without a result, and why."""

    error: BaseException


def pickled(simulator: Callable) -> bytes:
    """The simulator as bytes for the workers.

    Raises:
        TypeError: it cannot be sent to another process.
    """
    try:
        return pickle.dumps(simulator)
    except Exception as error:
        raise TypeError(
            f"simulator: expected something worker processes can unpickle, got {simulator!r} "
            f"({error}); define it at the top level of a module, or set workers=0"
        ) from error


@dataclass(eq=False)
class _Worker:
    process: subprocess.Popen
    connection: Connection
    life: Connection  # says nothing: each end tells the other by closing that its process ended
    ready: bool = False
    calls: deque[int] = field(default_factory=deque)  # sent and unanswered; the first one runs
    since: float = field(default_factory=time.monotonic)

    def alive_until(self, timeout: float | None) -> float:
        """When it has taken too long."""
        if not self.ready:
            return self.since + START_LIMIT
        return self.since + timeout if self.calls and timeout is not None else INF


def _start(payload: bytes, limits: tuple[float, float]) -> _Worker:
    program = spawn.get_preparation_data("worker")  # where its main module is, among others
    program["authkey"] = bytes(program["authkey"])
    (ours, theirs), (life, their_life) = multiprocessing.Pipe(), multiprocessing.Pipe()
    ends = theirs.fileno(), their_life.fileno()
    flags = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
    path = str(Path(__file__).with_name("worker.py"))
    # Blocked for the child from its first instruction on: Ctrl-C is the parent's to handle.
    held = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        process = subprocess.Popen(
            [sys.executable, *flags, path, *map(str, ends)],
            pass_fds=ends,
            stdin=subprocess.DEVNULL,
        )
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, held)
        theirs.close()
        their_life.close()
    with contextlib.suppress(OSError):  # it has ended already, which is seen later
        ours.send((program, payload, *limits))
    return _Worker(process, ours, life)


def _end(workers: list[_Worker]) -> None:
    for worker in workers:
        worker.process.terminate()  # it kills what runs the simulator, and all that this started
    for worker in workers:
        worker.process.wait()
        worker.connection.close()
        worker.life.close()
    workers.clear()


class Pool:
    """Workers for one simulator; they start when there is something to do.

    Args:
        simulator: any picklable callable.
        count: how many.
        most_calls: after which a worker is replaced.
        most_memory: bytes, after a call with which a worker is replaced.

    Attributes:
        timeouts: calls stopped because they took too long.
        replaced: workers started in the place of another.
    """

    def __init__(
        self, simulator: Callable, count: int, most_calls: float = INF, most_memory: float = INF
    ):
        self.timeouts = self.replaced = 0
        self._limits = most_calls, most_memory
        self._payload, self.count = pickled(simulator), count
        self._workers: list[_Worker] = []
        self._lock = threading.Lock()
        weakref.finalize(self, _end, self._workers)

    def close(self) -> None:
        """End the workers; the next run starts new ones."""
        with self._lock:
            _end(self._workers)

    def run(
        self,
        calls: Sequence[tuple],
        timeout: float | None = None,
        each: Callable[[int, Tree], None] = lambda index, outcome: None,
    ) -> list[Tree]:
        """The result, or a :class:`Failure`, of each call.

        A call whose worker dies is run once more, then it fails. If anything is raised here
        (Ctrl-C, or by ``each``) busy workers are ended; the next run starts new ones.

        Args:
            calls: arguments of each call.
            timeout: s a call may take, from its start.
            each: told every outcome as it comes.
        """
        with self._lock:
            try:
                return _Run(self, calls, timeout, each).go()
            except BaseException:
                for worker in list(self._workers):
                    if worker.calls or not worker.ready:
                        self._workers.remove(worker)
                        _end([worker])
                raise


class _Run:
    """One run of a pool: calls wait, are sent to a worker, and get their outcome."""

    def __init__(self, pool: Pool, calls, timeout, each):
        self.pool, self.calls, self.timeout, self.each = pool, calls, timeout, each
        self.workers, self.waiting = pool._workers, deque(range(len(calls)))
        self.outcomes: dict[int, Tree] = {}
        self.deaths: Counter[int] = Counter()
        self.failed_starts = 0
        self.chunk = max(1, min(CHUNK, len(calls) // (4 * pool.count)))

    def go(self) -> list[Tree]:
        while len(self.outcomes) < len(self.calls):
            unfinished = len(self.calls) - len(self.outcomes)
            while len(self.workers) < min(self.pool.count, unfinished):
                self.workers.append(_start(self.pool._payload, self.pool._limits))
            for worker in list(self.workers):
                if worker.ready and not worker.calls and self.waiting:
                    self.send(worker)
            until = min((w.alive_until(self.timeout) for w in self.workers), default=0.0)
            pause = min(max(until - time.monotonic(), 0.0), GLANCE)
            wait([end for w in self.workers for end in (w.connection, w.life)], pause)
            for worker in list(self.workers):
                self.receive(worker)
        return [self.outcomes[index] for index in range(len(self.calls))]

    def send(self, worker: _Worker) -> None:
        size = min(self.chunk, len(self.waiting))
        worker.calls.extend(self.waiting.popleft() for _ in range(size))
        worker.since = time.monotonic()
        try:
            worker.connection.send([(index, self.calls[index]) for index in worker.calls])
        except OSError:  # it died idle, so none of these calls is to blame
            self.replace(worker)

    def receive(self, worker: _Worker) -> None:
        """Everything it has to say, then whether it died or takes too long."""
        messages, died = [], worker.process.poll() is not None
        try:
            while worker.connection.poll():
                messages.append(worker.connection.recv())
        except (EOFError, OSError):
            died = True
        for index, worked, result in messages:
            worker.since = time.monotonic()
            if index == RETIRED:
                self.replace(worker)
                return
            if index >= 0:
                worker.calls.popleft()
                self.settle(index, result if worked else Failure(result))
            elif worked:
                worker.ready, self.failed_starts = True, 0
            else:
                result.add_note("This came up while a worker loaded the simulator.")
                raise result
        if died:
            self.died(worker)
        elif time.monotonic() >= worker.alive_until(self.timeout):
            self.expired(worker)

    def settle(self, index: int, outcome: Tree) -> None:
        self.outcomes[index] = outcome
        self.each(index, outcome)

    def replace(self, worker: _Worker) -> None:
        self.waiting.extendleft(reversed(worker.calls))
        _end([worker])
        self.workers.remove(worker)
        self.pool.replaced += 1

    def died(self, worker: _Worker) -> None:
        with contextlib.suppress(subprocess.TimeoutExpired):  # it closed its pipe and lives on
            worker.process.wait(5)
        code = worker.process.returncode
        if not worker.ready:
            self.failed_starts += 1
            if self.failed_starts > 1:
                raise ChildProcessError(
                    f"workers: expected them to start, got exit code {code} twice; a script "
                    'that uses workers needs `if __name__ == "__main__":` around what it does'
                )
        if worker.calls:
            culprit = worker.calls[0]
            self.deaths[culprit] += 1
            if self.deaths[culprit] > RERUNS:
                worker.calls.popleft()
                error = ChildProcessError(
                    "simulator: expected a result, got a worker process that ended with exit "
                    f"code {code}, {self.deaths[culprit]} times"
                )
                self.settle(culprit, Failure(error))
        self.replace(worker)

    def expired(self, worker: _Worker) -> None:
        if not worker.ready:
            raise TimeoutError(
                f"workers: expected the simulator to load within {START_LIMIT:g} s, it did not"
            )
        culprit = worker.calls.popleft()
        self.pool.timeouts += 1
        self.replace(worker)
        error = TimeoutError(f"simulator: expected an answer within {self.timeout:g} s, got none")
        self.settle(culprit, Failure(error))
