"""The contract of a rule: where its samples lie, its weights, and the degree it is exact to."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

Measure = Literal["solid-angle", "flat", "included"]
MEASURES: tuple[str, ...] = get_args(Measure)
Band = tuple[float, float]
SPHERE: Band = (0.0, np.pi)


@dataclass(frozen=True)
class Rule:
    """A rule for colatitude; longitude is always the periodic trapezoid.

    The tail of the error comes from an expansion of the samples: ``analysis`` gives its
    coefficients, ``basis`` its functions between the samples, ``moments`` their exact integrals.
    Everything is computed once per grid, by numpy in double precision.

    Attributes:
        name: the key in the rule table.
        why: one line on when this is the right rule.
        measures: the measures it integrates.
        nodes: (n, extent) -> colatitudes (n,), rad, rising.
        degree: (n, measure) -> the highest degree integrated exactly on the whole sphere.
        weights: (n, measure, extent, band) -> (n,), the integral over ``band`` inside ``extent``.
        analysis: (n, measure, extent) -> (K, n), coefficients from samples, K <= n; None for a
            rule without an expansion.
        basis: (count, theta, measure, extent) -> (len(theta), count), as the samples show it.
        moments: (count, measure, extent, band) -> (count,), integrals of the basis.
        coarse: (n, measure, extent, level) -> (n,), the rule on every 2^level-th node, for rules
            without an expansion.
        partial: whether the extent may stop short of the poles.
        nested: whether doubling n - 1 keeps every old node.
        space: "harmonic", or "polynomial" in colatitude: what the degree counts.
    """

    name: str
    why: str
    measures: tuple[str, ...]
    nodes: Callable[[int, Band], np.ndarray]
    degree: Callable[[int, str], int]
    weights: Callable[[int, str, Band, Band], np.ndarray]
    analysis: Callable[[int, str, Band], np.ndarray] | None
    basis: Callable[[int, np.ndarray, str, Band], np.ndarray]
    moments: Callable[[int, str, Band, Band], np.ndarray]
    coarse: Callable[[int, str, Band, int], np.ndarray] | None = None
    partial: bool = False
    nested: bool = False
    space: str = "harmonic"


@dataclass(frozen=True)
class PointRule:
    """A rule for the whole sphere at once, with samples in one list; solid angle only.

    Attributes:
        name: the key in the rule table.
        why: one line on when this is the right rule.
        sizes: the sizes ``n`` it exists for.
        points: n -> colatitudes and longitudes, (N,) each, rad.
        weights: n -> (N,), summing to 4π.
        degree: n -> the highest degree of spherical harmonics integrated exactly.
    """

    name: str
    why: str
    sizes: Callable[[int], bool]
    points: Callable[[int], tuple[np.ndarray, np.ndarray]]
    weights: Callable[[int], np.ndarray]
    degree: Callable[[int], int]
    measures: tuple[str, ...] = ("solid-angle",)


def density(theta: np.ndarray, measure: str) -> np.ndarray:
    """dμ/(dθ dφ): sinθ for the solid angle, 1 where the samples need no factor."""
    return np.sin(theta) if measure == "solid-angle" else np.ones_like(theta)


def interpolatory(
    analysis: Callable[[int, str, Band], np.ndarray],
    moments: Callable[[int, str, Band, Band], np.ndarray],
) -> Callable[[int, str, Band, Band], np.ndarray]:
    """Weights that integrate the expansion of the samples exactly: w = Aᵀ m."""

    def weights(n: int, measure: str, extent: Band, band: Band) -> np.ndarray:
        matrix = analysis(n, measure, extent)
        return matrix.T @ moments(len(matrix), measure, extent, band)

    return weights


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
