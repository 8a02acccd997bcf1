"""Where observed arcs meet the world's surfaces, and where the two disagree."""

from dataclasses import dataclass

import numpy as np

from diffsim.physics.interpolate import hermite
from diffsim.physics.surfaces import Surface
from diffsim.physics.world import World

_FINE = 8  # points between two samples
_NEAR = 0.01  # m; how exactly a place must be known
_TURN = 0.5  # m/s; a smaller jump of the velocity is none


@dataclass(frozen=True)
class FreeFlight:
    """A stretch of free flight.

    Attributes:
        times: of its samples, (k,), s.
        states: position, velocity and spin there, fitted, (k, 9).
        sigma: what the fit leaves, m.
    """

    times: np.ndarray
    states: np.ndarray
    sigma: float

    @property
    def margin(self) -> float:
        return _NEAR + 5 * self.sigma


@dataclass(frozen=True)
class Bounce:
    """Between two arcs, on a surface of the world: its ratio of normal speeds and of impulses."""

    surface: str
    restitution: float
    friction: float


def passes(arc: FreeFlight, world: World) -> str:
    """Which surface the arc goes through as if it were not there, in words; "" for none."""
    radius = float(world.ball.radius)
    u = np.linspace(0, 1, _FINE, endpoint=False)[:, None, None]
    x, v, length = arc.states[:, :3], arc.states[:, 3:6], np.diff(arc.times)[:, None]
    inner = hermite(u, length, x[:-1], v[:-1], x[1:], v[1:])[0]
    points = np.concatenate([np.swapaxes(inner, 0, 1).reshape(-1, 3), x[-1:]])
    times = np.r_[(arc.times[:-1, None] + length * u[:, 0, 0]).ravel(), arc.times[-1]]
    for surface in world.surfaces:
        local = (points - np.asarray(surface.center)) @ np.asarray(surface.rotation)
        for side in (1.0, -1.0) if surface.two_sided else (1.0,):
            gap = side * local[:, 2] - radius
            enters = (gap[:-1] > 0) & (gap[1:] <= 0) & _within(surface, local[1:], -arc.margin)
            for at in np.flatnonzero(enters):
                if gap[at:].min() < -arc.margin:
                    return f"goes through {surface.name} at {_place(times[at + 1], points[at + 1])}"
    return ""


def between(before: FreeFlight, after: FreeFlight, world: World) -> Bounce | str | None:
    """The contact that ends one arc and begins the next.

    Returns:
        None where the velocity does not jump; where no surface is near, what to say of it.
    """
    (x, v), (y, w) = (np.split(state[:6], 2) for state in (before.states[-1], after.states[0]))
    jump, gap = w - v, after.times[0] - before.times[-1]
    if np.linalg.norm(jump) < _TURN:
        return None
    # The two straight lines are nearest at x + v τ = y + w (τ − gap).
    late = float(np.clip((x - y + w * gap) @ jump / (jump @ jump), 0, gap))
    place = (x + v * late + y + w * (late - gap)) / 2
    margin = 2 * max(before.margin, after.margin)
    for surface in world.surfaces:
        rotation = np.asarray(surface.rotation)
        local = (place - np.asarray(surface.center)) @ rotation
        near = abs(abs(local[2]) - float(world.ball.radius)) < margin
        if near and _within(surface, local[None], margin)[0]:
            came, went = v @ rotation, w @ rotation
            along = np.linalg.norm(went[:2] - came[:2]) / abs(went[2] - came[2])
            return Bounce(surface.name, -went[2] / came[2], along)
    return f"turns at {_place(before.times[-1] + late, place)}, where the world has nothing"


def _within(surface: Surface, local: np.ndarray, margin: float) -> np.ndarray:
    inside = (np.abs(local[:, :2]) < np.asarray(surface.half_extents) + margin).all(axis=1)
    return inside & (np.hypot(local[:, 0], local[:, 1]) < float(surface.disk_radius) + margin)


def _place(time: float, point: np.ndarray) -> str:
    x, y, z = point
    return f"t = {time:.3f} s, ({x:.2f}, {y:.2f}, {z:.2f}) m"
