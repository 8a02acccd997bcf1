"""Gregory's rule of order 8: the trapezoid on linspace with end corrections, no parity asked.

J. Gregory's series; M. Javed and L. N. Trefethen, Numer. Math. 132 (2016) 201, eq. (1.3).
"""

from math import comb

import numpy as np

from diffsim.quadrature.base import Band, density
from diffsim.quadrature.clenshaw_curtis import Linspace
from diffsim.quadrature.gauss_colatitude import PolynomialRule

ORDER = 8


def _coefficients(count: int) -> np.ndarray:
    """Gregory's 1/12, 1/24, 19/720, …: of the power series of 1/log(1-x) + 1/x beyond ½."""
    series = [1.0]
    for n in range(1, count + 2):
        series.append(-sum(series[k] / (n - k + 1) for k in range(n)))
    return -np.array(series[2:])


def _line(n: int) -> np.ndarray:
    """Weights for unit spacing: trapezoid less Σ c_k (∇^k f_end + (-Δ)^k f_start)."""
    order = min(ORDER, n)
    weights = np.ones(n)
    weights[[0, -1]] = 0.5
    for k, coefficient in enumerate(_coefficients(order - 1)[: order - 1], start=1):
        stencil = [coefficient * (-1) ** j * comb(k, j) for j in range(k + 1)]
        weights[: k + 1] -= stencil
        weights[n - k - 1 :] -= stencil[::-1]
    return weights


def _coarse_line(n: int, level: int) -> np.ndarray:
    """The same on every 2^level-th point; a last odd interval keeps its own weights."""
    if level == 0 or n < 3:
        return _line(n)
    if n % 2 == 0:
        last = _line(n) - np.append(_line(n - 1), 0.0)
        return np.append(_coarse_line(n - 1, level), 0.0) + last
    weights = np.zeros(n)
    weights[::2] = 2 * _coarse_line((n + 1) // 2, level - 1)
    return weights


class Gregory(Linspace, PolynomialRule):
    """The trapezoid with end corrections."""

    name = "gregory"
    why = "samples on linspace that stop short of a pole or lack parity there: end corrections"

    @property
    def degree(self) -> int:
        """7; n-1 (n if n is odd) where n < 8."""
        return ORDER - 1 if self.n >= ORDER else self.n - 1 + self.n % 2

    def weights(self, band: Band | None = None) -> np.ndarray:
        if band not in (None, self.extent):
            raise ValueError(f"band: gregory expected the whole extent {self.extent}, got {band}")
        return self.coarse(0)

    def coarse(self, level: int) -> np.ndarray:
        step = (self.extent[1] - self.extent[0]) / (self.n - 1)
        return step * _coarse_line(self.n, level) * density(self.nodes, self.measure)
