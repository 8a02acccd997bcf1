"""The world to scale, seen from the side and from above: what rally figures are drawn on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import cycle
from typing import TYPE_CHECKING, Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from diffsim._files import new_figure
from diffsim._types import ArrayLike
from diffsim.physics.state import Pose
from diffsim.physics.surfaces import Path, Surface
from diffsim.physics.world import World
from diffsim.report.track import Track

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

Paths: TypeAlias = Path | tuple[Path, ...] | Sequence[Path | tuple[Path, ...] | None] | None
VIEWS = {"side": (0, 2), "above": (0, 1)}  # world axes along the panel's x and y
COLORS = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#E69F00",
    "#56B4E9",
    "#A6761D",
    "#6E6E6E",
)
BY_NAME = {"table": COLORS[0], "net": COLORS[7], "floor": COLORS[6], "paddle": COLORS[1]}
INK = "#202020"
# What a picture needs is computed once: optimising it would take longer than running it.
QUICK: dict[str, Any] = {"xla_backend_optimization_level": 0}
SOLID = 0.03  # m; drawn depth of the solid behind a one-sided surface
UNBOUNDED = 100.0  # m; drawn extent of an unbounded surface
WIDTH, HEIGHT = 6.2, 6.4  # inches; the most the two panels may take


def hues(world: World) -> list[str]:
    """The colour of each surface and of its impacts: the same for a table in every figure.

    >>> hues(World.create())
    ['#0072B2', '#6E6E6E', '#A6761D']
    """
    others = cycle([color for color in COLORS if color not in BY_NAME.values()])
    return [BY_NAME.get(surface.name) or next(others) for surface in world.surfaces]


def light(hue: str) -> tuple[float, float, float]:
    """The pale tint a surface is filled with."""
    from matplotlib.colors import to_rgb

    red, green, blue = (0.15 * c + 0.85 for c in to_rgb(hue))
    return red, green, blue


def outline(
    surface: Surface, position: np.ndarray, rotation: np.ndarray, far: float = UNBOUNDED
) -> np.ndarray:
    """The edge of a patch in the world frame, (…, k, 3): ρ(θ) = min(R, a/|cos θ|, b/|sin θ|).

    Args:
        position, rotation: of the patch, (…, 3) and (…, 3, 3).
        far: half extent of an unbounded one, m.
    """
    a, b = np.minimum(np.asarray(surface.half_extents, float), far)
    corner = np.arctan2(b, a)
    theta = np.sort(
        np.r_[
            np.linspace(-np.pi, np.pi, 64, endpoint=False),
            corner,
            -corner,
            np.pi - corner,
            corner - np.pi,
        ]
    )
    along = np.stack([np.cos(theta), np.sin(theta)])
    reach = np.array([[a], [b]]) / np.maximum(np.abs(along), 1e-9)
    edge = np.minimum(reach.min(axis=0), float(surface.disk_radius)) * along
    return position[..., None, :] + np.swapaxes(rotation[..., :2] @ edge, -1, -2)


@partial(jax.jit, compiler_options=QUICK)
def _posed(path: Path, times: jax.Array) -> Pose:
    return jax.vmap(path)(times)


def poses(path: Path, times: np.ndarray, dtype) -> Pose:
    """The poses of a path, leaves (n, …), in the precision of the rollout."""
    count = len(times)
    padded = np.r_[times, np.zeros(-count % 32)]  # few shapes: every new one is compiled for
    if jax.tree_util.all_leaves([path]):  # a plain function
        path = jax.tree_util.Partial(path)
    found = _posed(path, jnp.asarray(padded, dtype))
    return jax.tree.map(lambda leaf: np.asarray(leaf)[:count], found)


def paddles(world: World, path: tuple[Path, ...], times: np.ndarray, dtype) -> list[np.ndarray]:
    """Outlines (n, k, 3) of each driven surface at ``times``; none where there is no path."""
    driven = [surface for surface in world.surfaces if surface.driven]
    found: list[Any] = [poses(one, times, dtype) for one in path]
    return [outline(surface, p.position, p.rotation) for surface, p in zip(driven, found)]


def paths_of(world: World, paths: Paths, count: int) -> list[tuple[Path, ...]]:
    """The paths of each of ``count`` rollouts: a list has one entry each, else all share one.

    Raises:
        ValueError: the wrong number of entries, or of paths in one.
    """
    entries = paths if isinstance(paths, list) else [paths] * count
    if len(entries) != count:
        raise ValueError(
            f"paths: expected one for each of {count} rollouts, got a list of {len(entries)}"
        )
    tuples = [
        entry if isinstance(entry, tuple) else () if entry is None else (entry,)
        for entry in entries
    ]
    for entry in tuples:
        if entry and len(entry) != world.driven_count:
            raise ValueError(
                f"paths: expected one for each of {world.driven_count} driven surfaces, "
                f"got {len(entry)}"
            )
    return tuples


def targets_of(targets: ArrayLike | None) -> np.ndarray:
    """Points to mark, (k, 3), of (3,), (k, 3) or None.

    Raises:
        ValueError: another shape.
    """
    targets = np.zeros((0, 3)) if targets is None else np.asarray(targets, float)
    if targets.ndim not in (1, 2) or targets.shape[-1] != 3:
        raise ValueError(f"targets: expected shape (3,) or (k, 3), got {targets.shape}")
    return targets.reshape(-1, 3)


def plain(axes: Axes, title: str = "") -> None:
    """The look all panels share: small type, no box."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)
    axes.xaxis.label.set_fontsize(9)
    axes.yaxis.label.set_fontsize(9)
    axes.set_title(title, loc="left", size=8)


