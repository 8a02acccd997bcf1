"""Integrals of the trigonometric functions that the rules expand samples in."""

import numpy as np

from diffsim.quadrature.base import Band


def _primitive(k: np.ndarray, low: float, high: float) -> np.ndarray:
    """∫ sin(kθ) dθ over [low, high], with zero for k = 0."""
    safe = np.where(k == 0, 1, k)
    return np.where(k == 0, 0.0, (np.cos(k * low) - np.cos(k * high)) / safe)


def cosine_moments(count: int, measure: str, band: Band) -> np.ndarray:
    """∫ cos(kθ) dθ, or ∫ cos(kθ) sinθ dθ = 2/(1-k²) for even k on [0, π]; k < count."""
    k, (low, high) = np.arange(count), band
    if measure == "solid-angle":
        return 0.5 * (_primitive(k + 1, low, high) - _primitive(k - 1, low, high))
    safe = np.where(k == 0, 1, k)
    return np.where(k == 0, high - low, (np.sin(k * high) - np.sin(k * low)) / safe)


def ultraspherical_moments(count: int, measure: str, band: Band) -> np.ndarray:
    """∫ U_k(cosθ) dμ with U_k = sin((k+1)θ)/sinθ; ``included`` carries its sinθ already."""
    if measure == "flat":  # U_k = U_{k-2} + 2 cos kθ
        doubled = 2 * cosine_moments(count, "flat", band)
        doubled[0] /= 2
        doubled[0::2], doubled[1::2] = np.cumsum(doubled[0::2]), np.cumsum(doubled[1::2])
        return doubled
    return _primitive(np.arange(1, count + 1), *band)


def legendre_basis(count: int, x: np.ndarray) -> np.ndarray:
    """P_k(x) for k < count, shape (len(x), count)."""
    return np.polynomial.legendre.legvander(x, count - 1)


def legendre_moments(count: int, low: float, high: float) -> np.ndarray:
    """∫ P_k(x) dx over [low, high] = [P_{k+1} - P_{k-1}]/(2k+1)."""
    values = legendre_basis(count + 1, np.array([low, high]))
    difference = values[1] - values[0]
    k = np.arange(1, count)
    return np.concatenate([[high - low], (difference[2:] - difference[:-2]) / (2 * k + 1)])


def legendre_nodes(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Gauss–Legendre nodes and weights on [-1, 1], by Newton from Tricomi's first guess.

    Three steps of the recurrence cost O(n²), where an eigenvalue solver costs O(n³).
    """
    i = np.arange(n, 0, -1)
    x = (1 - (n - 1) / (8 * n**3)) * np.cos(np.pi * (4 * i - 1) / (4 * n + 2))
    for _ in range(4):
        below, value = np.ones_like(x), x
        for k in range(2, n + 1):
            below, value = value, ((2 * k - 1) * x * value - (k - 1) * below) / k
        slope = n * (below - x * value) / (1 - x * x)
        x = x - value / slope
    weights = 2 / ((1 - x * x) * slope**2)
    return x, weights * (2 / weights.sum())
