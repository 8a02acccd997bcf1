"""Gauss–Legendre in θ itself: free points, but a function with no parity across the poles."""

import numpy as np

from diffsim.quadrature.base import Band, Interpolatory, Rule, density
from diffsim.quadrature.series import legendre_basis, legendre_moments, legendre_nodes


class PolynomialRule(Rule):
    """A rule for polynomials of θ times the measure's density, over any extent."""

    partial = True
    space = "polynomial"

    def basis(self, count: int, theta: np.ndarray) -> np.ndarray:
        factor = density(theta, self.measure)
        inverse = np.divide(1.0, factor, where=factor > 1e-12, out=np.zeros_like(factor))
        return legendre_basis(count, self._scaled(theta)) * inverse[:, None]

    def moments(self, count: int, band: Band | None = None) -> np.ndarray:
        low, high = self._scaled(np.asarray(band or self.extent))
        return (self.extent[1] - self.extent[0]) / 2 * legendre_moments(count, low, high)

    def _scaled(self, theta: np.ndarray) -> np.ndarray:
        """θ mapped to [-1, 1] over the extent."""
        low, high = self.extent
        return (2 * theta - low - high) / (high - low)


class GaussColatitude(PolynomialRule, Interpolatory):
    """The Legendre series of the whole integrand in θ."""

    name = "gauss-colatitude"
    why = "free to choose the rings of a function without parity across the poles"
    least = 1

    @property
    def nodes(self) -> np.ndarray:
        """The zeros of P_n mapped to the extent."""
        low, high = self.extent
        return (low + high + (high - low) * legendre_nodes(self.n)[0]) / 2

    @property
    def degree(self) -> int:
        """2n-1."""
        return 2 * self.n - 1

    @property
    def analysis(self) -> np.ndarray:
        """a_k = (k+½) Σ w_i h_i P_k, h the whole integrand (sinθ times the samples if needed)."""
        x, weights = legendre_nodes(self.n)
        matrix = (np.arange(self.n) + 0.5)[:, None] * legendre_basis(self.n, x).T * weights
        return matrix * density(self.nodes, self.measure)
