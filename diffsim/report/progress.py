"""How far a long call is, how long it has taken, and how long it still takes."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


@contextmanager
def counting(
    doing: str, total: int, console: Console | None = None
) -> Iterator[Callable[..., None]]:
    """A bar with the time spent and left, which says "compiling …" until the first is done.

    Yields what is told how many are done, or how many and what to show beside them.

    >>> with counting("training", 2, Console(quiet=True)) as tell:
    ...     tell(1)
    ...     tell(1, "loss 0.5")
    """
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(),
               TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn())  # fmt: skip
    begun, compiled = time.perf_counter(), False
    with Progress(*columns, console=console) as bar:
        job = bar.add_task("compiling …", total=total)

        def tell(done: int, word: str | None = None) -> None:
            nonlocal doing, compiled
            doing = word or doing
            if word is None and not compiled:
                seconds = time.perf_counter() - begun
                bar.console.print(f"compiled, and the first of {total} done, in {seconds:.0f} s")
                compiled = True
            bar.update(job, completed=done, description=doing if compiled else None)

        yield tell


@contextmanager
def waiting(doing: str) -> Iterator[Callable[[str], None]]:
    """A line on the error stream of a terminal, with the seconds that pass, gone at the end.

    Yields what is told what is done next.
    """
    columns = TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn()
    console = Console(stderr=True)
    hidden = not console.is_interactive
    with Progress(*columns, console=console, transient=True, disable=hidden) as bar:
        job = bar.add_task(doing, total=None)
        yield lambda word: bar.update(job, description=word)


@contextmanager
def beside() -> Iterator[Callable[..., Future]]:
    """What is submitted runs beside the caller, in order; what has not begun at the end is dropped.

    For compiling, most of which takes one core.

    >>> with beside() as submit:
    ...     submit(pow, 2, 3).result()
    8
    """
    pool = ThreadPoolExecutor(1)
    try:
        yield pool.submit
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
