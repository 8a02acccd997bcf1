"""Everything that is computed once for a grid and a measure, by numpy in double precision."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from diffsim.quadrature import periodic, table, tail
from diffsim.quadrature.base import SPHERE, Band, Interpolatory, PointRule, Rule
from diffsim.quadrature.grid import Grid


@dataclass(frozen=True)
class Scheme:
    """Weights of a grid for one measure, and the models of what they leave out.

    For grids of rings the weights are theta × phi (× stretch where zoomed); for point rules
    ``theta`` holds them all.

    Attributes:
        rule: the rule that integrates.
        degree: what the weights are exact to.
        theta: (rows,) or (points,).
        phi: (columns,), or None.
        stretch: λ² of the zoom, (rows or points,), or None.
        rows: for each ring of the extent, the sampled row.
        columns: for each meridian of the turn, the sampled column.
        tails: how the error follows from the spectrum: in θ and φ, or by degree.
    """

    rule: Rule | PointRule
    degree: int
    theta: np.ndarray
    phi: np.ndarray | None
    stretch: np.ndarray | None
    rows: np.ndarray
    columns: np.ndarray
    tails: tuple[tail.Colatitude | tail.Halving, tail.Longitude] | tail.Scattered

    @property
    def weights(self) -> np.ndarray:
        """Of the samples' shape."""
        theta = self.theta if self.stretch is None else self.theta * self.stretch
        return theta if self.phi is None else np.outer(theta, self.phi)


@lru_cache(maxsize=64)
def scheme_of(
    grid: Grid, measure: str, asked: str | None = None, band: Band | None = None
) -> Scheme:
    """Choose the rule and compute its weights, degree and error model.

    Raises:
        ValueError: no rule fits the grid, measure and band.
    """
    kind = table.choose(grid.rule, measure, grid.extent, asked)
    stretch = None
    if grid.zoom is not None:
        if measure != "solid-angle" or band is not None:
            raise ValueError(f"measure: a zoomed grid expected solid-angle, no band; got {measure}")
        stretch = grid.zoom.stretch(grid.axes[0]) ** 2
    if issubclass(kind, PointRule):
        if band is not None:
            raise ValueError(f"band: {kind.name} expected none, got {band}")
        points, every = kind.create(grid.n_theta), np.arange(grid.shape[0])
        spectrum = tail.Scattered.of(points)
        return Scheme(
            points, points.degree, points.weights(), None, stretch, every, every, spectrum
        )
    rule = kind.create(grid.n_theta, measure, grid.extent)
    whole = grid.extent
    part = whole if band is None else (float(band[0]), float(band[1]))
    if not whole[0] - 1e-9 <= part[0] < part[1] <= whole[1] + 1e-9:
        raise ValueError(f"band: expected low < high within {whole}, got {part}")
    rows = grid.symmetry.rows(grid.n_theta)
    columns = grid.symmetry.columns(grid.n_phi)
    theta = rule.weights(part)
    degree = rule.degree
    in_theta: tail.Colatitude | tail.Halving
    if not isinstance(rule, Interpolatory):
        in_theta = tail.Halving.of(rule)
    else:
        in_theta = tail.Colatitude.of(rule, part)
        # Degrees beyond the expansion are a gift of the whole sphere's symmetry.
        gift = rule.space == "polynomial" or measure != "flat" or whole == SPHERE
        degree = degree if part == whole and gift else len(in_theta.analysis) - 1
    return Scheme(
        rule=rule,
        degree=min(degree, periodic.degree(grid.n_phi)),
        theta=periodic.fold(theta, rows),
        phi=periodic.fold(periodic.weights(grid.n_phi), columns),
        stretch=stretch,
        rows=rows,
        columns=columns,
        tails=(in_theta, tail.Longitude.of(grid.n_phi)),
    )
