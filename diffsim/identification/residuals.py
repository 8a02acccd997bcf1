"""Observed flights as one least-squares problem: shared constants, and a start for each flight."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize
import scipy.sparse

from diffsim.identification.observations import Observations
from diffsim.physics.interpolate import states_at
from diffsim.physics.simulate import simulate
from diffsim.physics.state import BallState
from diffsim.physics.world import World

_FIRST = 0.12  # s; the stretch of free flight from which a start is first guessed
_HORIZONS = np.linspace(0.2, 1.0, 9)  # shares of a flight
_CALLS = 15  # at most, for each of them
_LARGE = 2e7  # entries of a Jacobian from which on it is kept sparse


@dataclass(frozen=True)
class FlightResiduals:
    """Residuals and Jacobian of (θ, s₁, …, s_n), each s_i = (x, v, w) at a flight's first time.

    Attributes:
        observations: n flights of up to k samples.
        count: of θ's entries, p.
        spin_noise, spin_scale: rad/s, of a measured spin and of a start's spin.
        world: what the flights are held against.
        predict: of one flight, (world, θ, s (9,), times (k,)) → states (k, 9) and their Jacobians
            in θ (k, 9, p) and in s (k, 9, 9).
    """

    observations: Observations
    world: World
    count: int
    spin_noise: float
    spin_scale: float
    predict: Callable

    @classmethod
    def create(
        cls,
        observations: Observations,
        world: World,
        put: Callable[[World, jax.Array], World],
        count: int,
        *,
        spin_noise: float,
        spin_scale: float,
        step: float,
    ) -> "FlightResiduals":
        """The problem of a world into which ``put`` writes θ."""
        duration = max(observations.duration, step)

        def states(world, theta, start, times):
            ball = BallState(start[:3], start[3:6], start[6:])
            rollout = simulate(put(world, theta), ball, duration=duration, step=step)
            seen = states_at(rollout, times)
            rows = jnp.concatenate([seen.position, seen.velocity, seen.spin], axis=1)
            return rows, rows

        def one(*arguments):
            jacobians, rows = jax.jacfwd(states, (1, 2), has_aux=True)(*arguments)
            return rows, jacobians

        return cls(observations, world, count, spin_noise, spin_scale, jax.jit(one))

    @property
    def large(self) -> bool:
        """Whether the Jacobian is too large to be kept dense."""
        n, k = self.observations.times.shape
        return n * (6 * k + 3) * (self.count + 9 * n) > _LARGE

    @property
    def size(self) -> int:
        """How many unknowns there are."""
        return self.count + 9 * len(self.observations.names)

    def of(self, rows: np.ndarray) -> "FlightResiduals":
        """The problem of some of the flights."""
        return dataclasses.replace(self, observations=self.observations.take(rows))

    def first_guess(
        self, theta: np.ndarray, starts: np.ndarray, until: np.ndarray, sigma: float
    ) -> np.ndarray:
        """θ, and with it each flight's start, fitted to more and more of the flight.

        As the horizon moves on, the ball is never far from where it was seen when it meets the
        next surface, so it is the right one.

        Args:
            starts: that explain the flights ``until`` a time, (n, 9) and (n,), s.
        """
        unknowns = [theta]
        for i, (start, known) in enumerate(zip(starts, until)):
            horizons = np.nanmax(self.observations.times[i]) * _HORIZONS
            for horizon in horizons[(horizons > known) | (_HORIZONS == 1)]:
                rows = partial(self._start_rows, i, theta, sigma, horizon)
                start = least_squares(rows, start, max_nfev=_CALLS).x
            unknowns.append(start)
        return np.concatenate(unknowns)

    def flight(self, i: int, theta, start, sigma: float, horizon: float = np.inf):
        """Residuals of one flight (6 k + 3,), and their Jacobians in θ and in its start.

        What was not observed, or after ``horizon`` (s), is a residual of 0 with no slope.
        """
        states, in_theta, in_start = self._predicted(i, theta, start)
        observed = np.c_[self.observations.positions[i], self.observations.spins[i]]
        counts = np.isfinite(observed)
        counts &= (np.nan_to_num(self.observations.times[i]) <= horizon)[:, None]
        weight = np.where(counts, 1 / np.repeat([sigma, self.spin_noise], 3), 0.0)
        seen = [0, 1, 2, 6, 7, 8]
        misfit = weight * (states[:, seen] - np.nan_to_num(observed))
        a = (weight[..., None] * in_theta[:, seen]).reshape(-1, len(theta))
        b = (weight[..., None] * in_start[:, seen]).reshape(-1, 9)
        prior = np.eye(9)[6:] / self.spin_scale
        return (
            np.r_[misfit.ravel(), prior @ start],
            np.r_[a, np.zeros((3, len(theta)))],
            np.r_[b, prior],
        )

    def _start_rows(self, i: int, theta, sigma: float, horizon: float, start):
        residuals, _, slope = self.flight(i, theta, start, sigma, horizon)
        return residuals, slope

    def evaluate(self, unknowns: np.ndarray, sigma: float):
        """Residuals over their standard deviations (n (6 k + 3),), and the Jacobian.

        The Jacobian is a scipy.sparse matrix where it is large.
        """
        theta, starts = self.split(unknowns)
        residuals, a, b = zip(*(self.flight(i, theta, s, sigma) for i, s in enumerate(starts)))
        matrix = scipy.sparse.hstack([np.concatenate(a), scipy.sparse.block_diag(b)], format="csr")
        return np.concatenate(residuals), matrix if self.large else matrix.toarray()

    def split(self, unknowns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """θ (p,) and the starts (n, 9)."""
        p = self.count
        return unknowns[:p], unknowns[p:].reshape(-1, 9)

    def misfit(self, unknowns: np.ndarray) -> np.ndarray:
        """Predicted less observed positions, (n, k, 3), m; NaN where nothing was observed."""
        theta, starts = self.split(unknowns)
        states = [self.states(i, theta, start) for i, start in enumerate(starts)]
        return np.stack(states)[..., :3] - self.observations.positions

    def states(self, i: int, theta, start) -> np.ndarray:
        """Position, velocity and spin of one flight at its samples, (k, 9)."""
        return self._predicted(i, theta, start)[0]

    def _predicted(self, i: int, theta, start):
        times = np.nan_to_num(self.observations.times[i])
        states, slopes = self.predict(self.world, *map(jnp.asarray, (theta, start, times)))
        return tuple(np.asarray(x, float) for x in (states, *slopes))

    def covariance(self, jacobian) -> tuple[np.ndarray, np.ndarray]:
        """Covariance of θ (p, p) and its standard errors (p,), inf for what is not determined.

        With the starts' part projected out of θ's columns, flight by flight.
        """
        p, n = self.count, len(self.observations.names)
        jacobian = scipy.sparse.csr_matrix(jacobian)
        rows = jacobian.shape[0] // n
        information, total = np.zeros((p, p)), np.zeros(p)
        for i in range(n):
            block = jacobian[i * rows : (i + 1) * rows]
            a = block[:, :p].toarray()
            b = block[:, p + 9 * i : p + 9 * (i + 1)].toarray()
            b = b / np.maximum(np.linalg.norm(b, axis=0), 1e-300)
            u, s, _ = np.linalg.svd(b, full_matrices=False)
            u = u[:, s > 1e-10 * s[0]]
            a_free = a - u @ (u.T @ a)
            information += a_free.T @ a_free
            total += (a**2).sum(axis=0)
        known = np.diag(information) > 1e-12 * np.maximum(total, 1e-300)
        scale = np.sqrt(np.where(known, np.diag(information), 1.0))
        values, vectors = np.linalg.eigh(information / np.outer(scale, scale))
        null = values < 1e-12
        known &= ~(np.abs(vectors[:, null]) > 1e-6).any(axis=1)
        inverse = (vectors / np.where(null, np.inf, values)) @ vectors.T / np.outer(scale, scale)
        covariance = np.where(np.outer(known, known), inverse, np.nan)
        return covariance, np.where(known, np.sqrt(np.abs(np.diag(inverse))), np.inf)


def parabolas(observations: Observations, gravity: np.ndarray) -> np.ndarray:
    """Each flight's start (x, v, 0) by a parabola through its first samples, (n, 9)."""
    starts = np.zeros((len(observations.names), 9))
    for start, times, positions in zip(starts, observations.times, observations.positions):
        seen = np.flatnonzero(np.isfinite(positions).all(axis=1))
        first = seen[: max(4, np.sum(times[seen] <= _FIRST))]
        t = times[first]
        fall = positions[first] - 0.5 * t[:, None] ** 2 * gravity
        start[:6] = np.linalg.lstsq(np.c_[np.ones_like(t), t], fall, rcond=None)[0].ravel()
    return starts


def least_squares(f: Callable, start: np.ndarray, **options):
    """scipy.optimize.least_squares of an ``f`` that gives residuals and Jacobian in one call."""
    last: tuple = (None, None)

    def rows(x):
        nonlocal last
        if last[0] is None or not np.array_equal(last[0], x):
            last = (x.copy(), f(x))
        return last[1]

    return scipy.optimize.least_squares(
        lambda x: rows(x)[0], start, lambda x: rows(x)[1], x_scale="jac", **options
    )
