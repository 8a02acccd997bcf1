"""Figures: rallies seen from the side and from above, one scene in time, learning curves."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from diffsim import _check
from diffsim._files import FIGURES, checked, new_figure, save_figure
from diffsim._types import ArrayLike
from diffsim.physics.simulate import Rollout
from diffsim.physics.world import World
from diffsim.report.stage import (
    COLORS,
    INK,
    VIEWS,
    Paths,
    Stage,
    ball_points,
    hues,
    logarithmic,
    paddles,
    paths_of,
    plain,
    targets_of,
)
from diffsim.report.track import Track, tracks

if TYPE_CHECKING:
    from diffsim.gradients import Comparison

SPEED = COLORS[3]
GHOSTS = 9  # faint paddles along the path
NAMED = 8  # up to this many rallies have a colour and a legend entry each

AXES = {
    "step": "training step",
    "evaluations": "rollouts simulated",
    "control_steps": "control steps simulated",
    "seconds": "wall time (s)",
}
PANELS: tuple[tuple[str, tuple[tuple[str, str, str], ...]], ...] = (
    ("loss", (("loss", "-", "loss"),)),
    ("rate", (("hit_rate", "-", "paddle hit"), ("legal_rate", "--", "legal landing"))),
    ("landing error (cm)", (("landing_error_cm", "-", "landing error"),)),
    ("return of an episode", (("return", "-", "return"),)),
    ("time without a drop (s)", (("seconds_up", "-", "time without a drop"),)),
)


def rallies(
    world: World,
    rollouts: Rollout | list[Rollout],
    paths: Paths = None,
    *,
    path: str | os.PathLike,
    targets: ArrayLike | None = None,
    title: str | None = None,
) -> Path:
    """Draw rollouts to scale from the side (x–z) and from above (x–y).

    Every surface is drawn to scale, the paddles where they hit and faintly along their paths;
    impacts carry the colour of the surface that was hit.

    Args:
        world: the surfaces.
        rollouts: one, a list, or a record whose leaves have leading batch axes.
        paths: what :func:`diffsim.physics.simulate` took, for all rollouts, or a list of those,
            one for each; None leaves the paddles out.
        path: the file, .png, .pdf or .svg; its folder is made.
        targets: (3,) or (k, 3), m, marked by crosses.
        title: above the figure.

    Returns:
        The path written.

    Raises:
        ValueError: another suffix; paths that do not match; targets of another shape.
        TypeError: not rollouts.

    >>> import tempfile
    >>> from diffsim.physics import BallState, simulate
    >>> drop = simulate(World.create(), BallState.create([0.0, 0.0, 0.88]), duration=0.2)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     rallies(World.create(), drop, path=f"{folder}/drop.png").name
    'drop.png'
    """
    file = checked(path, FIGURES)
    stage = _played(world, tracks(rollouts), paths, targets)
    if title is not None:
        stage.figure.suptitle(title, size=10)
    return save_figure(stage.figure, file)


def scene(world: World, rollout: Rollout, paths: Paths = None, *, path: str | os.PathLike) -> Path:
    """Draw one rollout from the side and from above, and its height and speed over time.

    Args:
        world, paths, path: as in :func:`rallies`.
        rollout: exactly one.

    Returns:
        The path written.

    Raises:
        ValueError: a batch of rollouts; another suffix; paths that do not match.

    >>> import tempfile
    >>> from diffsim.physics import BallState, simulate
    >>> drop = simulate(World.create(), BallState.create([0.0, 0.0, 0.88]), duration=0.2)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     scene(World.create(), drop, path=f"{folder}/drop.svg").name
    'drop.svg'
    """
    file = checked(path, FIGURES)
    track = Track.of(rollout)
    stage = _played(world, [track], paths, None, extra=1.5)
    height = stage.panels["time"]
    speed = height.twinx()
    times, positions, velocities = track.curve()
    height.plot(times, positions[:, 2], color=INK, linewidth=1.2)
    speed.plot(times, np.linalg.norm(velocities, axis=-1), color=SPEED, linewidth=1.2)
    hue = [hues(world)[index] for index in track.hit_surfaces]
    for time, position, own in zip(track.hit_times, track.hit_positions, hue):
        height.axvline(time, color=own, linewidth=0.6, alpha=0.5)
        height.plot(time, position[2], "o", color=own, mec="white", mew=0.6, ms=5)
    height.set(xlabel="t (s)", ylabel="height (m)", xlim=(0, max(track.end, 1e-9)))
    height.margins(y=0.12)
    speed.set_ylim(bottom=0)
    speed.set_ylabel("speed (m/s)", color=SPEED)
    plain(speed)
    speed.tick_params(axis="y", colors=SPEED)
    return save_figure(stage.figure, file)


def learning_curves(
    metrics: Mapping[str, Any],
    *,
    path: str | os.PathLike,
    x: str = "step",
    band: str = "range",
) -> Path:
    """Draw loss, hit and legal-landing rates and landing error of one or several trainings.

    Several runs under one label (seeds) become their median and a band. Values that are not
    finite are left out, so a column may be filled only where it was measured.

    Args:
        metrics: label -> run or list of runs; a run maps columns to sequences of equal length.
            Columns: the one named by ``x``, and any of loss, hit_rate, legal_rate (fractions)
            and landing_error_cm.
        path: the file, .png, .pdf or .svg.
        x: "step", "evaluations", "control_steps" or "seconds".
        band: "range" (smallest to largest) or "quartiles" (25 % to 75 %).

    Returns:
        The path written.

    Raises:
        ValueError: another suffix, ``x`` or ``band``; a run without column ``x``; columns of
            unequal length; nothing to draw.

    >>> import tempfile
    >>> run = {"step": [0, 10, 20], "loss": [1.0, 0.3, 0.1], "hit_rate": [0.0, 0.8, 1.0]}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     learning_curves({"analytic": run}, path=f"{folder}/curves.svg").name
    'curves.svg'
    """
    from matplotlib.lines import Line2D
    from matplotlib.ticker import EngFormatter

    file = checked(path, FIGURES)
    quantiles = {"range": (0, 0.5, 1), "quartiles": (0.25, 0.5, 0.75)}
    for name, value, known in (("x", x, AXES), ("band", band, quantiles)):
        _check.one_of(name, value, known)
    labelled = {
        label: [runs] if isinstance(runs, Mapping) else list(runs)
        for label, runs in metrics.items()
    }
    columns = sorted({column for runs in labelled.values() for run in runs for column in run})
    panels = [
        (name, shown)
        for name, lines in PANELS
        if (shown := [line for line in lines if line[0] in columns])
    ]
    if not panels:
        raise ValueError(f"metrics: expected a column to draw, got {', '.join(columns) or 'none'}")

    figure = new_figure(2.6 * len(panels) + 0.4, 2.6, dpi=200)
    for axes, (name, lines) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels):
        for number, (label, runs) in enumerate(labelled.items()):
            hue = COLORS[number % len(COLORS)]
            for column, dashes, _ in lines:
                curve = run_quantiles(label, runs, x, column, quantiles[band])
                if curve is None:
                    continue
                at, (low, middle, high) = curve
                axes.plot(at, middle, dashes, color=hue, linewidth=1.3)
                if len(runs) > 1:
                    axes.fill_between(at, low, high, color=hue, alpha=0.18, linewidth=0)
        axes.set(xlabel=AXES[x], ylabel=name)
        if x in ("evaluations", "control_steps"):
            axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        axes.grid(alpha=0.25, linewidth=0.5)
        plain(axes)
        if name == "rate":
            axes.set_ylim(-0.03, 1.03)
            axes.legend(
                handles=[Line2D([], [], color=INK, ls=d, lw=1.3, label=t) for _, d, t in lines],
                loc="lower left",
                bbox_to_anchor=(0, 1),
                ncols=2,
                frameon=False,
                fontsize=7,
                handlelength=2.2,
                borderaxespad=0.2,
            )
        elif name.startswith("landing") and axes.lines:
            axes.set_yscale("log")
            logarithmic(axes.yaxis)
        if not axes.lines:
            axes.text(0.5, 0.5, "none yet", transform=axes.transAxes, ha="center", size=8)
    handles = [
        Line2D([], [], color=COLORS[number % len(COLORS)], lw=1.6, label=label)
        for number, label in enumerate(labelled)
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False, fontsize=8)
    return save_figure(figure, file)


def comparison(found: Comparison, *, path: str | os.PathLike) -> Path:
    """Draw estimators side by side: bias beside deviation, and squared error against evaluations.

    Args:
        found: of :func:`diffsim.gradients.compare`; rank-shaped objectives are left out.
        path: the file, .png, .pdf or .svg.

    Raises:
        ValueError: another suffix.
    """
    file = checked(path, FIGURES)
    shown = [row for row in found.rows if not np.isnan(row.bias.value)]
    figure = new_figure(11, 0.4 * len(shown) + 2.5, dpi=200)
    bars, cost = figure.subplots(1, 2)
    place = np.arange(len(shown))
    bars.barh(place - 0.2, [row.bias.value for row in shown], 0.4, color=COLORS[1], label="bias")
    deviation = [row.variance.value**0.5 for row in shown]
    bars.barh(place + 0.2, deviation, 0.4, color=COLORS[0], label="standard deviation")
    bars.set_yticks(place, [row.name for row in shown])
    bars.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, frameon=False, fontsize=8)
    for row in shown:
        cost.plot(row.evaluations, row.mse.value, "o", color=COLORS[0])
        cost.annotate(row.name, (row.evaluations, row.mse.value), (4, 4), size=8,
                      textcoords="offset points")  # fmt: skip
    cost.set(xlabel="evaluations", ylabel="mean squared error", xscale="log", yscale="log")
    cost.margins(0.15)
    for axes in (bars, cost):
        plain(axes)
    for axis in (cost.xaxis, cost.yaxis):
        logarithmic(axis)
    return save_figure(figure, file)


def _played(world: World, played: list[Track], paths, targets, extra=0.0) -> Stage:
    """A stage with rollouts, their impacts and paddles, the targets and the legend."""
    from matplotlib import colormaps
    from matplotlib.lines import Line2D

    targets = targets_of(targets)
    few, colors = len(played) <= NAMED, hues(world)
    driven = [i for i, surface in enumerate(world.surfaces) if surface.driven]
    ghosts, struck = [], []  # (surface, outlines)
    for number, (track, own) in enumerate(zip(played, paths_of(world, paths, len(played)))):
        times = np.r_[np.linspace(0, track.end, GHOSTS), track.hit_times]
        for i, shapes in zip(driven, paddles(world, own, times, track.dtype)):
            struck.append((i, shapes[GHOSTS:][track.hit_surfaces == i]))
            if number == 0 or isinstance(paths, list):  # a shared path once
                ghosts.append((i, shapes[:GHOSTS]))

    lines = ball_points(played)
    stage = Stage.create(
        world, [*lines, targets, *(shapes for _, shapes in ghosts + struck)], extra=extra
    )
    for group, alpha, width in (
        (ghosts, 0.4 / max(len(ghosts), 1) ** 0.5, 0.7),
        (struck, 1.0 if few else 0.4, 1.4 if few else 0.7),
    ):
        for (index, shapes), view in product(group, VIEWS):
            edge = (colors[index], alpha)
            stage.polygons(view, shapes, facecolor="none", edgecolor=edge, lw=width, zorder=2.5)
    shown = []
    for number, (track, line) in enumerate(zip(played, lines)):
        hue = INK if len(played) == 1 else colormaps["viridis"](0.85 * number / (len(played) - 1))
        stage.plot(line, color=hue, linewidth=1.2 if few else 0.6, alpha=1 if few else 0.6)
        for index in np.unique(track.hit_surfaces):
            stage.plot(
                track.hit_positions[track.hit_surfaces == index],
                "o",
                color=colors[index],
                mec="white",
                mew=0.6,
                ms=5 if few else 3,
                zorder=4,
            )
        stage.plot(line[:1], "o", color="white", mec=hue, mew=1.2, ms=5, zorder=4)
        if few:
            label = "ball" if len(played) == 1 else f"ball {number + 1}"
            shown.append(Line2D([], [], color=hue, lw=1.2, label=label))
    dot: dict[str, Any] = {"marker": "o", "ls": "", "ms": 5}
    shown.append(Line2D([], [], color="white", mec=INK, mew=1.2, label="start", **dot))
    shown.append(Line2D([], [], color="0.5", label="impact (colour of surface)", **dot))
    stage.legend(world, shown + stage.crosses(targets))
    return stage


def run_quantiles(
    label: str, runs: Sequence[Mapping], x: str, column: str, levels: tuple[float, ...]
) -> tuple[np.ndarray, np.ndarray] | None:
    """Common x (n,) and quantiles (3, n) over the runs that have the column, or None."""
    known = []
    for run in runs:
        if x not in run:
            raise ValueError(f"metrics: expected a column {x!r} in {label!r}, got {', '.join(run)}")
        if column not in run:
            continue
        at, value = np.asarray(run[x], float), np.asarray(run[column], float)
        if at.ndim != 1 or at.shape != value.shape:
            raise ValueError(
                f"metrics: expected {column!r} of {label!r} to be as long as {x!r} {at.shape}, "
                f"got {value.shape}"
            )
        good = np.isfinite(at) & np.isfinite(value)
        if column == "landing_error_cm":
            good &= value > 0
        if good.any():
            order = np.argsort(at[good], kind="stable")
            known.append((at[good][order], value[good][order]))
    if not known:
        return None
    at = np.unique(np.concatenate([at for at, _ in known]))
    low, high = max(at[0] for at, _ in known), min(at[-1] for at, _ in known)
    at = at[(at >= low) & (at <= high)]
    if not len(at):
        return None
    return at, np.quantile([np.interp(at, *one) for one in known], levels, axis=0)
