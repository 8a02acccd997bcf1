"""The folder of a run: whose it is, and whether a run with these settings may go on in it."""

import errno
import fcntl
import os
import re
import socket
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from diffsim._files import naming
from diffsim._text import short
from diffsim.training import processes
from diffsim.training.checkpoint import Checkpoints


@contextmanager
def ready(settings: Any) -> Iterator[Checkpoints]:
    """The run's checkpoints, in a folder that is this run's alone meanwhile.

    Raises:
        FileExistsError: it has checkpoints and ``resume`` is off, or another run has it.
        FileNotFoundError: there is nothing to resume, or ``settings.json`` is missing beside
            checkpoints or metrics.
        ValueError: what is there was made with other settings.
        OSError: the folder cannot be written.
    """
    _check(settings)  # before anything is made, and again when nobody else can change it
    if not processes.first():
        yield Checkpoints(settings.out / "checkpoints")
        return
    with locked(settings.out):
        _check(settings)
        for left in settings.out.glob(".*"):  # what a kill left half written
            if re.fullmatch(r"\.(metrics|settings)\.\d+\.(csv|json)", left.name):
                left.unlink()
        yield Checkpoints(settings.out / "checkpoints")


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """The folder for this process alone; ``run.lock`` says which that is.

    The lock is the kernel's and ends with the process, so a file left by one that was killed
    locks nothing.

    Raises:
        FileExistsError: another process has it.
        OSError: the folder cannot be written.
    """
    _no_file(folder)
    folder.mkdir(parents=True, exist_ok=True)
    lock = folder / "run.lock"
    with lock.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            other = short(file.read(), 200) or "another process"
            raise FileExistsError(
                f"{folder}: in use by {other}; expected another --out, or that one to end"
            ) from None
        except OSError as error:
            warnings.warn(f"{folder}: no other run may use it, but {error}", stacklevel=3)
        started = time.strftime("%Y-%m-%d %H:%M:%S")
        with naming(lock):
            lock.write_text(
                f"process {os.getpid()} on {socket.gethostname()} since {started}: "
                f"{' '.join(sys.argv)}\n"
            )
        try:
            yield
        finally:
            file.truncate(0)


def _no_file(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, "expected a folder, got a file", str(folder))


def _check(settings: Any) -> None:
    checkpoints = Checkpoints(settings.out / "checkpoints")
    _no_file(checkpoints.folder)
    steps, kept = checkpoints.steps(), settings.out / "settings.json"
    of = checkpoints.folder if steps else settings.out / "metrics.csv"
    if of.exists() and not kept.exists():
        raise FileNotFoundError(
            f"{kept}: missing beside {of.name}; expected it back to go on with that run, "
            "or another --out"
        )
    if steps and not settings.resume:
        raise FileExistsError(
            f"{checkpoints.folder}: has checkpoints; expected --resume or another --out"
        )
    if settings.resume:
        if not steps:
            raise FileNotFoundError(
                f"no checkpoint in {checkpoints.folder}; expected a start without --resume"
            )
        settings.check_resumes(kept)
