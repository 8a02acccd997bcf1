"""Trainings with several gradients side by side: progress, a table, a figure and CSV files."""

import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from diffsim._files import figure_path, new_figure, save_figure, writable
from diffsim._intervals import student_interval
from diffsim.gradients import METHODS
from diffsim.report import progress
from diffsim.report.plots import AXES, run_quantiles
from diffsim.report.stage import COLORS, logarithmic, plain
from diffsim.training.processes import first
from studies import harness
from studies.training.plan import Plan, Run, differentiates
from studies.training.plan import run as runs_of


def run(plan: Plan, console: Console | None = None) -> list[Run]:
    """Carry out a plan with a progress bar; print the table and write it, the curves and a figure.

    The folder gets ``summary.csv``, ``curves.csv`` and ``error.png``. Of several processes the
    first one prints and writes.
    """
    console = console or Console(quiet=not first())
    writable(plan.out / "summary.csv")
    total = len(plan.gradients) * len(plan.seeds) * plan.steps
    done: list[Run] = []
    with progress.counting("training", total, console) as tell:

        def told(gradient: str, seed: int, row: dict) -> None:
            at = len(done) * plan.steps + row["step"]
            tell(at, f"{gradient}, seed {seed}")
            if len(row) == 1:  # an update, not a row of measures
                tell(at)

        for finished in runs_of(plan, progress=told):
            done.append(finished)
            tell(len(done) * plan.steps)
    if not first():
        return done
    records = summary(done, plan.error, plan.clock)
    title = (
        f"until {plan.error:g} cm with 90 % legal: median over the seeds (least – most)\n"
        "on 1,000 fresh serves at the end: mean over the seeds (95 % interval)"
    )
    harness.show(title, shown(records), console)
    curves = [{"gradient": r.gradient, "seed": r.seed} | row for r in done for row in r.rows]
    harness.save(plan.out / "summary.csv", records)
    harness.save(plan.out / "curves.csv", curves)
    error_against_cost(done, plan.error, plan.clock, path=plan.out / "error.png")
    for name in ("summary.csv", "curves.csv", "error.png"):
        console.print(f"wrote {plan.out / name}")
    return done


def summary(runs: Sequence[Run], error: float, clock: str = "seconds") -> list[dict[str, Any]]:
    """One flat record a gradient.

    What it takes to reach ``error`` (see :meth:`Run.reached`) is the median over the seeds, with
    the smallest and the largest; a seed that never does counts as infinity. The measures on fresh
    serves are means over the seeds with 95 % intervals by Student's t.
    """
    records = []
    for name in dict.fromkeys(run.gradient for run in runs):
        own = [run for run in runs if run.gradient == name]
        hits = [run.reached(error) for run in own]
        record: dict[str, Any] = {
            "gradient": name,
            "derivatives": differentiates(METHODS[name]),
            "seeds": len(own),
            "reached": sum(hit is not None for hit in hits),
            "compile_seconds": own[0].compile_seconds,
        }
        for column, counted in (("evaluations", "evaluations"), ("seconds", clock)):
            values = [math.inf if hit is None else hit[counted] for hit in hits]
            middle = float(np.quantile(values, 0.5, method="higher"))
            record |= {column: middle, f"{column}_low": min(values), f"{column}_high": max(values)}
        for column in ("landing_error_cm", "legal_rate"):
            mean, low, high = student_interval([run.final[column].value for run in own])
            if column == "legal_rate":
                low, high = max(low, 0.0), min(high, 1.0)
            record |= {column: mean, f"{column}_low": low, f"{column}_high": high}
        records.append(record)
    return records


def shown(records: Sequence[dict[str, Any]]) -> Iterator[harness.Row]:
    """The records for a person to read; a simulation counts once, differentiated or not."""
    for record in records:
        never = math.isinf(record["evaluations_low"])
        yield {
            "gradient": record["gradient"],
            "uses": "derivatives" if record["derivatives"] else "values only",
            "reached": f"{record['reached']} of {record['seeds']}",
            "simulations": "never" if never else _span(record, "evaluations", ",.0f"),
            "seconds of updates": "never" if never else _span(record, "seconds", ".1f"),
            "compiling, s": record["compile_seconds"],
            "error, cm": _span(record, "landing_error_cm", ".2f"),
            "legal, %": _span(record, "legal_rate", ".1f", 100),
        }


def _span(record: dict[str, Any], column: str, form: str, scale: float = 1) -> str:
    value, low, high = (scale * record[column + end] for end in ("", "_low", "_high"))
    return f"{value:{form}} ({low:{form}} – {high:{form}})"


def error_against_cost(
    runs: Sequence[Run],
    error: float | None = None,
    clock: str = "seconds",
    *,
    path: str | os.PathLike,
) -> Path:
    """Draw landing error against simulations and against seconds, both on logarithmic axes.

    Lines are medians over the seeds, bands reach from the least to the most. Drawn from where
    every seed lands more than half of the validation serves legally: before that the error of
    the few legal ones says little.

    Args:
        runs: of any number of gradients.
        error: a level to mark, cm.
        clock: "seconds" or "cpu_seconds".
        path: the file, .png, .pdf or .svg.

    Returns:
        The path written.

    Raises:
        ValueError: another suffix.
    """
    from matplotlib.lines import Line2D
    from matplotlib.ticker import EngFormatter

    file = figure_path(path)
    figure = new_figure(7.2, 3.1, dpi=150)
    both = figure.subplots(1, 2, sharey=True)
    handles = []
    for number, name in enumerate(dict.fromkeys(run.gradient for run in runs)):
        own = [run for run in runs if run.gradient == name]
        hue = COLORS[number % len(COLORS)]
        label = f"{name} (compiles in {own[0].compile_seconds:.0f} s)"
        handles.append(Line2D([], [], color=hue, label=label))
        for axes, x in zip(both, ("evaluations", clock)):
            curves = [_playing(run, clock) for run in own]
            curve = run_quantiles(name, curves, x, "landing_error_cm", (0, 0.5, 1))
            if curve is not None:
                at, (low, middle, high) = curve
                axes.plot(at, middle, color=hue, linewidth=1.3)
                axes.fill_between(at, low, high, color=hue, alpha=0.18, linewidth=0)
    seconds = "seconds" if clock == "seconds" else "processor seconds"
    for axes, label in zip(both, (AXES["evaluations"], f"{seconds} of updates, compiling apart")):
        axes.set_xlabel(label)
        axes.grid(alpha=0.25, linewidth=0.5, which="both")
        plain(axes)
        if not axes.lines:
            axes.text(0.5, 0.5, "never plays", ha="center", transform=axes.transAxes)
            continue
        axes.set(xscale="log", yscale="log")
        logarithmic(axes.xaxis)
        logarithmic(axes.yaxis)
        if error is not None:
            axes.axhline(error, color="0.4", linewidth=0.7, linestyle=":")
    both[0].xaxis.set_major_formatter(EngFormatter(sep=""))
    both[0].set_ylabel("landing error (cm)")
    figure.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False, fontsize=8)
    return save_figure(figure, file)


def _playing(run: Run, clock: str) -> dict[str, list[float]]:
    """The run's curves, without the errors of the time when it mostly does not land legally."""
    return {
        "evaluations": [row["evaluations"] for row in run.rows],
        clock: [row[clock] for row in run.rows],
        "landing_error_cm": [
            row["landing_error_cm"] if row["legal_rate"] > 0.5 else math.nan for row in run.rows
        ],
    }
