"""Where a fit begins: the arcs of free flight first, then the contacts between them."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from diffsim._text import short
from diffsim.identification.arcs import accelerations, arcs, scatter
from diffsim.identification.contacts import Bounce, FreeFlight, between, passes
from diffsim.identification.observations import Observations
from diffsim.identification.parameters import BOUNDS, get, put
from diffsim.identification.residuals import FlightResiduals, least_squares, parabolas
from diffsim.physics.world import World

_NOISE = 5e-3  # m, where neither given nor told by the samples
# Times gravity, that arcs in m and s never accelerate by: a smash is slowed by some 20 times it, a
# ball that rolls by some hundredths. Of inches and of times in frames it is 39 and below 1/500.
_LEAST, _MOST = 1 / 500, 30.0
FAR = 4.0  # times the noise: what is not explained
_HIDDEN = 0.3  # of how far a flight spreads: a scatter that hides it
_CLOSE = 1e-2  # of the median time between samples: stands still meanwhile
_APART = 8.0  # times the noise of a coordinate: two looks at one place, once in 1e13


@dataclass(frozen=True)
class Look:
    """What the arcs say before the whole is fitted.

    Attributes:
        theta: first guess of the parameters, (p,): of the flight from all arcs together, of a
            surface the medians over its contacts, else as in the given world.
        starts: of each flight, (n, 9).
        until: the time up to which each start is fitted, (n,), s.
        contradicted: of each flight, what speaks against the world; "" for nothing.
        adrift: flights with an arc that no start explains, (n,) bool, surfaces or none.
        scatter: of the samples, m; NaN if not told.
        sigma: noise to begin with, m.
    """

    theta: np.ndarray
    starts: np.ndarray
    until: np.ndarray
    contradicted: tuple[str, ...]
    adrift: np.ndarray
    scatter: float
    sigma: float


def first_look(problem: FlightResiduals, names: Sequence[str], noise: float | None) -> Look:
    """Fit the arcs without surfaces, and hold them against the world; see :func:`identify`."""
    observations, world = problem.observations, problem.world
    scattered = scatter(observations)
    sigma = noise if noise is not None else scattered if scattered > 0 else _NOISE
    _check_stamps(observations, noise or 0.0)
    spread = float(np.median(np.nanstd(observations.positions, axis=1).max(axis=1)))
    if scattered > _HIDDEN * spread:
        raise ValueError(
            f"observations: expected flights, got samples that scatter by {1e3 * scattered:.3g} mm "
            f"where a flight spreads by {1e3 * spread:.3g} mm (median)"
        )
    pieces = arcs(observations, sigma)
    _check_units(observations, pieces, sigma, float(np.linalg.norm(world.gravity)))
    found: list[list[FreeFlight]] = [[] for _ in pieces]
    flown = world
    if any(pieces):
        flown, found = _flown(problem, pieces, names, sigma)
    contradicted, contacts = [], []
    for flight in found:
        met = [between(before, after, world) for before, after in pairwise(flight)]
        contacts += [one for one in met if isinstance(one, Bounce)]
        against = [passes(arc, world) for arc in flight]
        against += [one for one in met if isinstance(one, str)]
        contradicted.append(next(filter(None, against), ""))
    starts = parabolas(observations, np.asarray(world.gravity, float))
    until = np.zeros(len(found))
    for i, flight in enumerate(found):
        if flight and flight[0].times[0] == 0:
            starts[i], until[i] = flight[0].states[0], flight[0].times[-1]
    theta = [_guess(name, contacts, float(get(flown, name))) for name in names]
    adrift = np.array([any(arc.sigma > FAR * sigma for arc in flight) for flight in found])
    return Look(np.array(theta), starts, until, tuple(contradicted), adrift, scattered, sigma)


def _check_stamps(observations: Observations, noise: float) -> None:
    """No ball moves between two samples that are all but at one time."""
    steps = np.diff(observations.times, axis=1)
    close = steps < _CLOSE * np.nanmedian(steps, axis=1, keepdims=True)
    if not close.any():
        return
    seen = np.linalg.norm(np.diff(observations.positions, axis=1), axis=-1)
    either = np.pad(close, ((0, 0), (0, 1))) | np.pad(close, ((0, 0), (1, 0)))
    others = np.where(either[..., None], np.nan, observations.positions)
    sigma = scatter(dataclasses.replace(observations, positions=others))
    moved = np.argwhere(close & (seen > _APART * max(noise, sigma if sigma > 0 else _NOISE)))
    if moved.size:
        flight, sample = moved[0]
        raise ValueError(
            f"observations: expected samples at their times, got {steps[flight, sample]:.3g} s "
            f"between two that are {1e3 * seen[flight, sample]:.3g} mm apart: trajectory "
            f"{short(observations.names[flight])} at {observations.times[flight, sample]:.6g} s "
            f"after its first, the first of {len(moved)}"
        )


def _check_units(
    observations: Observations, pieces: list[list[np.ndarray]], sigma: float, gravity: float
) -> None:
    """Before work: with times in ms the first simulation would take hours."""
    found, error = accelerations(observations, pieces)
    size, doubt = np.linalg.norm(found, axis=1), 5 * sigma * error
    if not gravity or np.isnan(size).all():
        return
    low, high = np.nanmedian(size + doubt) / gravity, np.nanmedian(size - doubt) / gravity
    if low < _LEAST or high > _MOST:
        raise ValueError(
            f"observations: expected m and s, got arcs that accelerate by {np.nanmedian(size):.3g} "
            f"m/s² (median) where gravity is {gravity:.3g} m/s²"
        )


def _cut(observations: Observations, pieces: list[list[np.ndarray]]) -> Observations:
    """Every arc as a flight of its own."""
    rows = [(i, kept) for i, flight in enumerate(pieces) for kept in flight]
    shape = (len(rows), observations.times.shape[1])
    times, seen = np.full(shape, np.nan), np.full((*shape, 6), np.nan)
    for row, (i, kept) in enumerate(rows):
        times[row, : len(kept)] = observations.times[i, kept]
        seen[row, : len(kept)] = np.c_[observations.positions[i], observations.spins[i]][kept]
    return Observations.create(times, seen[..., :3], seen[..., 3:])


def _flown(
    whole: FlightResiduals, pieces: list[list[np.ndarray]], names: Sequence[str], sigma: float
) -> tuple[World, list[list[FreeFlight]]]:
    """The world with the drag (and lift, where spins are seen) of all arcs, and each flight's."""
    observations, world = whole.observations, whole.world
    cut = _cut(observations, pieces)
    problem = dataclasses.replace(whole, observations=cut, world=_without_surfaces(world))
    spun = np.isfinite(observations.spins).any()
    told = np.array([name == "drag" or (name == "magnus" and spun) for name in names])
    begin = np.array([float(get(world, name)) for name in names])
    starts = parabolas(cut, np.asarray(world.gravity, float))
    unknowns = problem.first_guess(begin, starts, np.full(len(starts), np.inf), sigma)
    free = np.r_[told, np.full(starts.size, True)]
    low = np.array([BOUNDS[name.rpartition(".")[2]][0] for name in names])
    low = np.r_[low, np.full(starts.size, -np.inf)][free]

    def evaluate(x):
        residuals, jacobian = problem.evaluate(_put(unknowns, free, x), sigma)
        return residuals, jacobian[:, free]

    if told.any():
        x = least_squares(
            evaluate,
            np.maximum(unknowns[free], low),
            bounds=(low, np.inf),
            loss="soft_l1",
            tr_solver="lsmr" if problem.large else "exact",
        ).x
        unknowns = _put(unknowns, free, x)
    theta, starts = problem.split(unknowns)
    misfit, rows = problem.misfit(unknowns), iter(range(len(starts)))
    found: list[list[FreeFlight]] = []
    for i, flight in enumerate(pieces):
        found.append([])
        for kept in flight:
            row, count = next(rows), len(kept)
            left = np.nansum(misfit[row, :count] ** 2) / max(3 * count - 9, 1)
            states = problem.states(row, theta, starts[row])[:count]
            found[-1].append(FreeFlight(observations.times[i, kept], states, float(np.sqrt(left))))
    return put(world, names, list(theta)), found


def _put(whole: np.ndarray, free: np.ndarray, x: np.ndarray) -> np.ndarray:
    whole = whole.copy()
    whole[free] = x
    return whole


def _without_surfaces(world: World) -> World:
    """The same program, with every surface too far behind to be met."""
    surfaces = tuple(
        dataclasses.replace(one, center=one.center - 1e4 * one.rotation[:, 2])
        for one in world.surfaces
    )
    return dataclasses.replace(world, surfaces=surfaces)


def _guess(name: str, contacts: list[Bounce], otherwise: float) -> float:
    surface, _, key = name.rpartition(".")
    seen = [getattr(one, key) for one in contacts if surface and one.surface == surface]
    if not seen:
        return otherwise
    low, high = BOUNDS[key]
    return float(np.clip(np.median(seen), low, high))
