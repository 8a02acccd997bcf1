"""Fejér's first rule on the midpoints (i+½)π/n: the cosine series, without the poles.

L. Fejér, Math. Z. 37 (1933) 287. With dθ dφ it is the midpoint rule.
"""

import numpy as np

from diffsim.quadrature.base import Band, Rule, interpolatory
from diffsim.quadrature.series import cosine_moments


def nodes(n: int, extent: Band) -> np.ndarray:
    """θ_i = (i+½) π/n."""
    return (np.arange(n) + 0.5) * np.pi / n


def degree(n: int, measure: str) -> int:
    """n-1 (n if n is odd); 2n-1 with dθ dφ."""
    return 2 * n - 1 if measure == "flat" else n - 1 + n % 2


def analysis(n: int, measure: str, extent: Band) -> np.ndarray:
    """a_k = (2/n) Σ f_i cos(kθ_i), halved for k = 0."""
    theta = nodes(n, extent)
    matrix = 2 / n * np.cos(np.outer(np.arange(n), theta))
    matrix[0] /= 2
    return matrix / np.sin(theta) if measure == "included" else matrix


def basis(count: int, theta: np.ndarray, measure: str, extent: Band) -> np.ndarray:
    factor = np.sin(theta) if measure == "included" else np.ones_like(theta)
    return np.cos(np.outer(theta, np.arange(count))) * factor[:, None]


def moments(count: int, measure: str, extent: Band, band: Band) -> np.ndarray:
    return cosine_moments(count, "flat" if measure == "flat" else "solid-angle", band)


RULE = Rule(
    name="fejer1",
    why="samples on midpoints, no pole sampled: their cosine series",
    measures=("solid-angle", "flat", "included"),
    nodes=nodes,
    degree=degree,
    weights=interpolatory(analysis, moments),
    analysis=analysis,
    basis=basis,
    moments=moments,
)
