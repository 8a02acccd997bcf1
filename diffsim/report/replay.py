"""Animations of rallies, from the side and from above."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from contextlib import closing
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from diffsim import _extra
from diffsim._files import checked, replacing
from diffsim.physics.simulate import Rollout
from diffsim.physics.world import World
from diffsim.report.stage import (
    INK,
    VIEWS,
    Stage,
    ball_points,
    hues,
    paddles,
    paths_of,
    targets_of,
)
from diffsim.report.track import Track, tracks

if TYPE_CHECKING:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

TRAIL = 0.3  # s of flight behind the ball
DPI = 100
DOTS = 40  # pieces of the trail


def animate(
    world: World,
    rollouts: Rollout | list[Rollout],
    paths: Any = None,
    *,
    path: str | os.PathLike = "rally.gif",
    targets: Any = None,
    fps: int = 25,
    slow: float = 4.0,
) -> Path:
    """Play rollouts one after another, with moving paddles and a fading trail behind the ball.

    A rollout of duration T fills round(T · slow · fps) + 1 frames. The ball is drawn where it is
    at the time of the frame, also just before and after an impact between two grid times.

    Args:
        world, rollouts, paths, targets: as in :func:`diffsim.report.rallies`.
        path: the file, .gif or .mp4 (this one needs ``imageio[ffmpeg]``); its folder is made.
        fps: frames a second; a GIF counts in 1/100 s and shows no more than 50.
        slow: how many seconds of film a second of play takes.

    Returns:
        The path written.

    Raises:
        ValueError: another suffix; fps or slow out of range; paths that do not match.
        ImportError: .mp4 without imageio[ffmpeg].

    >>> import tempfile
    >>> from diffsim.physics import BallState, simulate
    >>> drop = simulate(World.create(), BallState.create([0.0, 0.0, 0.88]), duration=0.2)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     animate(World.create(), drop, path=f"{folder}/drop.gif", slow=1.0).name
    'drop.gif'
    """
    file = checked(path, (".gif", ".mp4"))
    gif = file.suffix.lower() == ".gif"
    write = _write_gif if gif else _video_writer()
    if not 1 <= fps <= (fastest := 50 if gif else 240):
        raise ValueError(f"fps: expected in [1, {fastest}], got {fps}")
    if not 0 < slow < np.inf:
        raise ValueError(f"slow: expected in (0, inf), got {slow}")
    played = tracks(rollouts)
    own = paths_of(world, paths, len(played))
    film = _Film(world, played, own, slow * fps, targets_of(targets))
    with replacing(file) as temporary:
        write(temporary, film, fps)
    return file


class _Film:
    """A sequence of frames (height, width, 3) uint8: what moves, over a background drawn once."""

    def __init__(
        self, world: World, played: list[Track], paths: list, rate: float, targets: np.ndarray
    ):
        from matplotlib.collections import LineCollection

        self.played = played
        self.times = [np.linspace(0, t.end, round(t.end * rate) + 1) for t in played]
        self.discs = [
            paddles(world, own, times, track.dtype)
            for own, times, track in zip(paths, self.times, played)
        ]
        self.frames = [(n, k) for n, times in enumerate(self.times) for k in range(len(times))]
        points = [disc for discs in self.discs for disc in discs]
        self.stage = Stage.create(world, [*ball_points(played), *points, targets], dpi=DPI)
        self.stage.legend(world, self.stage.crosses(targets))
        self.hues = hues(world)
        driven = [hue for hue, s in zip(self.hues, world.surfaces) if s.driven]
        self.artists: dict[str, Any] = {
            view: (
                [
                    self.stage.polygons(
                        view, np.zeros((0, 3, 3)), facecolor=(hue, 0.25), edgecolor=hue,
                        linewidth=1.6, zorder=3,
                    )
                    for hue in driven
                ],
                axes.add_collection(LineCollection([], linewidths=2, zorder=3), autolim=False),
                axes.scatter([], [], s=22, edgecolors="white", linewidths=0.6, zorder=4),
                axes.plot([], [], "o", color=INK, mec="white", mew=0.5, zorder=5)[0],
            )
            for view, axes in self.stage.panels.items()
        }  # fmt: skip
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

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, index: int) -> np.ndarray:
        number, frame = self.frames[index]
        track, now = self.played[number], self.times[number][frame]
        hits = track.hit_times
        trail = np.linspace(max(0.0, now - TRAIL), now, DOTS + 1)
        trail = np.sort(np.r_[trail, hits[(hits > trail[0]) & (hits < now)]])
        points, _ = track(trail)
        seen = hits <= now
        colors = [self.hues[i] for i in track.hit_surfaces[seen]]
        fade = np.zeros((len(trail) - 1, 4))
        fade[:, 3] = 1 - (now - trail[1:]) / TRAIL
        for view, (discs, line, marks, ball) in self.artists.items():
            plane = list(VIEWS[view])
            for disc, shapes in zip_longest(discs, self.discs[number]):  # none without a path
                disc.set_verts([] if shapes is None else [shapes[frame][:, plane]])
            line.set_segments(np.stack([points[:-1], points[1:]], axis=1)[..., plane])
            line.set_color(fade)
            marks.set_offsets(track.hit_positions[seen][:, plane])
            marks.set_facecolors(colors)
            ball.set_data(points[-1:, plane].T)
        name = f"rally {number + 1}, " if len(self.played) > 1 else ""
        self.clock.set_text(f"{name}t = {now:.3f} s")
        self.canvas.restore_region(self.background)
        for artist in self.moving:
            artist.axes.draw_artist(artist)
        return np.asarray(self.canvas.buffer_rgba())[..., :3].copy()


def _write_gif(file: Path, film: _Film, fps: int) -> None:
    from PIL import Image

    # One palette for all frames, so that nothing flickers and only what moves is stored: the mean
    # colours of the 255 fullest of 32³ bins. (Pillow's own lookup is off by 3/255 on plain areas.)
    sample = np.concatenate([film[i] for i in np.linspace(0, len(film) - 1, 12).astype(int)])
    bins, size = _bins(sample).ravel(), 1 << 15
    counts = np.bincount(bins, minlength=size)
    kept = np.argsort(-counts)[: min(255, np.count_nonzero(counts))]
    sums = [np.bincount(bins, sample[..., c].ravel(), minlength=size) for c in range(3)]
    palette = np.stack(sums, axis=1)[kept] / counts[kept, None]
    centers = 8 * np.stack(np.unravel_index(np.arange(size), (32, 32, 32)), axis=1) + 4
    nearest = (np.square(palette).sum(axis=1) - 2 * centers @ palette.T).argmin(axis=1)
    nearest[kept] = np.arange(len(kept))

    def picture(index: int) -> Image.Image:
        found = Image.fromarray(nearest.astype(np.uint8)[_bins(film[index])])
        found.putpalette(np.round(palette).astype(np.uint8).tobytes())
        return found

    pictures = (picture(index) for index in range(len(film)))
    ends = np.round(np.arange(len(film) + 1) * 100 / fps)  # whole 1/100 s, without drift
    next(pictures).save(
        file, save_all=True, append_images=pictures, loop=0,
        duration=(10 * np.diff(ends)).astype(int).tolist(),
    )  # fmt: skip


def _bins(frame: np.ndarray) -> np.ndarray:
    red, green, blue = np.moveaxis(frame >> 3, -1, 0).astype(np.uint16)
    return (red << 10) | (green << 5) | blue


def _video_writer() -> Callable[[Path, _Film, int], None]:
    try:
        import imageio_ffmpeg
    except ImportError as error:
        raise _extra.missing("path: .mp4", "imageio[ffmpeg]", "video") from error

    def write(file: Path, film: _Film, fps: int) -> None:
        height, width, _ = film[0].shape
        writer = imageio_ffmpeg.write_frames(
            str(file), (width, height), fps=fps, macro_block_size=2
        )
        with closing(writer):
            with warnings.catch_warnings():  # JAX warns of any fork; this one execs at once
                warnings.filterwarnings("ignore", "os.fork", RuntimeWarning)
                writer.send(None)
            for i in range(len(film)):
                writer.send(film[i])

    return write
