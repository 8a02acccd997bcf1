"""Gauss–Legendre in θ itself: free points, but a function with no parity across the poles."""

import numpy as np

from diffsim.quadrature.base import Band, Rule, density, interpolatory
from diffsim.quadrature.series import legendre_basis, legendre_moments, legendre_nodes


def scaled(theta: np.ndarray, extent: Band) -> np.ndarray:
    """θ mapped to [-1, 1] over the extent."""
    low, high = extent
    return (2 * theta - low - high) / (high - low)


def nodes(n: int, extent: Band) -> np.ndarray:
    """The zeros of P_n mapped to the extent."""
    low, high = extent
    return (low + high + (high - low) * legendre_nodes(n)[0]) / 2


def degree(n: int, measure: str) -> int:
    """2n-1, in polynomials of θ times the measure's density."""
    return 2 * n - 1


def analysis(n: int, measure: str, extent: Band) -> np.ndarray:
    """a_k = (k+½) Σ w_i h_i P_k, of the whole integrand h (the samples times sinθ if needed)."""
    x, weights = legendre_nodes(n)
    matrix = (np.arange(n) + 0.5)[:, None] * legendre_basis(n, x).T * weights
    return matrix * density(nodes(n, extent), measure)


def basis(count: int, theta: np.ndarray, measure: str, extent: Band) -> np.ndarray:
    factor = density(theta, measure)
    inverse = np.divide(1.0, factor, where=factor > 1e-12, out=np.zeros_like(factor))
    return legendre_basis(count, scaled(theta, extent)) * inverse[:, None]


def moments(count: int, measure: str, extent: Band, band: Band) -> np.ndarray:
    low, high = scaled(np.asarray(band), extent)
    return (extent[1] - extent[0]) / 2 * legendre_moments(count, low, high)


RULE = Rule(
    name="gauss-colatitude",
    why="free to choose the rings of a function without parity across the poles",
    measures=("solid-angle", "flat", "included"),
    nodes=nodes,
    degree=degree,
    weights=interpolatory(analysis, moments),
    analysis=analysis,
    basis=basis,
    moments=moments,
    partial=True,
    space="polynomial",
)
