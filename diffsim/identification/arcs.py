"""Observed flights without a world: the noise of a sample, and the arcs between two contacts."""

from itertools import pairwise

import numpy as np

from diffsim.identification.observations import LEAST, Observations

_WINDOW = 7  # samples from which the noise is told
_MEDIAN = 0.927  # of χ²₉/9
_FINEST = 1e-3  # m; what a cubic leaves of a free flight is taken for noise
_SAMPLES = 100  # of a flight at most, where its arcs are looked for
# What another arc must explain of χ²: a Bayesian criterion for 12 coefficients and a place,
# 13 log(3 · 60), twice over.
_PENALTY = 140.0


def scatter(observations: Observations) -> float:
    """Standard deviation of a position's coordinate from sample to sample, m; NaN if not told.

    σ² = median of χ²/9 / 0.927, with χ² what cubics leave in 7 samples in a row: neither a world
    nor a contact now and then has a say in it. Errors that last longer than that are not in it.

    >>> t = np.arange(60) / 100
    >>> fall = np.stack([3 * t, 0 * t, 2 - 4.9 * t**2], axis=-1)
    >>> seen = fall + 1e-3 * np.random.default_rng(0).normal(size=fall.shape)
    >>> round(1e3 * scatter(Observations.create(t[None], seen[None])), 1)
    1.0
    """
    left = []
    for times, positions in zip(observations.times, observations.positions):
        whole = _whole(positions)
        for rows in np.lib.stride_tricks.sliding_window_view(whole, _WINDOW)[: len(whole)]:
            left.append(_left(times[rows], positions[rows]))
    return float(np.sqrt(np.median(left) / 9 / _MEDIAN)) if left else np.nan


def arcs(observations: Observations, sigma: float) -> list[list[np.ndarray]]:
    """Of each flight, the samples between which its velocity never jumps, in order of time.

    Cubics in time, as few as explain the positions: the least Σ χ² + 140 · pieces, by dynamic
    programming. Pieces of fewer than five whole positions, such as an outlier with up to three of
    its neighbours, are left out.

    Args:
        sigma: standard deviation of a coordinate, m.

    Source: B. Jackson et al., IEEE Signal Process. Lett. 12 (2005) 105 (optimal partitioning).

    >>> t = np.arange(40) / 100
    >>> height = np.abs(1 - 5 * t)  # a ball that bounces at 0.2 s
    >>> bounce = Observations.create(t[None], np.stack([t, 0 * t, height], -1)[None])
    >>> [(piece[0].item(), piece[-1].item()) for piece in arcs(bounce, 1e-3)[0]]
    [(0, 19), (20, 39)]
    """
    variance = max(sigma if np.isfinite(sigma) else 0.0, _FINEST) ** 2
    return [
        _pieces(times, positions, variance)
        for times, positions in zip(observations.times, observations.positions)
    ]


def accelerations(
    observations: Observations, pieces: list[list[np.ndarray]]
) -> tuple[np.ndarray, np.ndarray]:
    """Of each flight's longest arc its mean acceleration, (n, 3), m/s²; NaN without an arc.

    Also the standard error that 1 m of noise gives it, (n,), 1/s²: √(720/k)/T² of k samples over T.

    >>> t = np.arange(40) / 100
    >>> fall = Observations.create(t[None], np.stack([t, 0 * t, -4.9 * t**2], -1)[None])
    >>> found, error = accelerations(fall, arcs(fall, 1e-3))
    >>> found.round(2).tolist(), error.round().tolist()
    ([[0.0, 0.0, -9.8]], [28.0])
    """
    found, error = np.full((len(pieces), 3), np.nan), np.full(len(pieces), np.nan)
    for i, flight in enumerate(pieces):
        if flight:
            rows = max(flight, key=len)
            times = observations.times[i, rows] - observations.times[i, rows[0]]
            found[i] = 2 * np.polyfit(times / times[-1], observations.positions[i, rows], 2)[0]
            found[i] /= times[-1] ** 2
            error[i] = np.sqrt(720 / len(rows)) / times[-1] ** 2
    return found, error


def _pieces(times: np.ndarray, positions: np.ndarray, variance: float) -> list[np.ndarray]:
    whole = _whole(positions)
    kept = whole[:: -(-len(whole) // _SAMPLES)]
    count = len(kept)
    least, back = np.r_[0.0, np.full(count, np.inf)], np.zeros(count + 1, int)
    for start in range(count):
        for end in range(start + 1, count + 1):
            rows = kept[start:end]
            left = _left(times[rows], positions[rows]) / variance
            if least[start] + left + _PENALTY < least[end]:
                least[end], back[end] = least[start] + left + _PENALTY, start
            if left > 3 * _PENALTY:  # two pieces explain it better
                break
    cuts = [count]
    while cuts[-1]:
        cuts.append(back[cuts[-1]])
    pieces = [kept[start:end] for end, start in pairwise(cuts)][::-1]
    found = [whole[(whole >= piece[0]) & (whole <= piece[-1])] for piece in pieces]
    return [rows for rows in found if len(rows) >= LEAST]


def _whole(positions: np.ndarray) -> np.ndarray:
    return np.flatnonzero(np.isfinite(positions).all(axis=1))


def _left(times: np.ndarray, positions: np.ndarray) -> float:
    """Sum of squares that a cubic leaves, m²."""
    if len(times) <= 4:
        return 0.0
    scaled = 2 * (times - times[0]) / (times[-1] - times[0]) - 1
    basis, _ = np.linalg.qr(np.polynomial.legendre.legvander(scaled, 3))
    moved = positions - positions[0]
    return float(np.sum((moved - basis @ (basis.T @ moved)) ** 2))
