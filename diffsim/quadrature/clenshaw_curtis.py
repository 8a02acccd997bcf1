"""Clenshaw–Curtis on linspace(0, π, n): the cosine series of the samples, integrated exactly.

With dθ dφ the same formula gives the end-point trapezoid, which no spline can better.
C. W. Clenshaw and A. R. Curtis, Numer. Math. 2 (1960) 197, with x = cosθ.
"""

import numpy as np

from diffsim.quadrature.base import Band, Rule, interpolatory
from diffsim.quadrature.series import cosine_moments


def nodes(n: int, extent: Band) -> np.ndarray:
    """θ_i = i π/(n-1), both poles included."""
    return np.linspace(*extent, n)


def degree(n: int, measure: str) -> int:
    """With N = n-1 intervals: N (N+1 if N is even); 2N-1 with dθ dφ, where cos 2Nθ aliases to 1."""
    intervals = n - 1
    return 2 * intervals - 1 if measure == "flat" else intervals + (intervals + 1) % 2


def analysis(n: int, measure: str, extent: Band) -> np.ndarray:
    """a_k = (2/N) Σ'' f_i cos(kθ_i), the first and last term and coefficient halved."""
    ends = np.ones(n)
    ends[[0, -1]] = 0.5
    return 2 / (n - 1) * np.outer(ends, ends) * basis(n, nodes(n, extent), measure, extent).T


def basis(count: int, theta: np.ndarray, measure: str, extent: Band) -> np.ndarray:
    return np.cos(np.outer(theta, np.arange(count)))


def moments(count: int, measure: str, extent: Band, band: Band) -> np.ndarray:
    return cosine_moments(count, measure, band)


RULE = Rule(
    name="clenshaw-curtis",
    why="samples on linspace(0, π) of a function even across the poles: its cosine series, "
    "which for dθ dφ is the end-point trapezoid",
    measures=("solid-angle", "flat"),
    nodes=nodes,
    degree=degree,
    weights=interpolatory(analysis, moments),
    analysis=analysis,
    basis=basis,
    moments=moments,
    nested=True,
)
