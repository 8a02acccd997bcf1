"""Animations of rallies, from the side and from above."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np

from diffsim import _extra
from diffsim._files import checked, replacing
from diffsim._types import ArrayLike
from diffsim.physics.simulate import Rollout
from diffsim.physics.world import World
from diffsim.report.picture import Picture
from diffsim.report.stage import Paths, ball_points, paddles, paths_of, targets_of
from diffsim.report.track import Track, tracks

TRAIL = 0.3  # s of flight behind the ball
DOTS = 40  # pieces of the trail


def animate(
    world: World,
    rollouts: Rollout | list[Rollout],
    paths: Paths = None,
    *,
    path: str | os.PathLike = "rally.gif",
    targets: ArrayLike | None = None,
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
    """A sequence of frames (height, width, 3) uint8."""

    def __init__(
        self, world: World, played: list[Track], paths: list, rate: float, targets: np.ndarray
    ):
        self.played = played
        self.times = [np.linspace(0, t.end, round(t.end * rate) + 1) for t in played]
        self.discs = [
            paddles(world, own, times, track.dtype)
            for own, times, track in zip(paths, self.times, played)
        ]
        self.frames = [(n, k) for n, times in enumerate(self.times) for k in range(len(times))]
        points = [disc for discs in self.discs for disc in discs]
        self.picture = Picture(world, [*ball_points(played), *points], targets)

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
        fade = np.zeros((len(trail) - 1, 4))
        fade[:, 3] = 1 - (now - trail[1:]) / TRAIL
        name = f"rally {number + 1}, " if len(self.played) > 1 else ""
        return self.picture.draw(
            points[-1],
            [shapes[frame] for shapes in self.discs[number]],
            f"{name}t = {now:.3f} s",
            trail=points,
            fade=fade,
            marks=track.hit_positions[seen],
            colors=[self.picture.hues[i] for i in track.hit_surfaces[seen]],
        )


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
        file,
        save_all=True,
        append_images=pictures,
        loop=0,
        duration=(10 * np.diff(ends)).astype(int).tolist(),
    )


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
