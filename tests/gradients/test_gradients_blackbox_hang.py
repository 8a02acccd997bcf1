"""Callbacks cannot deadlock: few threads, large arrays, many repeats, each in its own process."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest

ROOT = Path(__file__).parent.parent.parent
PROGRAM = Path(__file__).with_name("hanging.py")
SHORT = [10**3, 10**6]


def run(program, *arguments, limit):
    return subprocess.run(
        [sys.executable, str(program), *map(str, arguments)], timeout=limit, text=True, cwd=ROOT,
        capture_output=True, env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip


def finishes(kind, threads, repeats, sizes, limit):
    """Whether the program comes to its end within the limit, s."""
    try:
        done = run(PROGRAM, kind, threads, repeats, *sizes, limit=limit)
    except subprocess.TimeoutExpired:
        return False
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(size) for size in sizes]
    return True


@pytest.mark.parametrize("threads", [1, 4])
def test_callbacks_do_not_hang_short(threads):
    assert finishes("ours", threads, 2, SHORT, limit=120)


@pytest.mark.slow
@pytest.mark.parametrize("size", [10**n for n in range(3, 8)])
@pytest.mark.parametrize("threads", [1, 4])
def test_callbacks_do_not_hang_full(threads, size):
    assert finishes("ours", threads, 20, [size], limit=600)


@pytest.mark.slow
@pytest.mark.skipif(jax.default_backend() != "cpu", reason="the threads that hang are a CPU's")
def test_the_program_would_show_a_hang():
    """The plain callback, in the same program with one thread, does hang in one of ten runs."""
    assert not all(finishes("pure", 1, 3, SHORT, limit=20) for _ in range(10))


def test_rows_on_eight_devices_are_those_of_one():
    """Spread by JAX, in either kind of mesh, and by ``shard_map``."""
    done = run(PROGRAM.with_name("devices.py"), 8, limit=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["8"]
