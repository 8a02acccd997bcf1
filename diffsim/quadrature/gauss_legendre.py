"""Gauss–Legendre in cosθ: the fewest rings for a degree, when the sample points are free."""

import numpy as np

from diffsim.quadrature.base import Band, Rule, interpolatory
from diffsim.quadrature.series import (
    legendre_basis,
    legendre_moments,
    legendre_nodes,
)


def _cosine(theta: np.ndarray, extent: Band) -> np.ndarray:
    """cosθ mapped to [-1, 1] over the extent."""
    top, bottom = np.cos(extent)
    return (2 * np.cos(theta) - top - bottom) / (top - bottom)


def nodes(n: int, extent: Band) -> np.ndarray:
    """θ_i = arccos of the zeros of P_n, mapped to [cos high, cos low]."""
    top, bottom = np.cos(extent)
    x = legendre_nodes(n)[0][::-1]
    return np.arccos(np.clip((top + bottom + (top - bottom) * x) / 2, -1.0, 1.0))


def degree(n: int, measure: str) -> int:
    """2n-1; with dθ dφ, to which the nodes are not fitted, n-1 (n if n is odd)."""
    return n - 1 + n % 2 if measure == "flat" else 2 * n - 1


def analysis(n: int, measure: str, extent: Band) -> np.ndarray:
    """a_k = (k+½) Σ w_i f_i P_k(x_i)."""
    x, weights = (array[::-1] for array in legendre_nodes(n))
    matrix = (np.arange(n) + 0.5)[:, None] * legendre_basis(n, x).T * weights
    return matrix / np.sin(nodes(n, extent)) if measure == "included" else matrix


def basis(count: int, theta: np.ndarray, measure: str, extent: Band) -> np.ndarray:
    factor = np.sin(theta) if measure == "included" else np.ones_like(theta)
    return legendre_basis(count, _cosine(theta, extent)) * factor[:, None]


def moments(count: int, measure: str, extent: Band, band: Band) -> np.ndarray:
    """Closed form in solid angle; with dθ dφ a Gauss rule in θ exact for these polynomials."""
    if measure == "flat":
        low, high = band
        x, weights = legendre_nodes(count // 2 + 40)
        theta = (low + high + (high - low) * x) / 2
        return (high - low) / 2 * (weights @ basis(count, theta, measure, extent))
    top, bottom = np.cos(extent)
    high, low = _cosine(np.asarray(band), extent)
    return (top - bottom) / 2 * legendre_moments(count, low, high)


RULE = Rule(
    name="gauss-legendre",
    why="free to choose the rings: the highest degree per ring, poles or bands",
    measures=("solid-angle", "flat", "included"),
    nodes=nodes,
    degree=degree,
    weights=interpolatory(analysis, moments),
    analysis=analysis,
    basis=basis,
    moments=moments,
    partial=True,
)
