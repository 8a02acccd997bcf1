"""Balls in flight: ours beside a C loop, brax, MJX and MuJoCo, each speed with its error."""

import functools
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from diffsim._files import figure_path, new_figure, save_figure
from diffsim.physics.simulate import Status
from studies import harness
from studies.accelerator import machine, processor
from studies.physics.c_loop import Loop, cores
from studies.physics.engines import (
    COTANGENT,
    ENGINES,
    LARGE,
    MODES,
    SMALL,
    TANGENT,
    Engine,
    Sizes,
)
from studies.physics.scenes import WORLDS, closed_form, starts

Row = dict[str, Any]
SAMPLE = 256  # balls whose errors are measured


@functools.cache
def reference(scene: str, seconds: float, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Ends (n, 3) and their derivative in the starts (n, 3, 9), in float64.

    By the closed form over the plane, by the C loop at a step of 2 ms else; by central differences
    (of 1e-5), which err by some 1e-9.
    """
    rows = starts(count).astype(float)

    def ends(rows: np.ndarray) -> np.ndarray:
        if scene == "plane":
            return closed_form(rows, seconds)
        return Loop(WORLDS[scene]())(rows, seconds, 2e-3)()[:, :3]

    nudges = 1e-5 * np.eye(9)
    slopes = [(ends(rows + nudge) - ends(rows - nudge)) / 2e-5 for nudge in nudges]
    return ends(rows), np.stack(slopes, axis=-1)


def errors(scene: str, mode: str, seconds: float, found: tuple) -> dict[str, float | None]:
    """Of the ends, m: median and worst; of the finite derivatives, relative: the median."""
    names = ("error, m", "worst, m", "gradient")
    end, slope, _ = (np.asarray(x, float)[:SAMPLE] for x in found)
    try:
        wanted, jacobian = reference(scene, seconds, len(end))
    except (FileNotFoundError, ValueError):
        return dict.fromkeys(names)
    apart = np.linalg.norm(end - wanted, axis=1)
    values: list[float | None] = [float(np.median(apart)), float(apart.max()), None]
    if mode != "forward":
        right = COTANGENT @ jacobian if mode == "reverse" else jacobian @ TANGENT
        off = np.linalg.norm(slope - right, axis=1) / np.linalg.norm(right, axis=1)
        values[2] = float(np.median(off[np.isfinite(off)])) if np.isfinite(off).any() else None
    return dict(zip(names, values, strict=True))


def measured(engine: Engine, mode: str, balls: int, seconds: float, sizes: Sizes) -> Row:
    """The figures of one row; the last says what is to know about them, or why there are none."""
    ready = engine.begun(starts(balls), mode, seconds, sizes)
    row: Row = {
        "ms": None,
        "balls/s": None,
        "compile, s": ready.compiling,
        "equations": ready.equations,
        "B/ball": None if ready.temporary is None else ready.temporary / balls,
    }
    if (ready.temporary or 0) > sizes.memory * 1e9:
        return row | {"note": "over memory"}
    begun = time.perf_counter()
    found = jax.block_until_ready(ready.call())
    took = time.perf_counter() - begun
    if took < 1:  # else once is enough
        took = harness.least({"": ready.call}, int(np.clip(0.5 / took, 3, 20)))[""]
    row |= {"ms": 1e3 * took, "balls/s": balls / took}
    row |= errors(engine.scene, mode, seconds, found)
    end, slope, status = found
    doubts = {
        "balls not ok": np.asarray(status) != Status.OK,
        "ends not finite": ~np.isfinite(end).all(1),
        "gradients not finite": ~np.isfinite(slope).all(1) if len(slope) else np.zeros(1),
    }
    notes = [f"{int(np.sum(doubt))} {name}" for name, doubt in doubts.items() if np.any(doubt)]
    return row | {"note": ", ".join(notes) or None}


def rows(
    sizes: Sizes,
    limit: float,
    engines: tuple[Engine, ...] | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> list[Row]:
    """Every engine, mode and size: what need not compile first, then by size and mode in turn.

    What would take more than the time left, or a seventh of it all, is "over budget", what would
    need more memory "over memory", as the sizes before tell.
    """
    engines, start = ENGINES if engines is None else engines, clock()
    found: dict[tuple[int, str], list[Row]] = {
        (number, mode): [] for number, engine in enumerate(engines) for mode in engine.modes
    }
    jobs = [
        (
            engines[number].compiles and 1 + order + MODES.index(mode),
            MODES.index(mode),
            number,
            case,
        )
        for order, case in enumerate(sizes.cases())
        for number, mode in found
    ]
    for _, index, number, case in sorted(jobs):
        engine, mode = engines[number], MODES[index]
        took, memory = expected(found[number, mode], found[number, engine.modes[0]], mode, *case)
        row: Row = {"engine": engine.name, "mode": mode}
        row["balls"], row["s"] = case
        if memory > sizes.memory * 1e9:
            row["note"] = "over memory"
        elif took > min(start + limit - clock(), limit / 7):
            row["note"] = "over budget"
        else:
            row |= attempted(engine, mode, *case, sizes)
        found[number, mode].append(row)
    return [row for part in found.values() for row in gathered(part)]


def gathered(found: list[Row]) -> list[Row]:
    """Rows in order, those without figures for the same reason as one."""
    order = sorted(found, key=lambda row: (row["s"], row["balls"]))
    there = [row for row in order if row.get("ms")]
    left = [row for row in order if not row.get("ms")]
    for note, s in dict.fromkeys((row["note"], row["s"]) for row in left):
        same = [row for row in left if (row["note"], row["s"]) == (note, s)]
        there.append(same[0] | {"balls": ", ".join(str(row["balls"]) for row in same)})
    return there


def attempted(engine: Engine, *case: Any) -> Row:
    """What was measured, or a note on why nothing was."""
    try:
        return measured(engine, *case)
    except ImportError as error:
        return {"note": f"not installed: {error.name}"}
    except (OSError, ValueError, FloatingPointError, jax.errors.JaxRuntimeError) as error:
        return {"note": str(error).splitlines()[0]}


def expected(
    done: list[Row], forward: list[Row], mode: str, balls: int, seconds: float
) -> tuple[float, float]:
    """Seconds and bytes that a size will take, from what it took others, or another mode.

    >>> row = {"ms": 1e3, "balls": 10, "s": 2.0, "compile, s": 5.0, "B/ball": 8.0}
    >>> expected([row], [], "reverse", 20, 1.0), expected([], [row], "reverse", 20, 1.0)
    ((7.0, 160.0), (21.0, 0.0))
    """
    own = [row for row in done if row.get("ms")]
    timed = own or [row for row in forward if row.get("ms")]
    if not timed:
        return 0.0, 0.0
    near = min(timed, key=lambda row: abs(math.log(row["balls"] / balls)))
    run = 2e-3 * near["ms"] * (balls * seconds) / (near["balls"] * near["s"])
    if own:
        return (near["compile, s"] or 0.0) + run, (near["B/ball"] or 0.0) * balls
    share = {"forward": 1, "reverse": 3, "forward-mode": 2}[mode]
    return share * ((near["compile, s"] or 0.0) + run), 0.0


def drawn(found: list[Row], seconds: float) -> Any:
    """Balls a second over the batch, in each mode; the errors are in the legend."""
    made = new_figure(14, 6, dpi=150)
    names = list(dict.fromkeys(row["engine"] for row in found))
    panels = made.subplots(1, 3, sharex=True, sharey=True)
    for panel, mode in zip(panels, MODES, strict=True):
        panel.set(title=mode, xlabel="balls", xscale="log", yscale="log")
        measure, unit = ("error, m", ", m") if mode == "forward" else ("gradient", ", relative")
        for number, name in enumerate(names):
            line = [
                (row["balls"], row["balls/s"], row.get(measure))
                for row in found
                if (row["engine"], row["mode"], row["s"]) == (name, mode, seconds) and row.get("ms")
            ]
            if line:
                balls, speeds, errs = zip(*line, strict=True)
                label = f"{name}: {harness.told(errs[-1])}"
                panel.plot(balls, speeds, ".-", color=f"C{number}", label=label)
        panel.legend(
            title=f"median error{unit}", fontsize="small", loc="upper center",
            bbox_to_anchor=(0.5, -0.12),
        )  # fmt: skip
    panels[0].set_ylabel(f"flights of {seconds:g} s a second")
    return made


def benchmark(
    sizes: Sizes = SMALL,
    limit: float = 240.0,
    plot: Path | None = None,
) -> harness.Found:
    """Flights a second, in value and derivative, with their errors; ours and others.

    On the court (a table over a floor, drag, spin and friction) ours stands beside the same
    physics as a plain C loop, on the plane (no air, no friction) beside brax, MJX and MuJoCo.
    Ends are measured against float64: the closed form on the plane, the C loop at a step of 2 ms
    on the court. What is left out, for time, for memory or because it is not installed, is listed.
    Times are the least of several calls with data in place; C and MuJoCo run on the host's cores.

    Args:
        sizes: batches, horizons and steps; a GPU takes larger ones unless they are given.
        limit: time for everything, s.
        plot: file for a figure.
    """
    about = machine()
    if plot is not None:
        figure_path(plot)
    if sizes == SMALL and about["platform"] != "cpu":
        sizes = LARGE
    about["cores"] = f"{cores()} x {processor()}"
    kept = jax.config.jax_enable_compilation_cache  # type: ignore[attr-defined]
    jax.config.update("jax_enable_compilation_cache", False)  # seconds to compile are meant
    try:
        title = ", ".join(f"{name} {value}" for name, value in about.items())
        found = harness.show(title, rows(sizes, limit))
    finally:
        jax.config.update("jax_enable_compilation_cache", kept)
    if plot is not None:
        (table,) = found.values()
        save_figure(drawn(table, sizes.middle[1]), plot)
    return found
