"""One moment of a game as an array of pixels: what moves, over a background drawn once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np

from diffsim.physics.world import World
from diffsim.report.stage import INK, VIEWS, Stage, hues

if TYPE_CHECKING:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

DPI = 100
NOWHERE, UNSEEN = np.zeros((0, 3)), np.zeros((0, 4))


class Picture:
    """The world from the side and from above.

    Args:
        world: its fixed surfaces are the background.
        points: a list of arrays (…, 3), m, of all that the pictures must hold.
        targets: marked in the background, (n, 3), m.
    """

    def __init__(self, world: World, points: list[np.ndarray], targets: np.ndarray = NOWHERE):
        from matplotlib.collections import LineCollection

        self.stage = Stage.create(world, [*points, targets], dpi=DPI)
        self.stage.legend(world, self.stage.crosses(targets))
        self.hues = hues(world)
        driven = [hue for hue, s in zip(self.hues, world.surfaces) if s.driven]
        self.artists: dict[str, Any] = {
            view: (
                [
                    self.stage.polygons(
                        view,
                        np.zeros((0, 3, 3)),
                        facecolor=(hue, 0.25),
                        edgecolor=hue,
                        linewidth=1.6,
                        zorder=3,
                    )
                    for hue in driven
                ],
                axes.add_collection(LineCollection([], linewidths=2, zorder=3), autolim=False),
                axes.scatter([], [], s=22, edgecolors="white", linewidths=0.6, zorder=4),
                axes.plot([], [], "o", color=INK, mec="white", mew=0.5, zorder=5)[0],
            )
            for view, axes in self.stage.panels.items()
        }
        side = self.stage.panels["side"]
        self.clock = side.text(1, 1.02, "", transform=side.transAxes, ha="right", size=8)
        self.moving: list[Any] = [self.clock]  # back to front
        for discs, *others in self.artists.values():
            self.moving += [*discs, *others]
        for artist in self.moving:
            artist.set_animated(True)
        self.canvas = cast("FigureCanvasAgg", self.stage.figure.canvas)
        self.canvas.draw()
        self.background = self.canvas.copy_from_bbox(self.stage.figure.bbox)
        pixels = 2 * float(world.ball.radius) * side.transData.get_matrix()[0, 0]
        for *_, ball in self.artists.values():  # to scale, but never too small to see
            ball.set_markersize(max(5.0, pixels * 72 / DPI))

    def draw(
        self,
        ball: np.ndarray,
        discs: list[np.ndarray],
        text: str,
        *,
        trail: np.ndarray = NOWHERE,
        fade: np.ndarray = UNSEEN,
        marks: np.ndarray = NOWHERE,
        colors: list[str] | None = None,
    ) -> np.ndarray:
        """The pixels, (height, width, 3) uint8.

        Args:
            ball: its position, (3,), m.
            discs: outline of each driven surface, (k, 3), m; none for one that is not shown.
            text: at the upper right.
            trail, fade: of the ball, points (n, 3), m, and the colour of each piece, (n − 1, 4).
            marks, colors: where the ball hit something, (m, 3), m, and the colour of each.
        """
        for view, (shapes, line, dots, point) in self.artists.items():
            plane = list(VIEWS[view])
            for number, shape in enumerate(shapes):
                shape.set_verts([discs[number][:, plane]] if number < len(discs) else [])
            line.set_segments(np.stack([trail[:-1], trail[1:]], axis=1)[..., plane])
            line.set_color(fade)
            dots.set_offsets(marks[:, plane])
            dots.set_facecolors(colors or [])
            point.set_data(ball[None, plane].T)
        self.clock.set_text(text)
        self.canvas.restore_region(self.background)
        for artist in self.moving:
            artist.axes.draw_artist(artist)
        return np.asarray(self.canvas.buffer_rgba())[..., :3].copy()
