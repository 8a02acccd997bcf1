"""What a replay in three dimensions shows, as plain numbers for a page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.spatial.transform import Rotation

from diffsim._types import ArrayLike
from diffsim.physics.surfaces import Path
from diffsim.physics.world import World
from diffsim.report.stage import (
    COLORS,
    QUICK,
    ball_points,
    bounds,
    hues,
    outline,
    poses,
    targets_of,
)
from diffsim.report.track import Track

RATE = 100  # frames of a paddle, points of a ball's curve a second
FAR = 4.0  # m; drawn half extent of an unbounded surface


@dataclass(frozen=True)
class Motion:
    """How paddles, and the arm that may carry one, move.

    Attributes:
        times: of the frames, (f,), s.
        paddles: of each driven surface its centre and a unit quaternion (x, y, z, w), (f, 7).
        links: joints of an arm and its paddle's centre, (f, k, 3), m.
    """

    times: np.ndarray
    paddles: list[np.ndarray]
    links: np.ndarray | None = None

    @classmethod
    def of(cls, track: Track, paths: tuple[Path, ...]) -> Motion:
        """The motion of the paths over a track."""
        times = np.linspace(0, track.end, max(2, round(RATE * track.end) + 1))
        found: list[Any] = [poses(path, times, track.dtype) for path in paths]
        arms = [path for path in paths if hasattr(path, "skeleton")]
        links = _links(arms[0], jnp.asarray(times, track.dtype)) if arms else None
        return cls(
            times,
            [placed(pose.position, pose.rotation) for pose in found],
            None if links is None else np.asarray(links),
        )


@partial(jax.jit, compiler_options=QUICK)
def _links(path: Any, times: jax.Array) -> jax.Array:
    return jax.vmap(path.skeleton)(times)


def placed(position: np.ndarray, rotation: np.ndarray) -> np.ndarray:
    """Centre and quaternion (x, y, z, w), (…, 7), of positions (…, 3), rotations (…, 3, 3)."""
    turned = Rotation.from_matrix(np.asarray(rotation, float)).as_quat()
    return np.concatenate([np.asarray(position, float), turned], axis=-1)


def film(
    world: World,
    played: Sequence[Track],
    motions: Sequence[Motion],
    *,
    targets: ArrayLike | None = None,
    landings: tuple[np.ndarray, np.ndarray] | None = None,
    names: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Rallies in one world, for the replay of a page.

    Args:
        played: the ball of each rally.
        motions: the paddles of each.
        targets: (3,) or (k, 3), m.
        landings: points (n, 3), m, and whether each is legal, (n,); those not finite are left out.
        names: of the rallies.

    >>> from diffsim.physics import BallState, simulate
    >>> drop = simulate(World.create(), BallState.create([0.0, 0.0, 0.88]), duration=0.2)
    >>> track = Track.of(drop)
    >>> shown = film(World.create(), [track], [Motion.of(track, ())])
    >>> [hit["surface"] for hit in shown["rallies"][0]["hits"]]
    ['table']
    """
    colors = hues(world)
    targets = targets_of(targets)
    fixed, driven = [], []
    for surface, color in zip(world.surfaces, colors):
        flat = outline(surface, np.zeros(3), np.eye(3), FAR)[:, :2]
        shape = {"name": surface.name, "color": color, "outline": _list(flat)}
        if surface.driven:
            driven.append(shape)
        else:
            fixed.append(
                shape
                | {"pose": _list(placed(*map(np.asarray, (surface.center, surface.rotation))), 6)}
            )
    seen = [*ball_points(list(played)), targets, *(m.links for m in motions if m.links is not None)]
    points, legal = (np.zeros((0, 3)), np.zeros(0, bool)) if landings is None else landings
    inside = np.isfinite(points).all(axis=1) & (np.abs(points) < 2 * FAR).all(axis=1)
    names = names or [f"rally {number + 1}" for number in range(len(played))]
    key = [[shape["name"], shape["color"]] for shape in fixed + driven]
    if inside.any():
        key += [["legal landing", COLORS[2]], ["other landing", COLORS[3]]]
    return {
        "radius": float(world.ball.radius),
        "bounds": [_list(corner) for corner in bounds(world, seen)],
        "fixed": fixed,
        "driven": driven,
        "targets": _list(targets),
        "landings": [
            {"at": _list(point), "color": COLORS[2] if good else COLORS[3]}
            for point, good in zip(points[inside], legal[inside])
        ],
        "key": key,
        "rallies": [
            _rally(world, colors, *one) for one in zip(names, played, motions, strict=True)
        ],
    }


def _rally(
    world: World, colors: list[str], name: str, track: Track, motion: Motion
) -> dict[str, Any]:
    times = np.linspace(0, track.end, max(2, round(RATE * track.end) + 1))
    times = np.unique(np.r_[times, track.hit_times])
    hits = [
        {
            "time": float(time),
            "at": _list(at),
            "surface": world.surfaces[i].name,
            "color": colors[i],
        }
        for time, at, i in zip(track.hit_times, track.hit_positions, track.hit_surfaces)
    ]
    return {
        "name": name,
        "time": _list(times, 5),
        "ball": _list(track(times)[0]),
        "spin": _list(track.spin(times), 2),
        "hits": hits,
        "frames": _list(motion.times, 5),
        "paddles": [_list(frames, 5) for frames in motion.paddles],
        "links": None if motion.links is None else _list(motion.links),
    }


def _list(values: np.ndarray, digits: int = 4) -> list:
    return np.round(np.asarray(values, float), digits).tolist()
