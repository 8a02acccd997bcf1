"""The same physics as a plain loop in C, built with the system's compiler."""

import ctypes
import dataclasses
import functools
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from diffsim.physics import ConstantCoefficients, Surface, World


class _Level(ctypes.Structure):
    _fields_ = [
        ("height", ctypes.c_double), ("half", ctypes.c_double * 2),
        ("restitution", ctypes.c_double), ("friction", ctypes.c_double),
    ]  # fmt: skip


class _World(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_double)
        for name in ("gravity", "drag", "magnus", "radius", "inertia", "rest_speed")
    ]


def _level(surface: Surface) -> bool:
    """Whether it is what the C loop takes it for."""
    plain = Surface.create(
        center=(0.0, 0.0, surface.center[2]), u=(1.0, 0.0, 0.0), name=surface.name,
        half_extents=surface.half_extents, restitution=surface.restitution,
        friction=surface.friction,
    )  # fmt: skip
    turned = surface.rotation if np.isinf(surface.half_extents).all() else plain.rotation
    plain = dataclasses.replace(plain, rotation=turned)
    if surface.driven or not np.array_equal(surface.rotation[:, 2], [0, 0, 1]):
        return False
    return jax.tree.all(jax.tree.map(np.array_equal, plain, surface))


@functools.cache
def built(width: int, real: str) -> tuple[Any, float]:
    """The C loop for so many balls at once, and the seconds its compiler took.

    Raises:
        FileNotFoundError: there is no compiler.
        ValueError: the compiler failed.
    """
    compiler = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
    if compiler is None:
        raise FileNotFoundError("no compiler")
    source, start = Path(__file__).with_name("flight.c"), time.perf_counter()
    flags = ("-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-fopenmp-simd")
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "flight.so"
        done = subprocess.run(
            [compiler, "-std=c99", *flags, f"-DW={width}", f"-DREAL={real}", "-shared", "-fPIC",
             str(source), "-o", str(made), "-lm"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            raise ValueError(f"{compiler} failed: {done.stderr.strip().splitlines()[:1]}")
        library = ctypes.CDLL(str(made))
    return library, time.perf_counter() - start


@dataclass(frozen=True)
class Loop:
    """Flights by the C loop, over all cores this process may use from 1,024 balls on.

    Attributes:
        world: with fixed level surfaces about the z axis, open to above.
        width: balls side by side, of which a structure of arrays is read; 1 reads rows.
        real: "float" or "double".
    """

    world: World
    width: int = 8
    real: str = "double"

    def __post_init__(self):
        ball, air = self.world.ball, self.world.aerodynamics
        others = [one.name for one in self.world.surfaces if not _level(one)]
        if np.any(self.world.gravity[:2]):
            others.append("gravity")
        if np.isfinite(ball.spin_decay_time):
            others.append("spin_decay_time")
        if not isinstance(air, ConstantCoefficients):
            others.append(type(air).__name__)
        if others:
            raise ValueError(f"world: expected what the C loop has, got {', '.join(others)}")

    def __call__(self, rows: np.ndarray, seconds: float, step: float) -> Callable[[], np.ndarray]:
        """A call that flies balls (n, 9) and returns their ends, (n, 9).

        Raises:
            FloatingPointError: by the call, where balls come to rest, which it does not follow.
        """
        library, _ = built(self.width, self.real)
        ball, air = self.world.ball, self.world.air
        push = 0.5 * float(air.density) * np.pi * float(ball.radius) ** 2 / float(ball.mass)
        about = _World(
            float(self.world.gravity[2]), push * float(ball.drag_coefficient),
            push * float(ball.magnus_coefficient * ball.radius), float(ball.radius),
            float(ball.inertia_factor), 0.01,
        )  # fmt: skip
        order = sorted(self.world.surfaces, key=lambda one: -float(one.center[2]))
        parts = [
            _Level(float(s.center[2]), (ctypes.c_double * 2)(*map(float, s.half_extents)),
                     float(s.restitution), float(s.friction))
            for s in order
        ]  # fmt: skip
        surfaces = (_Level * len(parts))(*parts)
        kind = np.float32 if self.real == "float" else np.float64
        data = np.array(rows if self.width == 1 else rows.T, kind, order="C")
        count, steps = len(rows), max(1, int(np.ceil(seconds / step - 1e-9)))
        strides = (9, 1) if self.width == 1 else (1, count)
        threads = cores() if count >= 1024 else 1
        ends = [count * i // threads // 64 * 64 for i in range(threads)] + [count]

        def call() -> np.ndarray:
            work = data.copy()

            def fly(first: int, last: int) -> int:
                return library.fly(
                    ctypes.byref(about), surfaces, len(parts), ctypes.c_void_p(work.ctypes.data),
                    *map(ctypes.c_long, (*strides, first, last)), ctypes.c_double(seconds), steps,
                )  # fmt: skip

            if threads == 1:
                resting = fly(0, count)
            else:
                with ThreadPoolExecutor(threads) as pool:
                    resting = sum(pool.map(fly, ends[:-1], ends[1:]))
            if resting:
                raise FloatingPointError(f"{resting} balls come to rest")
            return work if self.width == 1 else work.T

        return call


def cores() -> int:
    """How many of them this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
