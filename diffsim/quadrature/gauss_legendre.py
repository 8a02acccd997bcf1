"""Gauss–Legendre in cosθ: the fewest rings for a degree, when the sample points are free."""

import numpy as np

from diffsim.quadrature.base import Band, Interpolatory, carried
from diffsim.quadrature.series import legendre_basis, legendre_moments, legendre_nodes


class GaussLegendre(Interpolatory):
    """The Legendre series in cosθ mapped to [-1, 1] over the extent."""

    name = "gauss-legendre"
    why = "free to choose the rings: the highest degree per ring, poles or bands"
    partial = True
    least = 1

    @property
    def nodes(self) -> np.ndarray:
        """θ_i = arccos of the zeros of P_n, mapped to [cos high, cos low]."""
        top, bottom = np.cos(self.extent)
        x = legendre_nodes(self.n)[0][::-1]
        return np.arccos(np.clip((top + bottom + (top - bottom) * x) / 2, -1.0, 1.0))

    @property
    def degree(self) -> int:
        """2n-1; with dθ dφ, to which the nodes are not fitted, n-1 (n if n is odd)."""
        return self.n - 1 + self.n % 2 if self.measure == "flat" else 2 * self.n - 1

    @property
    def analysis(self) -> np.ndarray:
        """a_k = (k+½) Σ w_i f_i P_k(x_i)."""
        x, weights = (array[::-1] for array in legendre_nodes(self.n))
        matrix = (np.arange(self.n) + 0.5)[:, None] * legendre_basis(self.n, x).T * weights
        return matrix / carried(self.nodes, self.measure)

    def basis(self, count: int, theta: np.ndarray) -> np.ndarray:
        factor = carried(theta, self.measure)
        return legendre_basis(count, self._cosine(theta)) * factor[:, None]

    def moments(self, count: int, band: Band | None = None) -> np.ndarray:
        """Closed form in solid angle; with dθ dφ a Gauss rule in θ exact for these polynomials."""
        low, high = band or self.extent
        if self.measure == "flat":
            x, weights = legendre_nodes(count // 2 + 40)
            theta = (low + high + (high - low) * x) / 2
            return (high - low) / 2 * (weights @ self.basis(count, theta))
        top, bottom = np.cos(self.extent)
        last, first = self._cosine(np.array([low, high]))
        return (top - bottom) / 2 * legendre_moments(count, first, last)

    def _cosine(self, theta: np.ndarray) -> np.ndarray:
        top, bottom = np.cos(self.extent)
        return (2 * np.cos(theta) - top - bottom) / (top - bottom)
