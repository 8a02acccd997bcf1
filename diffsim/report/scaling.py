"""Weak scaling: how the work done per device holds up as devices, and serves with them, grow."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from rich.progress import track

from diffsim._files import checked, replacing


def benchmark(
    devices: tuple[int, ...] = (1, 2, 4, 8),
    serves: int = 64,
    updates: int = 30,
    path: Path = Path("runs/scale/scale.png"),
) -> list[dict[str, float]]:
    """Print and draw evaluations per second per device on forced CPU devices, over one device.

    Each count runs in a process of its own with ``serves`` for every device; the median update
    counts. Wall time cannot hold up past the machine's cores, which the figure shows; processor
    time shows what dividing the serves itself costs.

    Args:
        devices: counts, the first of which the others are compared with.
        serves: of each device in an update.
        updates: timed, after one that is not.
        path: of the figure, .png, .pdf or .svg.

    Returns:
        for every count: devices, rate (evaluations per second per device, by the wall clock),
        cpu_rate (evaluations per processor second), and both over those of the first count.
    """
    path = checked(path, (".png", ".pdf", ".svg"))
    rows: list[dict[str, float]] = []
    for count in track(devices, "measuring", transient=True):
        flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={count}"
        environment = os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
        code = f"from diffsim.report.scaling import measure; measure({serves}, {updates})"
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, check=True
        )
        row = {"devices": count, **json.loads(done.stdout.splitlines()[-1])}
        first = rows[0] if rows else row
        rows.append(
            row | {f"{name}_ratio": row[name] / first[name] for name in ("rate", "cpu_rate")}
        )
    cores = len(os.sched_getaffinity(0))
    print(f"{serves} serves a device, {cores} cores; evaluations per second:")
    for row in rows:
        print(
            f"  {row['devices']} devices: {row['rate']:8.1f} a device ({row['rate_ratio']:.2f}), "
            f"{row['cpu_rate']:8.1f} by processor time ({row['cpu_rate_ratio']:.2f})"
        )
    _draw(rows, cores, path)
    print(f"wrote {path}")
    return rows


def measure(serves: int, updates: int) -> None:
    """Print, as JSON, the rates of this process with all its devices."""
    import jax

    from diffsim.training import Settings, Trainer

    count = jax.device_count()
    settings = Settings(batch=serves * count)
    trainer = Trainer(settings.task(), settings)
    trainer.update()
    clocks = []
    for _ in range(updates + 1):
        clocks.append((time.perf_counter(), time.process_time()))
        trainer.update()
    wall, cpu = np.median(np.diff(clocks, axis=0), axis=0)
    evaluations = trainer.evaluations_per_step()
    print(json.dumps({"rate": evaluations / wall / count, "cpu_rate": evaluations / cpu}))


def _draw(rows: list[dict[str, float]], cores: int, path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    counts = [row["devices"] for row in rows]
    axes.plot(counts, [row["rate_ratio"] for row in rows], "o-", label="per device, wall clock")
    axes.plot(
        counts, [row["cpu_rate_ratio"] for row in rows], "s-", label="per second of processor time"
    )
    best = [min(1, cores / count) / min(1, cores / counts[0]) for count in counts]
    axes.plot(counts, best, "k:", label=f"the most that {cores} cores can do, wall clock")
    axes.set(
        xscale="log", xticks=counts, xticklabels=counts, ylim=(0, None),
        xlabel="devices, with the serves in proportion",
        ylabel=f"evaluations per second, over {counts[0]} device{'s' * (counts[0] > 1)}",
    )  # fmt: skip
    axes.minorticks_off()
    axes.legend()
    with replacing(path) as temporary:
        figure.savefig(temporary)
