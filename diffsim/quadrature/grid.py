"""Where the samples are: a description of the grid, made from sizes or recognised from angles."""

import numpy as np
from flax import struct

from diffsim._types import ArrayLike
from diffsim.quadrature import periodic, table
from diffsim.quadrature.base import SPHERE, Band, PointRule, Rule
from diffsim.quadrature.periodic import Symmetry
from diffsim.quadrature.zoom import Zoom

ANGLE = 1e-6  # rad, within which angles in single precision are what they claim


@struct.dataclass
class Grid:
    """A grid on the sphere; every field is static, so it is hashable and free to close over.

    Attributes:
        rule: the rule that placed the rings, a key of the rule table.
        n_theta: rings of the whole extent; for point rules the rule's size.
        n_phi: distinct meridians of the whole turn; 0 for point rules.
        extent: the colatitudes covered, rad.
        phi_start: the first meridian, rad.
        symmetry: what is declared, so that only ``shape`` of the points is sampled.
        zoom: the beam the grid is bent towards, or None.
    """

    rule: str = struct.field(pytree_node=False)
    n_theta: int = struct.field(pytree_node=False)
    n_phi: int = struct.field(pytree_node=False)
    extent: Band = struct.field(pytree_node=False, default=SPHERE)
    phi_start: float = struct.field(pytree_node=False, default=0.0)
    symmetry: Symmetry = struct.field(pytree_node=False, default=Symmetry())
    zoom: Zoom | None = struct.field(pytree_node=False, default=None)

    @property
    def placed_by(self) -> Rule | PointRule:
        """The rule that placed the samples."""
        kind = table.find(self.rule)
        if issubclass(kind, PointRule):
            return kind(self.n_theta)
        return kind(self.n_theta, extent=self.extent)  # any measure, so without its check

    @property
    def axes(self) -> tuple[np.ndarray, np.ndarray]:
        """The sampled colatitudes and longitudes before a zoom; of each point for point rules."""
        rule = self.placed_by
        if isinstance(rule, PointRule):
            return rule.points
        phi = periodic.longitudes(self.n_phi, self.phi_start)
        rows, columns = self.symmetry.rows(self.n_theta), self.symmetry.columns(self.n_phi)
        return rule.nodes[: rows.max() + 1], phi[: columns.max() + 1]

    @property
    def points(self) -> tuple[np.ndarray, np.ndarray]:
        """Colatitude and longitude of every sample, rad, each of the samples' shape."""
        theta, phi = self.axes
        if self.n_phi:
            theta, phi = np.meshgrid(theta, phi, indexing="ij")
        return (theta, phi) if self.zoom is None else self.zoom.place(theta, phi)

    @property
    def shape(self) -> tuple[int, ...]:
        """The samples' shape: (rings, meridians), or (points,)."""
        theta, phi = self.axes
        return (len(theta), len(phi)) if self.n_phi else (len(theta),)


def sphere_grid(
    n_theta: int,
    n_phi: int | None = None,
    rule: str = "clenshaw-curtis",
    *,
    extent: Band = SPHERE,
    phi_start: float = 0.0,
    symmetry: Symmetry | None = None,
    zoom: Zoom | None = None,
) -> Grid:
    """Lay out a grid on the sphere: rings in θ, equal steps in φ, or a rule's scattered points.

    Sizes count the whole sphere; a declared symmetry then leaves ``grid.shape`` to sample.

    Args:
        n_theta: number of rings; for ``lebedev`` the degree, for ``thinned`` the rings.
        n_phi: number of meridians, 2π not repeated; None for twice the intervals in θ.
        rule: a key of the rule table; it places the rings (``clenshaw-curtis``: linspace).
        extent: first and last colatitude, rad, where the samples do not cover the sphere.
        phi_start: the first meridian, rad.
        symmetry: what f is known to satisfy.
        zoom: a narrow beam to bend the grid towards (solid angle only).

    Raises:
        ValueError: too few samples, or parts that do not go together.

    >>> sphere_grid(5, 8).points[0][:, 0].round(3).tolist()
    [0.0, 0.785, 1.571, 2.356, 3.142]
    >>> sphere_grid(41, 80, symmetry=Symmetry(equator=True, mirror=True)).shape
    (21, 41)
    >>> sphere_grid(1, 8)
    Traceback (most recent call last):
    ...
    ValueError: n_theta: expected at least 3 rings, got 1

    Source: N. Hale, A. Townsend, SIAM J. Sci. Comput. 38 (2016) C479, for the doubled sphere.
    """
    chosen = table.find(rule)
    symmetry = symmetry or Symmetry()
    whole = (float(extent[0]), float(extent[1]))
    whole = SPHERE if np.allclose(whole, SPHERE, rtol=0, atol=ANGLE) else whole
    if zoom is not None and (whole != SPHERE or not 0 < zoom.half_angle < np.pi):
        raise ValueError("zoom: expected the whole sphere and a half-angle in (0, π)")
    if zoom is not None and symmetry.equator:
        raise ValueError("zoom: expected symmetries about the beam only, got equator")
    if issubclass(chosen, PointRule):
        if n_phi or symmetry != Symmetry() or whole != SPHERE or phi_start:
            raise ValueError(f"rule: {rule} expected a size and no n_phi, symmetry or extent")
        return Grid(rule, chosen.create(n_theta).n, 0, zoom=zoom)
    n_phi = 2 * max(n_theta - 1, 1) if n_phi is None else n_phi
    if n_phi < 1 or symmetry.fold < 1 or n_phi % symmetry.fold:
        raise ValueError(
            f"n_phi: expected a positive multiple of the fold {symmetry.fold}, got {n_phi}"
        )
    if symmetry.equator and not np.isclose(sum(whole), np.pi, rtol=0, atol=1e-9):
        raise ValueError(f"extent: an equator symmetry expected it centred on π/2, got {whole}")
    table.make(table.choose(rule, "flat", whole).name, n_theta, measure="flat", extent=whole)
    return Grid(rule, n_theta, n_phi, whole, float(phi_start), symmetry, zoom)


