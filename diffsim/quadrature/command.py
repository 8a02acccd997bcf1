"""What ``scripts/integrate.py`` does: read samples, recognise their grid, report the integral."""

from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from diffsim.quadrature import table
from diffsim.quadrature.base import SPHERE, Measure, PointRule
from diffsim.quadrature.grid import Grid, recognise, sphere_grid
from diffsim.quadrature.parity import explain
from diffsim.quadrature.periodic import Symmetry
from diffsim.quadrature.sphere import integrate, weights


@dataclass(frozen=True)
class Options:
    """Integrate samples on the sphere, and print value ± error, the rule, and why.

    Attributes:
        samples: .npy file of (rings, meridians), (points,), or a stack of such in time.
        measure: solid-angle for sinθ dθ dφ; flat for dθ dφ; included if the samples carry sinθ.
        grid: the rule that placed the samples: clenshaw-curtis (linspace), fejer1 (midpoints), ….
        theta: .npy file of the colatitudes in rad; the grid is recognised from them.
        phi: .npy file of the longitudes in rad, with theta.
        extent: first and last colatitude in degrees, where not 0 180.
        band: integrate over these colatitudes only, in degrees.
        equator: f is the same at π-θ: the samples stop at the equator.
        mirror: f is the same at -φ: the samples stop at π.
        fold: f repeats after 2π/fold: the samples cover one part.
        mask: .npy file of booleans, True where a sample is good.
        rule: overrule the choice of rule, for example gregory.
    """

    samples: Path
    measure: Measure = "solid-angle"
    grid: str | None = None
    theta: Path | None = None
    phi: Path | None = None
    extent: tuple[float, float] = (0.0, 180.0)
    band: tuple[float, float] | None = None
    equator: bool = False
    mirror: bool = False
    fold: int = 1
    mask: Path | None = None
    rule: str | None = None


def load(path: Path) -> np.ndarray:
    """The array in a .npy file.

    Raises:
        ValueError: there is no such file, or it is no array of numbers.
    """
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ValueError(f"{path}: expected a .npy array, got {error}") from error
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiub":
        raise ValueError(f"{path}: expected an array of real numbers, got {type(array).__name__}")
    return array


def layout(options: Options, samples: np.ndarray) -> Grid:
    """The grid that one step of samples is claimed to be on.

    Raises:
        ValueError: it cannot be.
    """
    symmetry = Symmetry(options.equator, options.mirror, options.fold)
    low, high = np.deg2rad(options.extent)
    extent = SPHERE if np.allclose(options.extent, (0.0, 180.0)) else (float(low), float(high))
    if options.theta or options.phi:
        if not (options.theta and options.phi):
            raise ValueError("theta, phi: expected both files or neither, got one")
        covered = None if extent == SPHERE else extent
        grid = recognise(load(options.theta), load(options.phi), symmetry, covered)
        if options.grid not in (None, grid.rule):
            raise ValueError(f"grid: expected the angles of {options.grid}, got {grid.rule}'s")
        return grid
    name = options.grid or "clenshaw-curtis"
    rule = table.find(name)
    if isinstance(rule, PointRule):
        for n in filter(rule.sizes, range(1, 200)):
            if len(rule.weights(n)) >= len(samples):
                break
        return sphere_grid(n, rule=name)
    if samples.ndim != 2:
        raise ValueError(f"samples: expected (rings, meridians), got shape {samples.shape}")
    rings, meridians = samples.shape
    if options.equator:
        rings = 2 * rings - 1 if rule.nested else 2 * rings
    if options.mirror:
        meridians = 2 * (meridians - 1)
    elif meridians > 1 and np.allclose(samples[:, 0], samples[:, -1], rtol=1e-12, equal_nan=True):
        meridians -= 1
    return sphere_grid(rings, meridians * options.fold, name, extent=extent, symmetry=symmetry)


def run(options: Options) -> list[str]:
    """The lines to print; warnings begin with ``warning:``.

    Raises:
        ValueError: bad input, in one line.
    """
    samples = load(options.samples).astype(float)
    scattered = isinstance(table.RULES.get(options.grid or ""), PointRule)
    steps = samples[None] if samples.ndim <= (1 if scattered else 2) else samples
    if not steps.size:
        raise ValueError(f"samples: expected some, got shape {samples.shape}")
    grid = layout(options, steps[0])
    mask = None
    if options.mask is not None:
        mask = load(options.mask)
        if mask.shape == (*grid.shape[:1], *(n + 1 for n in grid.shape[1:])):
            mask = mask[:, :-1]
    bad = ~np.isfinite(steps[..., : grid.shape[-1]] if mask is not None else steps)
    bad &= True if mask is None else mask
    if bad.any():
        raise ValueError(
            f"samples: expected finite numbers, got {int(bad.sum())} that are not; "
            "give a mask of the good ones"
        )
    band = None
    if options.band is not None:
        band = (float(np.deg2rad(options.band[0])), float(np.deg2rad(options.band[1])))
    choice = weights(grid, options.measure, mask=mask, band=band, rule=options.rule)
    found = jax.vmap(
        lambda step: integrate(step, grid, options.measure, mask=mask, band=band, rule=options.rule)
    )(jnp.asarray(steps))
    lines = [f"{value:.15g} ± {error:.1g}" for value, error in zip(found.value, found.error)]
    flags = int(np.bitwise_or.reduce(np.asarray(found.warning)))
    size = " x ".join(map(str, grid.shape))
    return [
        *lines,
        f"rule: {choice.rule}, exact to degree {choice.degree}, on {size} samples",
        f"why: {choice.why}",
        *(f"warning: {text}" for text in explain(flags)),
    ]
