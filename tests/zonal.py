"""Harmonics about an axis, and their integrals in closed form."""

import numpy as np


def zonal(degree: int, cosine: np.ndarray) -> np.ndarray:
    """The Legendre polynomial P_l: as P_l(u·x) the harmonic of degree l about the axis u."""
    return np.polynomial.legendre.legval(cosine, np.eye(degree + 1)[degree])


def zonal_integral(degree: int, axis: np.ndarray, measure: str) -> float:
    """∫ P_l(u·x) dμ: 4π for l = 0 in solid angle; 2π² P_l(u_z) ((l-1)!!/l!!)² for dθ dφ, l even."""
    if measure != "flat":
        return 4 * np.pi if degree == 0 else 0.0
    if degree % 2:
        return 0.0
    ratio = np.prod([(k - 1) / k for k in range(2, degree + 1, 2)])
    return float(2 * np.pi**2 * ratio**2 * zonal(degree, axis[2]))
