"""The comparison of gradients as a person sees it: progress, tables, figures, and an answer."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
from rich.console import Console

from diffsim._files import new_figure, replacing, save_figure, writable
from diffsim.report import html, progress
from diffsim.report.stage import COLORS, INK, logarithmic, plain
from studies import harness
from studies.cases import CASES
from studies.gradients import sweep, verdict

CaseName = Literal["ball-with-wall", "pushing", "friction", "tennis", "chaos"]
TITLE = "in units of the smoothed loss's gradient"
LABELS = {
    "horizon": "horizon (s)", "bounces": "bounces", "contact": "contact model",
    "radius": "paddle radius (m)", "sigma": "noise σ", "samples": "samples",
}  # fmt: skip
PANELS = {
    "relative_bias": "bias / gradient",
    "relative_deviation": "deviation / gradient",
    "seconds_to_tenth": "seconds to 10 % error",
}


@dataclass(frozen=True)
class Options:
    """Compare gradient estimators on a ball kept up by a paddle, or on a published case.

    By default the base setting is varied along one axis at a time. Every finished measurement is
    kept in OUT/finished.json and reused, so an interrupted run goes on where it stopped.
    """

    case: CaseName | None = None
    """Run this published case instead, and print its figures beside ours."""
    effort: int | None = None
    """Trials, batches, draws or iterations of the case; None takes as many as its source."""
    methods: tuple[str, ...] = ("pathwise", "score-function")
    """Names in diffsim.gradients.METHODS, or all."""
    base: sweep.Setting = dataclasses.field(default_factory=sweep.Setting)
    """The setting from which one axis at a time is varied."""
    horizon: tuple[float, ...] = (0.4, 0.8, 1.6)
    """Horizons, s."""
    bounces: tuple[int, ...] = (1, 2, 4, 8)
    """Numbers of bounces within the horizon."""
    contact: tuple[str, ...] = ("impulse", "compliant:100", "compliant:1000", "smoothed:1000")
    """Contact models: impulse, compliant:STIFFNESS (N/m), smoothed:SHARPNESS (1/m)."""
    radius: tuple[float, ...] = (0.08, 0.25)
    """Radii of the paddle, m; the ball misses the small one now and then."""
    sigma: tuple[float, ...] = (0.01, 0.03, 0.1, 0.3)
    """Standard deviations of the noise on the weights."""
    samples: tuple[int, ...] = (64, 256)
    """Samples of one estimate."""
    full: bool = False
    """All combinations of the axes, not one axis at a time."""
    replications: int = 128
    """Independent estimates behind each figure."""
    reference_samples: int = 65536
    """Evaluations behind each reference gradient."""
    reference_seconds: float = 300.0
    """Time limit of a reference gradient, which then rests on what was evaluated."""
    seed: int = 0
    """Seed of everything drawn at random."""
    out: Path = Path("runs/gradients")
    """Folder for the table (CSV, JSON) and the figures."""


def run(options: Options, console: Console | None = None) -> tuple[bool, list[dict[str, Any]]]:
    """Do what the options say: whether no published figure is missed, and the table's rows.

    Raises:
        ValueError: an option that cannot be used.
        OSError: the folder cannot be written.
    """
    console = console or Console()
    writable(options.out / "comparison.json")
    return _case(options, console) if options.case else _sweep(options, console)


def _case(options: Options, console: Console) -> tuple[bool, list[dict[str, Any]]]:
    case = CASES[str(options.case)]
    console.print(f"{case.about}\nSource: {case.source}")
    with progress.waiting("compiling and running"):
        rows = case.rows(jax.random.key(options.seed), options.effort)
    told_rows = (
        {"what": r.what, "published": r.published and str(r.published), "ours": str(r.ours),
         "": r.verdict} for r in rows
    )  # fmt: skip
    harness.show(case.name, told_rows, console)
    if case.note:
        console.print(case.note)
    told = [row.agrees for row in rows if row.agrees is not None]
    if told:
        console.print(f"{sum(told)} of {len(told)} published figures agree.")
    saved = [
        {
            "what": row.what,
            "published": str(row.published or ""),
            **dataclasses.asdict(row.ours),
            "verdict": row.verdict,
        }
        for row in rows
    ]
    _save(options.out / case.name, saved, console)
    return all(told), saved


def _sweep(options: Options, console: Console) -> tuple[bool, list[dict[str, Any]]]:
    axes = {axis: getattr(options, axis) for axis in verdict.AXES}
    points = sweep.settings(options.base, axes, options.full)
    methods = sweep.names(options.methods)
    store = sweep.Store(options.out / "finished.json")
    work = sweep.sweep(
        points, methods, store, seed=options.seed, replications=options.replications,
        reference_samples=options.reference_samples, reference_seconds=options.reference_seconds,
    )  # fmt: skip
    rows: list[dict[str, Any]] = []
    with progress.counting("comparing", len(points) * len(methods), console) as tell:
        for row in work:
            rows.append(row)
            tell(len(rows))
    base = dataclasses.asdict(options.base)
    told = ", ".join(f"{axis} {value}" for axis, value in base.items())
    console.print(f"the base setting: {told}", highlight=False)
    harness.show(TITLE, _shown(rows, base), console)
    answer = verdict.words(rows, base)
    most = options.reference_samples
    answer += [
        f"{row['method']} at {verdict.place(row, base)}: its reference rests on "
        f"{row['reference_evaluations']} of {most} evaluations, as "
        f"{options.reference_seconds:g} s had passed."
        for row in rows
        if row["reference_evaluations"] < most
    ]
    console.print("\nWhen is which gradient right, and what does it cost?")
    for line in answer:
        console.print(f"• {line}", highlight=False, emoji=False)
    _save(options.out / "comparison", rows, console)
    with replacing(options.out / "answer.txt") as file:
        file.write_text("\n".join(answer) + "\n")
    for suffix in (".png", ".pdf"):
        console.print(f"wrote {_draw(rows, base, options.out / f'comparison{suffix}')}")
    console.print(f"wrote {_page(options.out / 'report.html', rows, answer, base)}")
    return True, rows


def _page(
    path: Path,
    rows: Sequence[Mapping[str, Any]],
    answer: Sequence[str],
    base: Mapping[str, Any],
) -> Path:
    """The answer in words, the curves, a table to sort."""
    table = list(_shown(rows, base))
    return html.write(path, "Which gradient, when?", {
        "In words": html.prose(answer),
        "Along each axis": html.figure(
            lambda file: _draw(rows, base, file), "bias, deviation and cost of each method"
        ),
        f"All settings, {TITLE}": html.sortable_table(
            list(table[0]), [list(row.values()) for row in table]
        ),
    })  # fmt: skip


def _shown(rows: Sequence[Mapping[str, Any]], base: Mapping[str, Any]) -> Iterator[harness.Row]:
    for row in rows:
        yield {
            "method": row["method"],
            "setting": verdict.place(row, base),
            "bias": row["relative_bias"],
            "deviation": row["relative_deviation"],
            "cosine": row["cosine"],
            "verdict": row["verdict"],
            "seconds to 10 % error": row["seconds_to_tenth"],
        }


def _save(stem: Path, rows: Sequence[Mapping[str, Any]], console: Console) -> None:
    """One table as CSV and as JSON."""
    for suffix in (".csv", ".json"):
        harness.save(stem.with_name(stem.name + suffix), rows)
    console.print(f"wrote {stem}.csv and .json")


def _band(points: Sequence[tuple[Any, Sequence[Mapping]]], method: str) -> np.ndarray:
    """Ends of the interval of a method's bias at each point, (2, points), NaN where unknown.

    An interval from zero is drawn from a hundredth of its end: the axis is logarithmic.
    """
    ends = []
    for _, group in points:
        row = next((row for row in group if row["method"] == method), None)
        low, high = (np.nan, np.nan) if row is None else (
            row["relative_bias_low"], row["relative_bias_high"]
        )  # fmt: skip
        ends.append((max(low, high / 100), high))
    return np.transpose(ends)


def _draw(rows: Sequence[Mapping[str, Any]], base: Mapping[str, Any], path: Path) -> Path:
    """Bias with its 95 % band, deviation and cost along each axis, one line a method."""
    from matplotlib.lines import Line2D

    axes = [axis for axis in verdict.AXES if len(verdict.varied(rows, base, axis)) > 1]
    axes = axes or ["samples"]
    figure = new_figure(2.5 * len(axes) + 0.6, 6.6, dpi=150)
    panels = figure.subplots(len(PANELS), len(axes), squeeze=False, sharex="col", sharey="row")
    methods = list(dict.fromkeys(row["method"] for row in rows))
    for column, axis in zip(panels.T, axes):
        points = verdict.varied(rows, base, axis)
        places = range(len(points))
        for panel, figure_name in zip(column, PANELS):
            plain(panel)
            panel.set_yscale("log")
            for number, name in enumerate(methods):
                found = [
                    next((row[figure_name] for row in group if row["method"] == name), None)
                    for _, group in points
                ]
                heights = [value or float("nan") for value in found]
                style = "-o" if number < len(COLORS) else "--s"
                hue = COLORS[number % len(COLORS)]
                panel.plot(places, heights, style, ms=4, lw=1.2, color=hue, label=name)
                if figure_name == "relative_bias":
                    low, high = _band(points, name)
                    panel.fill_between(places, low, high, color=hue, alpha=0.18, lw=0)
                    most = np.where(np.isnan(heights), high, np.nan)  # none is to be seen
                    panel.plot(places, most, "v", ms=5, mfc="white", color=hue)
            logarithmic(panel.yaxis)
        column[0].axhline(0.1, color=INK, lw=0.6, ls=":")
        column[-1].set_xlabel(LABELS[axis])
        turned = {"rotation": 30, "ha": "right"} if axis == "contact" else {}
        column[-1].set_xticks(places, [str(value) for value, _ in points], **turned)
    for panel, label in zip(panels[:, 0], PANELS.values()):
        panel.set_ylabel(label)
    hollow: dict[str, Any] = {"ls": "", "marker": "v", "mfc": "white"}
    shown = [
        *panels[0, 0].get_lines()[: 2 * len(methods) : 2],
        Line2D([], [], color=INK, label="no bias seen: at most", **hollow),
        Line2D([], [], color=INK, ls=":", lw=0.6, label="right below, wrong above"),
    ]
    columns = min(4, 1 + len(axes))
    figure.legend(
        handles=shown, loc="outside lower center", ncols=columns, frameon=False, fontsize=8
    )
    return save_figure(figure, path)