def logarithmic(axis: Axis) -> None:
    """Ticks of a logarithmic axis as plain numbers, enough of them to read it by."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

    low, high = axis.get_view_interval()
    few = high < 10 * low  # within a decade a linear choice of ticks is the readable one
    axis.set_major_locator(MaxNLocator(4) if few else LogLocator(10, (1, 2, 5), numticks=8))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


@dataclass(frozen=True)
class Stage:
    """A figure with the two panels and the fixed surfaces in them.

    Attributes:
        figure: it has an Agg canvas and a constrained layout.
        panels: the axes by name: "side", "above", and "time" where there is room for it.
    """

    figure: Figure
    panels: dict[str, Axes]

    @classmethod
    def create(
        cls, world: World, points: list[np.ndarray], *, extra: float = 0.0, dpi: float = 200
    ) -> Stage:
        """Panels at equal scale that hold the bounded surfaces and all ``points`` (…, 3).

        Args:
            extra: height of a panel "time" below, inches; 0 for none.
        """
        low, high = bounds(world, points)
        span = high - low
        scale = min(WIDTH / span[0], HEIGHT / (span[1] + span[2]))
        heights = [scale * span[2], scale * span[1], *([extra] if extra else [])]
        size = np.array([max(scale * span[0], 4.0) + 0.8, sum(heights) + 1.5])
        width, height = 2 * np.round(size * dpi / 2) / dpi  # even pixels: video needs them
        figure = new_figure(width, height, dpi=dpi)
        grid = figure.add_gridspec(len(heights), 1, height_ratios=heights)
        side = figure.add_subplot(grid[0])
        above = figure.add_subplot(grid[1], sharex=side)
        for axes, view, label in ((side, "side", "z (m)"), (above, "above", "y (m)")):
            h, v = VIEWS[view]
            axes.set(aspect="equal", ylabel=label, xlim=(low[h], high[h]), ylim=(low[v], high[v]))
            plain(axes, f"from {'the side' if view == 'side' else view}")
        side.tick_params(labelbottom=False)
        above.set_xlabel("x (m)")
        stage = cls(figure, {"side": side, "above": above})
        if extra:
            stage.panels["time"] = figure.add_subplot(grid[2])
            plain(stage.panels["time"], "over time")
        for surface, hue in zip(world.surfaces, hues(world)):
            if not surface.driven:
                stage._fixed(surface, hue)
        return stage

    def _fixed(self, surface: Surface, hue: str) -> None:
        position, rotation = np.asarray(surface.center), np.asarray(surface.rotation)
        face = outline(surface, position, rotation)
        back = face - (0.0 if surface.two_sided else SOLID) * rotation[:, 2]
        sides = np.stack([face, np.roll(face, -1, 0), np.roll(back, -1, 0), back], axis=1)
        for view in VIEWS:
            # Painted in order of nearness to the eye: z from above, −y from the side.
            order = 1 + 1e-3 * (position[2] if view == "above" else -position[1])
            solid: dict[str, Any] = {"color": light(hue), "linewidth": 0.4, "zorder": order}
            self.polygons(view, sides, **solid)
            self.polygons(view, face[None], **solid)
            self.polygons(
                view, face[None], facecolor="none", edgecolor=hue, linewidth=1.2, zorder=order
            )

    def polygons(self, view: str, shapes: np.ndarray, **style) -> Any:
        """Draw outlines (n, k, 3) projected to one view."""
        from matplotlib.collections import PolyCollection

        drawn = PolyCollection(list(shapes[..., VIEWS[view]]), **style)
        return self.panels[view].add_collection(drawn, autolim=False)

    def plot(self, points: np.ndarray, *args, **style) -> None:
        """``Axes.plot`` of points (n, 3) in both views."""
        for view in VIEWS:
            self.panels[view].plot(*points[:, VIEWS[view]].T, *args, **style)

    def crosses(self, targets: np.ndarray) -> list[Any]:
        """Mark targets (k, 3); what to show of them in the legend."""
        from matplotlib.lines import Line2D

        if not len(targets):
            return []
        self.plot(targets, "x", color=INK, ms=8, mew=2, zorder=5)
        return [Line2D([], [], marker="x", ls="", color=INK, mew=2, label="target")]

    def legend(self, world: World, shown: list[Any]) -> None:
        """Surfaces and the given handles, below the panels."""
        from matplotlib.patches import Patch

        surfaces = [
            Patch(facecolor=light(hue), edgecolor=hue, label=surface.name)
            for surface, hue in zip(world.surfaces, hues(world))
        ]
        columns = max(2, int(self.figure.get_figwidth() / 1.3))
        self.figure.legend(
            handles=surfaces + shown,
            loc="outside lower center",
            ncols=columns,
            frameon=False,
            fontsize=8,
            handlelength=1.4,
            columnspacing=1.2,
        )


def bounds(world: World, points: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest corner, (3,) each, of what there is to see."""
    seen = np.concatenate([np.reshape(p, (-1, 3)) for p in points])
    middle = (seen.min(axis=0) + seen.max(axis=0)) / 2
    shown = [seen]
    for surface in world.surfaces:
        if surface.driven:
            continue
        position, rotation = np.asarray(surface.center), np.asarray(surface.rotation)
        extent = min(np.max(surface.half_extents), float(surface.disk_radius))
        if np.isfinite(extent):
            shown.append(outline(surface, position, rotation))
        else:  # the point of the plane nearest to what is seen
            normal = rotation[:, 2]
            shown.append((middle - normal * (normal @ (middle - position)))[None])
    everything = np.concatenate(shown)
    low, high = everything.min(axis=0) - 0.08, everything.max(axis=0) + 0.08
    width = 0.6 * max(high[1:] - low[1:])  # a narrow scene is widened
    widen = np.array([max(0.0, width - (high[0] - low[0])) / 2, 0.0, 0.0])
    return low - widen, high + widen


def ball_points(tracks: list[Track]) -> list[np.ndarray]:
    """Everywhere the balls go, to be seen."""
    return [track.curve()[1] for track in tracks]
