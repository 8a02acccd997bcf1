"""The contract of a rule: where its samples lie, its weights, and the degree it is exact to."""

from dataclasses import dataclass
from typing import ClassVar, Literal, Self, get_args

import numpy as np

Measure = Literal["solid-angle", "flat", "included"]
MEASURES: tuple[str, ...] = get_args(Measure)
Band = tuple[float, float]
SPHERE: Band = (0.0, np.pi)


@dataclass(frozen=True)
class Rule:
    """A rule for the rings; in longitude it is always the periodic trapezoid.

    To add one: subclass with what raises ``NotImplementedError`` here, and a line in the rule
    table, from which it inherits its tests. All is computed once per grid, by numpy in double
    precision.

    Attributes:
        n: rings.
        measure: what is integrated, one of ``measures``.
        extent: first and last colatitude covered, rad.
        name: the key in the rule table.
        why: one line on when this is the right rule.
        measures: the measures it integrates.
        partial: whether the extent may stop short of the poles.
        nested: whether doubling n - 1 keeps every old node.
        space: "harmonic", or "polynomial" in colatitude: what the degree counts.
        least: the fewest rings.
    """

    n: int
    measure: str = "solid-angle"
    extent: Band = SPHERE
    name: ClassVar[str]
    why: ClassVar[str]
    measures: ClassVar[tuple[str, ...]] = MEASURES
    partial: ClassVar[bool] = False
    nested: ClassVar[bool] = False
    space: ClassVar[str] = "harmonic"
    least: ClassVar[int] = 3

    @classmethod
    def create(cls, n: int, measure: str | None = None, extent: Band = SPHERE) -> Self:
        """The rule for n rings, by default of the first measure that it has.

        Raises:
            ValueError: too few rings, or a measure or extent that it is not made for.
        """
        if n < cls.least:
            raise ValueError(f"n_theta: expected at least {cls.least} rings, got {n}")
        if not 0.0 <= extent[0] < extent[1] <= np.pi:
            raise ValueError(f"extent: expected 0 <= low < high <= π, got {extent}")
        measure = cls.measures[0] if measure is None else measure
        if measure not in cls.measures:
            known = ", ".join(cls.measures)
            raise ValueError(f"measure: {cls.name} expected one of {known}, got {measure!r}")
        if extent != SPHERE and not cls.partial:
            raise ValueError(f"extent: {cls.name} expected the whole sphere, got {extent}")
        return cls(n, measure, extent)

    @property
    def nodes(self) -> np.ndarray:
        """Colatitudes (n,), rad, rising."""
        raise NotImplementedError

    @property
    def degree(self) -> int:
        """The highest degree integrated exactly on the whole sphere."""
        raise NotImplementedError

    def weights(self, band: Band | None = None) -> np.ndarray:
        """(n,): the integral over ``band`` inside the extent, by default all of it."""
        raise NotImplementedError

    def basis(self, count: int, theta: np.ndarray) -> np.ndarray:
        """The first functions of the expansion as the samples show them, (len(theta), count)."""
        raise NotImplementedError

    def moments(self, count: int, band: Band | None = None) -> np.ndarray:
        """Exact integrals of the basis over ``band``, by default the extent, (count,)."""
        raise NotImplementedError

    def coarse(self, level: int) -> np.ndarray:
        """The rule on every 2^level-th node, (n,): its error, where there is no ``analysis``."""
        raise NotImplementedError


class Interpolatory(Rule):
    """A rule that expands the samples and integrates the expansion exactly: w = Aᵀ m.

    The tail of the expansion tells the error.
    """

    @property
    def analysis(self) -> np.ndarray:
        """A: coefficients from samples, (K, n), K <= n."""
        raise NotImplementedError

    def weights(self, band: Band | None = None) -> np.ndarray:
        analysis = self.analysis
        return analysis.T @ self.moments(len(analysis), band)


@dataclass(frozen=True)
class PointRule:
    """A rule for the whole sphere at once, with samples in one list; solid angle only.

    Attributes:
        n: its size, as the rule counts it.
        name, why, measures: as for :class:`Rule`.
    """

    n: int
    name: ClassVar[str]
    why: ClassVar[str]
    measures: ClassVar[tuple[str, ...]] = ("solid-angle",)

    @classmethod
    def create(cls, n: int) -> Self:
        """The rule of size n.

        Raises:
            ValueError: it does not exist.
        """
        if not cls.exists(n):
            raise ValueError(f"n_theta: expected a size that {cls.name} has, got {n}")
        return cls(n)

    @classmethod
    def exists(cls, n: int) -> bool:
        """Whether there is a rule of this size."""
        return n >= 1

    @property
    def points(self) -> tuple[np.ndarray, np.ndarray]:
        """Colatitudes and longitudes, (N,) each, rad."""
        raise NotImplementedError

    @property
    def degree(self) -> int:
        """The highest degree of spherical harmonics integrated exactly."""
        raise NotImplementedError

    def weights(self) -> np.ndarray:
        """(N,), summing to 4π."""
        raise NotImplementedError


def density(theta: np.ndarray, measure: str) -> np.ndarray:
    """dμ/(dθ dφ): sinθ for the solid angle, 1 where the samples need no factor."""
    return np.sin(theta) if measure == "solid-angle" else np.ones_like(theta)


def carried(theta: np.ndarray, measure: str) -> np.ndarray:
    """The factor that the samples carry: sinθ where it is included in them, else 1."""
    return np.sin(theta) if measure == "included" else np.ones_like(theta)
