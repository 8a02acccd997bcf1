"""Weights for samples of which some are missing: least norm, exact to the highest degree they bear.

First each ring: the weights of least Σ w²/w₀ over its samples that integrate every harmonic in φ
up to order d; then the rings, the same way in θ. A degree is borne while the least norm, which is
the factor by which noise grows, stays below ``GAIN`` times that of the full set.
"""

from functools import lru_cache

import numpy as np

from diffsim.quadrature import periodic
from diffsim.quadrature.base import Band, Rule
from diffsim.quadrature.grid import Grid
from diffsim.quadrature.scheme import Scheme, scheme_of

GAIN = 2.0  # variance of the result from white noise, against no sample missing


def _least_norm(basis: np.ndarray, moments: np.ndarray, metric: np.ndarray) -> np.ndarray:
    """argmin Σ w²/metric with basisᵀ w = moments."""
    root = np.sqrt(metric)
    return root * np.linalg.lstsq((basis * root[:, None]).T, moments, rcond=1e-12)[0]


def _highest(feasible, top: int) -> int:
    """The largest d in [0, top] that is feasible, or -1; feasible for d means for all below."""
    low, high = -1, top
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if feasible(middle) else (low, middle - 1)
    return low


class _Rings:
    """Least-norm ring weights by pattern of the samples left; patterns recur, so they are kept."""

    def __init__(self, grid: Grid):
        self.symmetry = grid.symmetry
        self.metric = periodic.fold(periodic.weights(grid.n_phi), grid.symmetry.columns(grid.n_phi))
        self.phi = periodic.longitudes(grid.n_phi)[: len(self.metric)]
        self.top = periodic.degree(grid.n_phi)
        self.known: dict[tuple[bytes, int], tuple[np.ndarray, bool]] = {}

    def weights(self, present: np.ndarray, degree: int) -> tuple[np.ndarray, bool]:
        """Weights (columns,), zero where missing, and whether the degree is borne."""
        if present.all():
            return self.metric, degree <= self.top
        key = (present.tobytes(), degree)
        if key not in self.known:
            orders = self.symmetry.fold * np.arange(1, degree // self.symmetry.fold + 1)
            turns = np.outer(self.phi[present], orders)
            parts = [np.ones((present.sum(), 1)), np.cos(turns)]
            parts += [] if self.symmetry.mirror else [np.sin(turns)]
            basis = np.concatenate(parts, axis=1)
            moments = np.zeros(basis.shape[1])
            moments[0] = 2 * np.pi
            metric = self.metric[present]
            weights = np.zeros(len(present))
            borne = basis.shape[1] <= basis.shape[0]
            if borne:
                weights[present] = _least_norm(basis, moments, metric)
                gain = np.sum(weights[present] ** 2 / metric) / (2 * np.pi)
                exact = np.allclose(weights[present] @ basis, moments, atol=1e-9)
                borne = bool(exact and gain <= GAIN)
            self.known[key] = weights, borne
        return self.known[key]


def _rows(
    grid: Grid, scheme: Scheme, band: Band | None, usable: np.ndarray, degree: int
) -> tuple[np.ndarray, bool]:
    """Least-norm weights over the usable rings, and whether they bear the degree."""
    rule = scheme.rule
    assert isinstance(rule, Rule)
    moments = rule.moments(degree + 1, band)
    basis = rule.basis(degree + 1, rule.nodes)
    metric = np.abs(rule.weights())
    chosen = np.flatnonzero(usable[scheme.rows] & (metric > 0))
    weights = np.zeros(grid.n_theta)
    if not len(chosen):
        return weights, False
    weights[chosen] = _least_norm(basis[chosen], moments, metric[chosen])
    positive = metric > 0
    reference = _least_norm(basis[positive], moments, metric[positive])
    gain = np.sum(weights[chosen] ** 2 / metric[chosen])
    gain /= np.sum(reference**2 / metric[positive])
    exact = np.allclose(weights @ basis, moments, rtol=0, atol=1e-9)
    return periodic.fold(weights, scheme.rows), bool(exact and gain <= GAIN)


@lru_cache(maxsize=16)
def least_norm_weights(
    grid: Grid, measure: str, asked: str | None, band: Band | None, mask: bytes
) -> tuple[np.ndarray, np.ndarray, int]:
    """Weights of the samples' shape, the same at half the degree, and the degree.

    Raises:
        ValueError: the grid has no rings, or the samples left determine nothing.
    """
    scheme = scheme_of(grid, measure, asked, band)
    if scheme.phi is None:
        raise ValueError(f"mask: expected a grid of rings, got the points of {grid.rule}")
    present = np.frombuffer(mask, dtype=bool).reshape(grid.shape)
    rings = _Rings(grid)

    def attempt(degree: int) -> tuple[np.ndarray, bool]:
        pairs = [rings.weights(row, degree) for row in present]
        usable = np.array([borne for _, borne in pairs])
        theta, borne = _rows(grid, scheme, band, usable, degree)
        return theta[:, None] * np.stack([ring for ring, _ in pairs]), borne

    best = _highest(lambda degree: attempt(degree)[1], scheme.degree)
    if best < 0:
        raise ValueError(
            f"mask: expected samples enough for a constant, got {int(present.sum())} of "
            f"{present.size}"
        )
    stretch = 1.0 if scheme.stretch is None else scheme.stretch[:, None]
    return attempt(best)[0] * stretch, attempt(best // 2)[0] * stretch, best
