"""Several processes as one run: how they find each other, and what is said when one has gone."""

import dataclasses
import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import jax
from jax.experimental import multihost_utils

from diffsim._types import Tree

_AGAIN = "another one has gone or failed; start all again, with --resume where there is one"
# Says so for a process that dies, reading the end of its pipe instead of a line.
_WATCH = ["sh", "-c", 'read -r told || printf "%s\\n" "$1" >&2', "sh"]


class ProcessLostError(RuntimeError):
    """Another process of the run has gone, or cannot be reached."""


@dataclasses.dataclass(frozen=True)
class Group:
    """Several processes that share one run: the same command for each but for --process.

    All must see the folder of the run. The first one listens at the coordinator's address (with
    auto, at all of its own) and does not ask who calls: whoever reaches the port can join or end
    the run, so use a network that you trust.
    """

    coordinator: str | None = None
    """host:port of the first process; auto asks Slurm, Open MPI or Kubernetes for these three."""
    processes: int | None = None
    """Number of processes; the work is divided over all their devices."""
    process: int | None = None
    """Number of this process, from 0."""
    patience: int = 100
    """Seconds of silence after which a process is taken for dead."""

    def __post_init__(self):
        if not self.patience > 0:
            raise ValueError(f"patience: expected > 0, got {self.patience}")
        if not re.fullmatch(r"auto|.+:\d{1,5}", self.coordinator or "auto"):
            raise ValueError(f"coordinator: expected host:port or auto, got {self.coordinator!r}")
        given, auto = (self.processes, self.process), self.coordinator == "auto"
        if self.coordinator is None and given != (None, None):
            raise ValueError("coordinator: expected host:port or auto with processes, got None")
        if self.coordinator is None or (auto and None in given):
            return
        if None in given or not 0 <= cast(int, self.process) < cast(int, self.processes):
            raise ValueError(
                "process: expected 0 <= process < processes with a coordinator, got "
                f"process {self.process} and processes {self.processes}"
            )

    @contextmanager
    def connected(self) -> Iterator[None]:
        """Join the others, before anything is computed, and leave together; alone, nothing.

        A process that dies within, killed or by JAX's own watch over the others, which aborts,
        still has a last line on the error stream.

        Raises:
            ProcessLostError: another process has gone.

        >>> with Group().connected():
        ...     jax.process_count()
        1
        """
        if self.coordinator is None:
            yield
            return
        text = f"error: process {self.process} of {self.processes} at {self.coordinator}: {_AGAIN}"
        with subprocess.Popen(
            [*_WATCH, text],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            start_new_session=True,  # an interrupt from the keyboard is not for it
        ) as watch:
            try:
                with together():
                    self._connect()
                    yield
                    meet()
            finally:
                watch.communicate(b"told\n")

    def _connect(self) -> None:
        address = None if self.coordinator == "auto" else self.coordinator
        listen = os.environ.get("JAX_COORDINATOR_BIND_ADDRESS", address)
        jax.distributed.initialize(
            address,
            self.processes,
            self.process,
            coordinator_bind_address=listen,
            heartbeat_timeout_seconds=self.patience,
            shutdown_timeout_seconds=self.patience,
        )
        # Processes find each other for the first exchange within 30 s or not at all: before they
        # compile, which takes some longer than others.
        meet()


def first() -> bool:
    """Whether this is process 0, the one that writes and prints."""
    return jax.process_index() == 0


def meet() -> None:
    """Wait here until all processes have come, however long that takes them.

    Raises:
        ProcessLostError: one never will.
    """
    if jax.process_count() > 1:
        with together():
            multihost_utils.sync_global_devices("meeting")


def own(rows: Tree) -> Tree:
    """This process's share of rows that all have.

    Raises:
        ValueError: the processes cannot have equal shares.
    """
    total, count = len(jax.tree.leaves(rows)[0]), jax.process_count()
    if total % count:
        raise ValueError(f"batch: expected a multiple of the {count} processes, got {total}")
    begin = jax.process_index() * (total // count)
    return jax.tree.map(lambda leaf: leaf[begin : begin + total // count], rows)


def averaged(tree: Tree) -> Tree:
    """The mean over the processes of what each has."""
    if jax.process_count() == 1:
        return tree
    return jax.tree.map(lambda leaf: leaf.mean(axis=0), multihost_utils.process_allgather(tree))


@contextmanager
def together() -> Iterator[None]:
    """What all processes do together: where it fails, one of the others has gone or failed.

    Raises:
        ProcessLostError: that, instead of the error of the exchange that failed.
    """
    try:
        yield
    except (jax.errors.JaxRuntimeError, ValueError) as error:
        # A failed exchange is either kind, and then begins with the code of its status.
        if jax.process_count() == 1 or not re.match("[A-Z_]+: ", str(error)):
            raise
        raise ProcessLostError(
            f"process {jax.process_index()} of {jax.process_count()}: {_AGAIN} ({error})"
        ) from error