def declared(grid: Grid, symmetry: Symmetry) -> Grid:
    """The grid with this symmetry declared instead of its own."""
    return sphere_grid(
        grid.n_theta,
        grid.n_phi or None,
        grid.rule,
        extent=grid.extent,
        phi_start=grid.phi_start,
        symmetry=symmetry,
        zoom=grid.zoom,
    )


def recognise(
    theta: ArrayLike, phi: ArrayLike, symmetry: Symmetry | None = None, extent: Band | None = None
) -> Grid:
    """The grid whose rings and meridians are these: linspace, midpoints, Gauss points, …

    A last meridian that repeats the first (φ + 2π) is recognised and not counted.

    Args:
        theta: sampled colatitudes (n,), rad, rising.
        phi: sampled longitudes (m,), rad, rising in equal steps.
        symmetry: what f is known to satisfy; the samples then cover its part of the sphere.
        extent: the colatitudes covered, rad, where that is neither the sphere nor first to last.

    Raises:
        ValueError: the angles are those of no rule.

    >>> grid = recognise(np.linspace(0, np.pi, 41), np.linspace(0, 2 * np.pi, 81))
    >>> grid.rule, grid.shape
    ('clenshaw-curtis', (41, 80))
    """
    symmetry = symmetry or Symmetry()
    theta, phi = (np.asarray(angles, dtype=float) for angles in (theta, phi))
    if theta.ndim != 1 or phi.ndim != 1 or len(theta) < 1 or len(phi) < 1:
        raise ValueError(
            f"theta, phi: expected two lists of angles, got {theta.shape}, {phi.shape}"
        )
    turn = 2 * np.pi / symmetry.fold / (2 if symmetry.mirror else 1)
    steps = round(turn / (phi[1] - phi[0])) if len(phi) > 1 and phi[1] > phi[0] else 1
    n_phi = steps * symmetry.fold * (2 if symmetry.mirror else 1)
    closing = phi[0] + turn * np.arange(len(phi)) / steps
    if steps + 1 - len(phi) not in (0, 1) or not np.allclose(phi, closing, rtol=0, atol=ANGLE):
        raise ValueError(
            f"phi: expected equal steps over {turn:.6g} rad, got {len(phi)} values in "
            f"[{phi[0]:.6g}, {phi[-1]:.6g}]"
        )
    low, high = theta[0], np.pi - theta[0] if symmetry.equator else theta[-1]
    sizes = [2 * len(theta) - 1, 2 * len(theta)] if symmetry.equator else [len(theta)]
    for covered in [extent] if extent else [SPHERE, (low, high)]:
        for name, rule in table.RULES.items():
            for n in sizes:
                if issubclass(rule, PointRule) or (covered != SPHERE and not rule.partial):
                    continue
                nodes = rule(n, extent=covered).nodes[: len(theta)]
                if np.allclose(nodes, theta, rtol=0, atol=ANGLE):
                    return sphere_grid(
                        n, n_phi, name, extent=covered, phi_start=phi[0], symmetry=symmetry
                    )
    raise ValueError(
        f"theta: expected linspace, midpoints or Gauss points, got {len(theta)} values in "
        f"[{theta[0]:.6g}, {theta[-1]:.6g}]"
    )
