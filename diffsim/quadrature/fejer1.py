"""Fejér's first rule on the midpoints (i+½)π/n: the cosine series, without the poles.

L. Fejér, Math. Z. 37 (1933) 287. With dθ dφ it is the midpoint rule.
"""

import numpy as np

from diffsim.quadrature.base import Band, Interpolatory, carried
from diffsim.quadrature.series import cosine_moments


class Fejer1(Interpolatory):
    """The cosine series on midpoints."""

    name = "fejer1"
    why = "samples on midpoints, no pole sampled: their cosine series"

    @property
    def nodes(self) -> np.ndarray:
        """θ_i = (i+½) π/n."""
        return (np.arange(self.n) + 0.5) * np.pi / self.n

    @property
    def degree(self) -> int:
        """n-1 (n if n is odd); 2n-1 with dθ dφ."""
        return 2 * self.n - 1 if self.measure == "flat" else self.n - 1 + self.n % 2

    @property
    def analysis(self) -> np.ndarray:
        """a_k = (2/n) Σ f_i cos(kθ_i), halved for k = 0."""
        matrix = 2 / self.n * np.cos(np.outer(np.arange(self.n), self.nodes))
        matrix[0] /= 2
        return matrix / carried(self.nodes, self.measure)

    def basis(self, count: int, theta: np.ndarray) -> np.ndarray:
        return np.cos(np.outer(theta, np.arange(count))) * carried(theta, self.measure)[:, None]

    def moments(self, count: int, band: Band | None = None) -> np.ndarray:
        measure = "flat" if self.measure == "flat" else "solid-angle"
        return cosine_moments(count, measure, band or self.extent)
