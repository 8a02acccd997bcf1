"""The ball at any time of a rollout: cubic pieces that meet at the impacts."""

from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from diffsim.physics.interpolate import hermite
from diffsim.physics.simulate import Rollout, Status


@dataclass(frozen=True)
class Track:
    """Cubic Hermite pieces through the states on the grid and on both sides of every impact.

    See :func:`diffsim.physics.interpolate.hermite`. The position is continuous and the velocity
    jumps at the impacts only.

    Attributes:
        times: of the knots, (k,), s; an impact has two, before and after.
        positions, velocities, spins: at the knots, (k, 3).
        hit_times, hit_positions, hit_surfaces: of the impacts, (m,), (m, 3), (m,).
        dtype: of the rollout; its paths are to be asked in the same precision.
    """

    times: np.ndarray
    positions: np.ndarray
    velocities: np.ndarray
    spins: np.ndarray
    hit_times: np.ndarray
    hit_positions: np.ndarray
    hit_surfaces: np.ndarray
    dtype: np.dtype

    @classmethod
    def of(cls, rollout: Rollout) -> "Track":
        """The track of one rollout, as far as its states are finite and its impacts recorded.

        Raises:
            ValueError: a batch of rollouts; no finite state to start from.

        >>> from diffsim.physics import BallState, World, simulate
        >>> drop = BallState.create([0.0, 0.0, 0.88])
        >>> track = Track.of(simulate(World.create(), drop, duration=0.2))
        >>> [round(float(track(t)[0][2]), 2) for t in (0.0, track.hit_times[0])]
        [0.88, 0.78]
        """
        if np.ndim(rollout.times) != 1:
            raise ValueError(f"rollout: expected one, got a batch {np.shape(rollout.times)[:-1]}")
        rollout = jax.tree.map(np.asarray, rollout)
        impacts = jax.tree.map(lambda leaf: leaf[rollout.impacts.valid], rollout.impacts)
        grid = rollout.times.astype(float)
        # The impact itself says more than a grid point at the same time.
        apart = np.abs(grid[:, None] - impacts.time) > 1e-6 * grid[-1]
        keep = apart.all(axis=1)
        # Later states repeat the last one.
        if rollout.status in (Status.IMPACTS_EXHAUSTED, Status.TOO_FAST, Status.TWO_CONTACTS):
            keep &= grid <= impacts.time.max(initial=0.0)

        def knots(of_state):
            sides = np.stack([of_state(impacts.before), of_state(impacts.after)], axis=1)
            return np.concatenate([of_state(rollout.states)[keep], sides.reshape(-1, 3)])

        times = np.concatenate([grid[keep], np.repeat(impacts.time.astype(float), 2)])
        order = np.argsort(times, kind="stable")
        times = times[order]
        positions = knots(lambda state: state.position)[order].astype(float)
        velocities = knots(lambda state: state.velocity)[order].astype(float)
        spins = knots(lambda state: state.spin)[order].astype(float)
        finite = np.isfinite(np.c_[times, positions, velocities]).all(axis=1)
        last = len(times) if finite.all() else int(finite.argmin())
        if last == 0:
            raise ValueError("rollout: expected a finite state to start from, got none")
        seen = impacts.time <= times[last - 1]
        return cls(
            times[:last],
            positions[:last],
            velocities[:last],
            spins[:last],
            impacts.time[seen].astype(float),
            impacts.before.position[seen].astype(float),
            impacts.surface[seen],
            rollout.times.dtype,
        )

    @property
    def end(self) -> float:
        """Time of the last knot, s."""
        return float(self.times[-1])

    def __call__(self, times) -> tuple[np.ndarray, np.ndarray]:
        """Position and velocity at ``times`` (…,): (…, 3) each; just after, at an impact."""
        times = np.clip(times, self.times[0], self.end)
        piece = np.searchsorted(self.times, times, side="right") - 1
        piece = np.clip(piece, 0, max(len(self.times) - 2, 0))
        length = self.times[self._next(piece)] - self.times[piece]
        return self._piece(piece, (times - self.times[piece]) / np.where(length > 0, length, 1.0))

    @classmethod
    def joined(cls, pieces: list["Track"], period: float) -> "Track":
        """Tracks one after another, each beginning ``period`` s after the one before."""
        starts = period * np.arange(len(pieces))
        fields: dict[str, Any] = {"dtype": pieces[0].dtype}
        for name in ("positions", "velocities", "spins", "hit_positions", "hit_surfaces"):
            fields[name] = np.concatenate([getattr(piece, name) for piece in pieces])
        for name in ("times", "hit_times"):
            moved = [getattr(piece, name) + start for piece, start in zip(pieces, starts)]
            fields[name] = np.concatenate(moved)
        return cls(**fields)

    def spin(self, times) -> np.ndarray:
        """Angular velocity at ``times`` (…,), that of the knot before: (…, 3), rad/s."""
        return self.spins[np.clip(np.searchsorted(self.times, times, side="right") - 1, 0, None)]

    def curve(self, points: int = 12) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Times (n,), positions and velocities (n, 3) to draw, ``points`` a piece with its ends."""
        moving = np.flatnonzero(np.diff(self.times) > 0)
        piece = (moving if len(moving) else np.array([0])).repeat(points)
        u = np.tile(np.linspace(0, 1, points), len(piece) // points)
        length = self.times[self._next(piece)] - self.times[piece]
        return self.times[piece] + u * length, *self._piece(piece, u)

    def _next(self, piece):
        return np.minimum(piece + 1, len(self.times) - 1)

    def _piece(self, piece, u):
        following = self._next(piece)
        h = (self.times[following] - self.times[piece])[..., None]
        u = np.asarray(u)[..., None]
        x0, x1 = self.positions[piece], self.positions[following]
        v0, v1 = self.velocities[piece], self.velocities[following]
        apart = h > 0  # a track of one state stays there
        return hermite(np.where(apart, u, 0.0), np.where(apart, h, 1.0), x0, v0, x1, v1)


def tracks(rollouts: Rollout | list[Rollout]) -> list[Track]:
    """One track for each rollout of a list, or of a record with leading batch axes.

    Raises:
        TypeError: something else.
        ValueError: an empty list or batch.
    """
    found = _tracks(rollouts)
    if not found:
        raise ValueError("rollouts: expected at least one, got none")
    return found


def _tracks(rollouts) -> list[Track]:
    if isinstance(rollouts, list):
        return [track for rollout in rollouts for track in _tracks(rollout)]
    if not isinstance(rollouts, Rollout):
        raise TypeError(f"rollouts: expected Rollout records, got {type(rollouts).__name__}")
    arrays: Rollout = jax.tree.map(np.asarray, rollouts)
    return [
        Track.of(jax.tree.map(lambda leaf, i=index: leaf[i], arrays))
        for index in np.ndindex(arrays.times.shape[:-1])
    ]
