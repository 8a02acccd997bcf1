"""Simulators for worker processes: NumPy alone, so that a child starts without JAX."""

import ctypes
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil


def bowl(x, aim=0.0):
    """Half the squared distance."""
    return 0.5 * float(np.sum((x - aim) ** 2))


def bowls(x, aim=0.0):
    """The same for rows."""
    return 0.5 * np.sum((x - aim) ** 2, axis=-1)


class Misfit(ValueError):
    """A simulator's own kind of error."""


class Unpicklable(Exception):
    """An error that does not survive being sent."""

    def __init__(self, one, two):
        super().__init__(f"{one} and {two}")


def faulty(x, fault):
    """A bowl, but for the faults it is told to show."""
    match int(fault):
        case 1:
            raise Misfit(f"no solution at {x[0]:.1f}")
        case 2:
            return float("nan")
        case 3:
            time.sleep(60)
        case 4:
            os.kill(os.getpid(), signal.SIGKILL)
        case 5:
            return np.ones(3)
        case 6:
            return np.complex128(1j)
        case 7:
            raise Unpicklable("this", "that")
        case 8:
            return lambda: 1.0
        case 9:
            return float("jax" in sys.modules or "diffsim" in sys.modules)
    return bowl(x)


def faulty_rows(x, fault):
    """The same for rows, of which one fault spoils all."""
    return np.array([faulty(row, one) for row, one in zip(x, fault)])


class KilledOnce:
    """Kills its process the first time, as told by a file."""

    def __init__(self, folder: Path):
        self.mark = folder / "killed"

    def __call__(self, x):
        if not self.mark.exists():
            self.mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return bowl(x)


def pid(x):
    time.sleep(0.02)
    return float(os.getpid())


def uses_jax(x):
    import jax.numpy as jnp

    return float(jnp.sum(jnp.asarray(x) ** 2))


class CannotLoad:
    """Pickles well and fails to unpickle."""

    def __reduce__(self):
        return _fail, ()

    def __call__(self, x):
        return 0.0


def _fail():
    raise FileNotFoundError("model.xml")


class Journal:
    """Writes down each input it is given."""

    def __init__(self):
        self.seen = []

    def __call__(self, x):
        self.seen.append(np.array(x))
        return bowl(x)


def pair(x, fault=0):
    """A result with two leaves."""
    size = np.float32(len(x)) if int(fault) == 0 else np.float64(len(x))
    return {"place": x.astype(np.float64), "size": size}


def size_of_pair(result):
    return np.sum(result["place"] ** 2) / result["size"]


class Behind:
    """Hangs with processes of its own, whose numbers it leaves in a folder."""

    def __init__(self, folder: Path, how: str):
        self.folder, self.how = folder, how

    def __call__(self, x):
        if x[0] < 1:
            return bowl(x)
        self.tell(os.getpid())
        if self.how == "sleep":
            self.tell(subprocess.Popen(["sleep", "300"]).pid)
        elif self.how == "session":
            self.tell(subprocess.Popen(["sleep", "300"], start_new_session=True).pid)
        elif self.how == "daemon":
            self.daemon()
        elif child := os.fork():  # holds the worker's pipe open, too
            self.tell(child)
        else:
            time.sleep(300)
        if self.how == "exit":
            os._exit(3)
        ctypes.PyDLL(None).sleep(300)  # C code that keeps the interpreter lock

    def daemon(self):
        """An orphan of a session of its own."""
        if (child := os.fork()) == 0:
            os.setsid()
            if os.fork() == 0:
                self.tell(os.getpid())
                time.sleep(300)
            os._exit(0)
        os.waitpid(child, 0)
        while len(list(self.folder.iterdir())) < 2:
            time.sleep(0.01)

    def tell(self, pid):
        (self.folder / str(pid)).touch()

    def alive(self):
        """Which of them live; all that is left of some is an entry nobody has asked for."""
        told = [int(path.name) for path in self.folder.iterdir()]
        return [pid for pid in told if psutil.pid_exists(pid) and not self._dead(pid)]

    @staticmethod
    def _dead(pid):
        try:
            return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True


def leaves(x):
    """Ends the program, or so it thinks."""
    sys.exit(0)


class Leaks:
    """Keeps memory, and counts its calls in this process."""

    def __init__(self, size: int):
        self.size, self.kept = size, []

    def __call__(self, x):
        self.kept.append(np.ones(self.size, np.uint8))
        return float(len(self.kept))
