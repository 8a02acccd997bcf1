"""The child's side of a worker: load the simulator, answer calls, end with the parent.

Run by path (``runpy``), so that a child imports the simulator and nothing of diffsim or JAX.
"""

import multiprocessing
import os
import pickle
import threading
import traceback
from multiprocessing.connection import Connection, wait


def portable(error: BaseException) -> BaseException:
    """The error, its traceback as a note, or a RuntimeError saying the same if it won't pickle."""
    error.add_note("In the worker process:\n" + "".join(traceback.format_exception(error)))
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error} (an error that cannot be pickled)")
    return error


def end_with_parent() -> None:
    """End this process as soon as the parent is gone, even in the middle of a call."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def serve(connection: Connection, payload: bytes) -> None:
    """Answer each call of each chunk by (index, worked, result or error)."""
    threading.Thread(target=end_with_parent, daemon=True).start()
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
                answer = index, True, simulator(*arguments)
            except Exception as error:
                answer = index, False, portable(error)
            try:
                connection.send(answer)
            except (pickle.PicklingError, TypeError, AttributeError) as error:
                error.add_note("The simulator's result cannot be pickled.")
                connection.send((index, False, portable(error)))


if __name__ == "__diffsim_worker__":
    serve(globals()["connection"], globals()["payload"])
