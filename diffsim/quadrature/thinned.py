"""Thinned rings: Gauss–Legendre rings with fewer points where a ring is short.

On the ring at θ a harmonic of degree l and order m > l sinθ + O(l^{1/3}) is nearly zero, so the
ring need not resolve it: at degree 200 a fifth of the points go, at no loss of degree.
M. Hortal and A. J. Simmons, Mon. Weather Rev. 119 (1991) 1057.
"""

from functools import lru_cache

import numpy as np

from diffsim.quadrature import gauss_legendre, periodic
from diffsim.quadrature.base import SPHERE, PointRule
from diffsim.quadrature.harmonics import associated_legendre
from diffsim.quadrature.series import legendre_nodes

NEGLIGIBLE = 1e-15


def degree(n: int) -> int:
    """2n-1, as the full grid of n rings of 2n points."""
    return 2 * n - 1


@lru_cache(maxsize=32)
def counts(n: int) -> tuple[int, ...]:
    """Points on each ring: the first order that every harmonic up to the degree leaves below
    1e-15 there, and every higher one too."""
    theta = gauss_legendre.nodes(n, SPHERE)
    largest = np.zeros((n, 2 * n))
    for values in associated_legendre(degree(n), theta):
        largest = np.maximum(largest, np.abs(values))
    orders = np.arange(1, 2 * n + 1) * (largest > NEGLIGIBLE)
    return tuple(int(order) for order in orders.max(axis=1))


def points(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Ring by ring from θ = 0, each ring from φ = 0."""
    theta = np.repeat(gauss_legendre.nodes(n, SPHERE), counts(n))
    return theta, np.concatenate([periodic.longitudes(count) for count in counts(n)])


def weights(n: int) -> np.ndarray:
    rings = np.array(counts(n))
    return np.repeat(2 * np.pi * legendre_nodes(n)[1] / rings, rings)


RULE = PointRule(
    name="thinned",
    why="free to choose the points, rings wanted: Gauss rings, fewer points near the poles",
    sizes=lambda n: n >= 1,
    points=points,
    weights=weights,
    degree=degree,
)
