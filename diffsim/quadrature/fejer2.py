"""Fejér's second rule on the inner points iπ/(n+1): the series of U_k(cosθ) = sin((k+1)θ)/sinθ.

L. Fejér, Math. Z. 37 (1933) 287.
"""

import numpy as np

from diffsim.quadrature.base import Band, Interpolatory
from diffsim.quadrature.series import ultraspherical_moments


class Fejer2(Interpolatory):
    """The sine series over sinθ on linspace(0, π, n+2) without the poles."""

    name = "fejer2"
    why = "samples on the inner points of linspace(0, π): their sine series over sinθ"

    @property
    def nodes(self) -> np.ndarray:
        """θ_i = i π/(n+1), i = 1 … n."""
        return np.linspace(0.0, np.pi, self.n + 2)[1:-1]

    @property
    def degree(self) -> int:
        """n-1 (n if n is odd)."""
        return self.n - 1 + self.n % 2

    @property
    def analysis(self) -> np.ndarray:
        """u_k = 2/(n+1) Σ f_i sinθ_i sin((k+1)θ_i)."""
        n, theta = self.n, self.nodes
        factor = np.ones(n) if self.measure == "included" else np.sin(theta)
        return 2 / (n + 1) * np.sin(np.outer(np.arange(1, n + 1), theta)) * factor

    def basis(self, count: int, theta: np.ndarray) -> np.ndarray:
        sines = np.sin(np.outer(theta, np.arange(1, count + 1)))
        return sines if self.measure == "included" else sines / np.sin(theta)[:, None]

    def moments(self, count: int, band: Band | None = None) -> np.ndarray:
        return ultraspherical_moments(count, self.measure, band or self.extent)
