"""Clenshaw–Curtis on linspace(0, π, n): the cosine series of the samples, integrated exactly.

With dθ dφ the same formula gives the end-point trapezoid, which no spline can better.
C. W. Clenshaw and A. R. Curtis, Numer. Math. 2 (1960) 197, with x = cosθ.
"""

import numpy as np

from diffsim.quadrature.base import Band, Interpolatory, Rule
from diffsim.quadrature.series import cosine_moments


class Linspace(Rule):
    """Rings on linspace over the extent, both its ends included."""

    nested = True

    @property
    def nodes(self) -> np.ndarray:
        return np.linspace(*self.extent, self.n)


class ClenshawCurtis(Linspace, Interpolatory):
    """The cosine series on linspace(0, π)."""

    name = "clenshaw-curtis"
    why = (
        "samples on linspace(0, π) of a function even across the poles: its cosine series, "
        "which for dθ dφ is the end-point trapezoid"
    )
    measures = ("solid-angle", "flat")

    @property
    def degree(self) -> int:
        """With N = n-1 intervals: N (N+1 if N is even); 2N-1 with dθ dφ, where cos 2Nθ is 1."""
        intervals = self.n - 1
        return 2 * intervals - 1 if self.measure == "flat" else intervals + (intervals + 1) % 2

    @property
    def analysis(self) -> np.ndarray:
        """a_k = (2/N) Σ'' f_i cos(kθ_i), the first and last term and coefficient halved."""
        ends = np.ones(self.n)
        ends[[0, -1]] = 0.5
        return 2 / (self.n - 1) * np.outer(ends, ends) * self.basis(self.n, self.nodes).T

    def basis(self, count: int, theta: np.ndarray) -> np.ndarray:
        return np.cos(np.outer(theta, np.arange(count)))

    def moments(self, count: int, band: Band | None = None) -> np.ndarray:
        return cosine_moments(count, self.measure, band or self.extent)
