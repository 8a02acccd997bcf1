"""Thinned rings: Gauss–Legendre rings with fewer points where a ring is short.

On the ring at θ a harmonic of degree l and order m > l sinθ + O(l^{1/3}) is nearly zero, so the
ring need not resolve it: at degree 200 a fifth of the points go, at no loss of degree.
M. Hortal and A. J. Simmons, Mon. Weather Rev. 119 (1991) 1057.
"""

from functools import lru_cache

import numpy as np

from diffsim.quadrature import periodic
from diffsim.quadrature.base import PointRule
from diffsim.quadrature.gauss_legendre import GaussLegendre
from diffsim.quadrature.harmonics import associated_legendre
from diffsim.quadrature.series import legendre_nodes

NEGLIGIBLE = 1e-15


@lru_cache(maxsize=32)
def _counts(n: int) -> tuple[int, ...]:
    """Points on each ring: the first order that every harmonic up to the degree leaves below
    1e-15 there, and every higher one too."""
    largest = np.zeros((n, 2 * n))
    for values in associated_legendre(2 * n - 1, GaussLegendre(n).nodes):
        largest = np.maximum(largest, np.abs(values))
    orders = np.arange(1, 2 * n + 1) * (largest > NEGLIGIBLE)
    return tuple(int(order) for order in orders.max(axis=1))


class Thinned(PointRule):
    """n Gauss rings, ring by ring from θ = 0, each from φ = 0."""

    name = "thinned"
    why = "free to choose the points, rings wanted: Gauss rings, fewer points near the poles"

    @property
    def degree(self) -> int:
        """2n-1, as the full grid of n rings of 2n points."""
        return 2 * self.n - 1

    @property
    def points(self) -> tuple[np.ndarray, np.ndarray]:
        counts = _counts(self.n)
        theta = np.repeat(GaussLegendre(self.n).nodes, counts)
        return theta, np.concatenate([periodic.longitudes(count) for count in counts])

    def weights(self) -> np.ndarray:
        rings = np.array(_counts(self.n))
        return np.repeat(2 * np.pi * legendre_nodes(self.n)[1] / rings, rings)
