"""Six integrands with closed-form integrals, the yardstick of the tests and of the benchmark."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

ELEMENTS = 16
KAPPA = 200.0
ASYMMETRY = 0.8
CIN_2PI = 2.437653393057224  # ∫_0^{2π} (1 - cos t)/t dt = γ + ln 2π - Ci(2π)


@dataclass(frozen=True)
class Integrand:
    """A function of the angle γ from its axis, given through the versine 1 - cosγ.

    The versine keeps its digits near the axis, where cosγ loses them.

    Attributes:
        profile: versine -> value.
        integral: over the sphere in solid angle, exact.
        smooth: whether its spectrum falls faster than any power.
    """

    profile: Callable[[np.ndarray], np.ndarray]
    integral: float
    smooth: bool

    def __call__(self, axis: np.ndarray, theta: np.ndarray, phi: np.ndarray) -> np.ndarray:
        """Values with the axis (3,) at colatitudes and longitudes of any one shape."""
        s = np.sin(theta)
        direction = s * np.cos(phi), s * np.sin(phi), np.cos(theta)
        return self.profile(0.5 * sum((d - a) ** 2 for a, d in zip(axis, direction)))


def _quotient(top: np.ndarray, bottom: np.ndarray, limit: float) -> np.ndarray:
    small = np.abs(bottom) < 1e-9
    return np.where(small, limit, top / np.where(small, 1.0, bottom))


def _dipole(v: np.ndarray) -> np.ndarray:
    """Half-wave dipole: (cos(π/2 cosγ)/sinγ)²."""
    return _quotient(np.cos(np.pi / 2 * (1 - v)) ** 2, v * (2 - v), 0.0)


def _array(v: np.ndarray) -> np.ndarray:
    """Uniform line array of half-wave spacing: (sin(Nπ/2 cosγ)/sin(π/2 cosγ))²."""
    u = np.pi / 2 * (1 - v)
    return _quotient(np.sin(ELEMENTS * u), np.sin(u), float(ELEMENTS)) ** 2


def _fisher(v: np.ndarray) -> np.ndarray:
    """Von Mises–Fisher over its peak, exp(κ(cosγ-1)): the peak itself would overflow float32."""
    return np.exp(-KAPPA * v)


def _greenstein(v: np.ndarray) -> np.ndarray:
    """Henyey–Greenstein: (1-g²)/(1+g²-2g cosγ)^{3/2}."""
    return (1 - ASYMMETRY**2) / ((1 - ASYMMETRY) ** 2 + 2 * ASYMMETRY * v) ** 1.5


INTEGRANDS = {
    "dipole": Integrand(_dipole, np.pi * CIN_2PI, True),
    "array": Integrand(_array, 4 * np.pi * ELEMENTS, True),
    "von Mises-Fisher": Integrand(_fisher, -2 * np.pi * np.expm1(-2 * KAPPA) / KAPPA, True),
    "Henyey-Greenstein": Integrand(_greenstein, 4 * np.pi, True),
    "|cos|": Integrand(lambda v: np.abs(1 - v), 2 * np.pi, False),
    "cap": Integrand(lambda v: (v < 1 - np.cos(1.0)) * 1.0, 2 * np.pi * (1 - np.cos(1.0)), False),
}


def axes(count: int, seed: int) -> np.ndarray:
    """Unit vectors (count, 3) uniform on the sphere."""
    vectors = np.random.default_rng(seed).normal(size=(count, 3))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
