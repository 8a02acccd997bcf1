"""Weak scaling: how the work done per device holds up as devices, and serves with them, grow."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import Progress

from diffsim._files import figure_path, new_figure, save_figure
from studies import harness

CLOCKS = ("wall", "cpu")


def benchmark(
    devices: tuple[int, ...] = (1, 2, 4),
    serves: int = 64,
    updates: int = 200,
    gradient: str = "pathwise",
    path: Path = Path("runs/scale/scale.png"),
) -> list[dict[str, float]]:
    """Print and draw how an update slows down on forced CPU devices, each with as many serves.

    efficiency = time of the first count / time of this count, 1 at best. Each count has its own
    process; they take turns, one update each, so that other work on the machine slows all alike.
    By the wall clock the number of cores sets a limit, shown beside the least time and the median.
    Processor time shows only what dividing the work costs.

    Args:
        devices: numbers of devices; the others are compared with the first.
        serves: serves of each device in an update.
        updates: timed updates of each count.
        gradient: a name in diffsim.gradients.METHODS.
        path: file of the figure, .png, .pdf or .svg.

    Returns:
        for every count: devices, least and median seconds and processor seconds of an update, and
        the efficiencies by them, the medians with quartiles.
    """
    path, console = figure_path(path), Console()
    with ExitStack() as stack, Progress(console=console, transient=True) as bar:
        compiling = bar.add_task("compiling", total=len(devices))
        children = [stack.enter_context(_child(count, serves, gradient)) for count in devices]
        for child in children:
            _answer(child)
            bar.advance(compiling)
        calls = {str(i): partial(_answer, child, "go") for i, child in enumerate(children)}
        rounds = bar.track(range(updates), description="measuring")
        seconds = np.stack(list(harness.turns(calls, rounds).values()))
    rows, cores = _rows(devices, seconds), len(os.sched_getaffinity(0))
    title = f"Weak scaling: {serves} serves a device, least time, medians [quartiles]"
    harness.show(title, _shown(rows, cores), console)
    _draw(rows, cores, path)
    console.print(f"wrote {path}")
    return rows


def _child(count: int, serves: int, gradient: str) -> subprocess.Popen:
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={count}"
    code = f"from studies import scaling; scaling.measure({serves}, {gradient!r})"
    path = os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])
    more = {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu", "PYTHONPATH": path}
    return subprocess.Popen(
        [sys.executable, "-c", code], env=os.environ | more,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


def measure(serves: int, gradient: str) -> None:
    """One update on all devices of this process for every line read; prints its seconds as JSON."""
    import jax

    from diffsim.training import Settings, Trainer

    settings = Settings(batch=serves * jax.device_count(), gradient=gradient)
    trainer = Trainer(settings.player(), settings)
    trainer.update()
    print("[]", flush=True)
    for _ in sys.stdin:
        wall, cpu = time.perf_counter(), time.process_time()
        trainer.update()
        print(json.dumps([time.perf_counter() - wall, time.process_time() - cpu]), flush=True)


def _answer(child: subprocess.Popen, asked: str = "") -> list[float]:
    if asked:
        print(asked, file=child.stdin, flush=True)
    line = child.stdout.readline() if child.stdout else ""
    if not line:
        raise RuntimeError(f"a measuring process ended with code {child.wait()}")
    return json.loads(line)


def _rows(devices: tuple[int, ...], seconds: np.ndarray) -> list[dict[str, float]]:
    """Medians over the turns, and quartiles of the ratios, each of two updates of one turn."""
    rows = []
    for count, own in zip(devices, seconds, strict=True):
        least = own[:, 0].min()
        row = {
            "devices": count, "least_seconds": float(least),
            "least_efficiency": float(seconds[0, :, 0].min() / least),
        }  # fmt: skip
        for clock, mine, base in zip(CLOCKS, own.T, seconds[0].T, strict=True):
            # The processor seconds of a device: all of them divided by how many there are.
            share = 1 if clock == "wall" else count / devices[0]
            low, middle, high = np.quantile(base / mine * share, [0.25, 0.5, 0.75])
            row |= {
                f"{clock}_seconds": float(np.median(mine)), f"{clock}_efficiency": float(middle),
                f"{clock}_low": float(low), f"{clock}_high": float(high),
            }  # fmt: skip
        rows.append(row)
    return rows


def _most(count: float, first: float, cores: int) -> float:
    """The best efficiency by the wall clock that so many cores allow."""
    return min(1, cores / count) / min(1, cores / first)


def _shown(rows: list[dict[str, float]], cores: int) -> Iterator[harness.Row]:
    for row in rows:
        wall, cpu = (
            tuple(row[f"{clock}_{end}"] for end in ("efficiency", "low", "high"))
            for clock in CLOCKS
        )
        yield {
            "devices": row["devices"],
            "update, ms": 1e3 * row["least_seconds"],
            "efficiency": row["least_efficiency"],
            f"most on {cores} cores": _most(row["devices"], rows[0]["devices"], cores),
            "in the median turn": wall,
            "by processor time": cpu,
        }


def _draw(rows: list[dict[str, float]], cores: int, path: Path) -> None:
    figure = new_figure(5, 3.2, dpi=120)
    axes = figure.subplots()
    counts = [row["devices"] for row in rows]
    for name, mark, label in (
        ("least", "o-", "wall clock, least time"),
        ("wall", "v--", "wall clock, median turn"),
        ("cpu", "s-", "processor time"),
    ):
        axes.plot(counts, [row[f"{name}_efficiency"] for row in rows], mark, label=label)
    best = [_most(count, counts[0], cores) for count in counts]
    axes.plot(counts, best, "k:", label=f"the most {cores} cores can do, wall clock")
    axes.set_xscale("log", base=2)
    axes.set(
        xticks=counts, xticklabels=counts, ylim=(0, None),
        xlabel="devices, with the serves in proportion", ylabel="efficiency",
    )  # fmt: skip
    axes.minorticks_off()
    axes.grid(alpha=0.25, linewidth=0.5)
    axes.legend(frameon=False)
    save_figure(figure, path)
