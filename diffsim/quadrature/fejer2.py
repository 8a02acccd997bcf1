"""Fejér's second rule on the inner points iπ/(n+1): the series of U_k(cosθ) = sin((k+1)θ)/sinθ.

L. Fejér, Math. Z. 37 (1933) 287.
"""

import numpy as np

from diffsim.quadrature.base import Band, Rule, interpolatory
from diffsim.quadrature.series import ultraspherical_moments


def nodes(n: int, extent: Band) -> np.ndarray:
    """θ_i = i π/(n+1), i = 1 … n: linspace(0, π, n+2) without the poles."""
    return np.linspace(0.0, np.pi, n + 2)[1:-1]


def degree(n: int, measure: str) -> int:
    """n-1 (n if n is odd)."""
    return n - 1 + n % 2


def analysis(n: int, measure: str, extent: Band) -> np.ndarray:
    """u_k = 2/(n+1) Σ f_i sinθ_i sin((k+1)θ_i)."""
    theta = nodes(n, extent)
    factor = np.ones(n) if measure == "included" else np.sin(theta)
    return 2 / (n + 1) * np.sin(np.outer(np.arange(1, n + 1), theta)) * factor


def basis(count: int, theta: np.ndarray, measure: str, extent: Band) -> np.ndarray:
    sines = np.sin(np.outer(theta, np.arange(1, count + 1)))
    return sines if measure == "included" else sines / np.sin(theta)[:, None]


def moments(count: int, measure: str, extent: Band, band: Band) -> np.ndarray:
    return ultraspherical_moments(count, measure, band)


RULE = Rule(
    name="fejer2",
    why="samples on the inner points of linspace(0, π): their sine series over sinθ",
    measures=("solid-angle", "flat", "included"),
    nodes=nodes,
    degree=degree,
    weights=interpolatory(analysis, moments),
    analysis=analysis,
    basis=basis,
    moments=moments,
)
