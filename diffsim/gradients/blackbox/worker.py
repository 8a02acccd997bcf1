"""The child's side of a worker: load the simulator, answer calls, end with the parent.

Run by path (``runpy``), so that a child imports the simulator and nothing of diffsim or JAX.
"""

import multiprocessing
import os
import pickle
import resource
import subprocess
import traceback
from multiprocessing.connection import Connection
from typing import Any

RETIRED = -2  # in the place of the number of a call


def portable(error: BaseException) -> BaseException:
    """The error, its traceback as a note, or a RuntimeError saying the same if it won't pickle."""
    error.add_note("In the worker process:\n" + "".join(traceback.format_exception(error)))
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error} (an error that cannot be pickled)")
    return error


def end_with_parent() -> None:
    """Lead a group of processes that a shell in it kills, itself too, once the parent is gone.

    A thread of this process could not while C code holds the interpreter lock.
    """
    parent = multiprocessing.parent_process()
    if parent is not None:
        os.setsid()
        watch = "exec 3<&0; (read -r _ <&3; kill -9 0) >&- 2>&- &"  # no child of this process
        subprocess.run(["sh", "-c", watch], stdin=parent.sentinel, check=True)


def memory() -> int:
    """What this process has, bytes; where the system does not say, the most it has had."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * resource.getpagesize()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS


def called(simulator, arguments: tuple) -> Any:  # JAX names its trees, which is not here
    """The result; an exit of the simulator's own is an error of it, not the end of the worker."""
    try:
        return simulator(*arguments)
    except SystemExit as end:
        raise RuntimeError(f"simulator: expected a result, got sys.exit({end.code!r})") from end


def serve(connection: Connection, payload: bytes, most_calls: float, most_memory: float) -> None:
    """Answer each call of each chunk by (index, worked, result or error).

    One that has answered ``most_calls``, or had more than ``most_memory``, says so and ends.
    """
    end_with_parent()
    answered = 0
    try:
        simulator = pickle.loads(payload)
    except Exception as error:
        connection.send((-1, False, portable(error)))
        return
    connection.send((-1, True, None))
    while True:
        try:
            chunk = connection.recv()
        except EOFError:
            return
        for index, arguments in chunk:
            try:
                answer = index, True, called(simulator, arguments)
            except Exception as error:
                answer = index, False, portable(error)
            try:
                connection.send(answer)
            except OSError:  # the parent is gone
                return
            except Exception as error:
                error.add_note("The simulator's result cannot be pickled.")
                connection.send((index, False, portable(error)))
            answered += 1
            full = most_memory < float("inf") and memory() > most_memory
            if full or answered >= most_calls:
                connection.send((RETIRED, True, None))
                return


if __name__ == "__diffsim_worker__":
    serve(*globals()["arguments"])
