"""The child's side of a worker: load the simulator, answer calls, end with the parent.

Run by path, so that it imports the simulator and nothing of diffsim or JAX; and the program's main
module, as :mod:`multiprocessing` does, only once it has forked: with JAX in use it could not.
"""

import contextlib
import ctypes
import glob
import multiprocessing
import os
import pickle
import resource
import signal
import sys
import traceback
from multiprocessing import spawn
from multiprocessing.connection import Connection, wait
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


def go_on_in_a_child(connection: Connection, life: Connection) -> None:
    """Fork: the child returns from here; this process stays until the child and all it started end.

    It ends them itself when the program asks for that (SIGTERM) or is gone. Orphans come to it,
    whatever group or session they have made their own (prctl(2): PR_SET_CHILD_SUBREAPER); where
    there is no such thing, those of the child's group alone end with it.
    """
    os.setsid()
    _prctl(36, 1)  # PR_SET_CHILD_SUBREAPER
    told, tell = os.pipe()
    os.set_blocking(tell, False)
    heard = signal.SIGTERM, signal.SIGCHLD
    for number in heard:
        signal.signal(number, lambda *_: None)
    signal.set_wakeup_fd(tell)
    child = os.fork()
    if not child:
        signal.set_wakeup_fd(-1)
        for number in heard:
            signal.signal(number, signal.SIG_DFL)
        os.close(told)
        os.close(tell)
        life.close()
        os.setsid()
        _prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
        return
    connection.close()
    code = None
    while code is None and life not in (ready := wait([told, life])):
        if told in ready and signal.SIGTERM in os.read(told, 512):
            break
        code = _ended(child)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child, signal.SIGKILL)
    with contextlib.suppress(PermissionError):  # of another user, as by sudo: not ours to end
        while children := _children():
            for pid in children:
                os.kill(pid, signal.SIGKILL)
            os.wait()
    _end_as(-signal.SIGKILL if code is None else code)


def _prctl(option: int, value: int) -> None:
    prctl = getattr(ctypes.CDLL(None), "prctl", None)  # of Linux alone
    if prctl is not None:
        prctl(option, value, 0, 0, 0)


def _ended(child: int) -> int | None:
    """The child's exit code, None while it lives; orphans that have ended are let go."""
    with contextlib.suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            if ended[0] == child:
                return os.waitstatus_to_exitcode(ended[1])
    return None


def _children() -> list[int]:
    """Of this process, those that ended among them; their own come to it when they end."""
    found = []
    for place in glob.glob("/proc/[0-9]*/stat"):
        with contextlib.suppress(OSError), open(place, "rb") as file:
            if int(file.read().rpartition(b")")[2].split()[1]) == os.getpid():
                found.append(int(place.split("/")[2]))
    return found


def _end_as(code: int) -> None:
    """As the child has, by a signal where it was one."""
    if code < 0:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if code != -signal.SIGKILL:
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)


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


def prepare(program: dict[str, Any]) -> None:
    """Import the program's main module; one that would start workers as it is imported fails."""
    process: Any = multiprocessing.current_process()
    process._inheriting = True
    try:
        spawn.prepare(program)
    finally:
        del process._inheriting


def serve(connection: Connection) -> None:
    """Answer each call of each chunk by (index, worked, result or error).

    One that has answered ``most_calls``, or had more than ``most_memory``, says so and ends.
    """
    try:
        program, payload, most_calls, most_memory = connection.recv()
    except (EOFError, OSError):  # the parent is gone
        return
    prepare(program)
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
        except (EOFError, OSError):
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


if __name__ == "__main__":
    ends = [Connection(int(end)) for end in sys.argv[1:]]
    go_on_in_a_child(*ends)
    serve(ends[0])
