"""Samples in files integrated: what the files hold, the grid they are on, the lines to print."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from diffsim._files import read_array
from diffsim.quadrature import table
from diffsim.quadrature.base import SPHERE, Measure, PointRule
from diffsim.quadrature.grid import ANGLE, Grid, recognise, sphere_grid
from diffsim.quadrature.parity import explain
from diffsim.quadrature.periodic import Symmetry
from diffsim.quadrature.sphere import integrate, weights

NOISE = 0.1  # of a step in φ, by which a meridian and its repetition may differ


@dataclass(frozen=True)
class Options:
    """Integrate samples on the sphere, and print value ± error, the rule, and why.

    Attributes:
        samples: .npy file of (rings, meridians), (points,), or a stack of such in time.
        measure: solid-angle for sinθ dθ dφ; flat for dθ dφ; included if the samples carry sinθ.
        grid: rule that placed the samples: clenshaw-curtis (linspace), fejer1 (midpoints), ….
        theta: .npy file of the colatitudes, or of latitudes from -π/2 on, from which the grid is
            recognised; in radians or degrees, told apart by their size.
        phi: .npy file of the longitudes, with theta.
        extent: first and last colatitude of the samples, in degrees.
        band: integrate over these colatitudes only, in degrees.
        closed: whether the last meridian repeats the first at 2π, where no angles tell; ask is an
            error if the values allow both.
        equator: f is the same at π-θ: the samples stop at the equator.
        mirror: f is the same at -φ: the samples stop at π.
        fold: f repeats after 2π/fold: the samples cover one part.
        mask: .npy file of booleans, True where a sample is good.
        rule: rule to use in place of the chosen one, for example gregory.
    """

    samples: Path
    measure: Measure = "solid-angle"
    grid: str | None = None
    theta: Path | None = None
    phi: Path | None = None
    extent: tuple[float, float] = (0.0, 180.0)
    band: tuple[float, float] | None = None
    closed: Literal["yes", "no", "ask"] = "ask"
    equator: bool = False
    mirror: bool = False
    fold: int = 1
    mask: Path | None = None
    rule: str | None = None


def load(path: Path) -> np.ndarray:
    """The array in a .npy file.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no array of real numbers.
    """
    try:
        return read_array(path, "fiub")
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def layout(
    options: Options, samples: np.ndarray, angles: tuple[np.ndarray, np.ndarray] | None = None
) -> Grid:
    """The grid that the samples (steps, …) are claimed to be on.

    Raises:
        ValueError: it cannot be.
    """
    symmetry = Symmetry(options.equator, options.mirror, options.fold)
    low, high = np.deg2rad(options.extent)
    extent = SPHERE if np.allclose(options.extent, (0.0, 180.0)) else (float(low), float(high))
    if angles is not None:
        covered = None if extent == SPHERE else extent
        grid = recognise(*angles, symmetry, covered)
        sizes = tuple(map(len, angles))
        if samples.shape[1:] == sizes[::-1] != sizes:
            raise ValueError(
                f"samples: expected (theta, phi) = {sizes}, got {sizes[::-1]}: transposed"
            )
        if options.grid not in (None, grid.rule):
            raise ValueError(f"grid: expected the angles of {options.grid}, got {grid.rule}'s")
        return grid
    name = options.grid or "clenshaw-curtis"
    rule = table.find(name)
    if issubclass(rule, PointRule):
        for n in filter(rule.exists, range(1, 200)):
            if len(rule(n).weights()) >= samples.shape[1]:
                break
        return sphere_grid(n, rule=name)
    if samples.ndim != 3:
        raise ValueError(f"samples: expected (rings, meridians), got shape {samples.shape[1:]}")
    rings, meridians = samples.shape[1:]
    if options.equator:
        rings = 2 * rings - 1 if rule.nested else 2 * rings
    if options.mirror:
        meridians = 2 * (meridians - 1)
    elif options.closed == "yes" or (options.closed == "ask" and _may_close(samples)):
        if options.closed == "ask":
            raise ValueError(
                "closed: expected yes if the last meridian is the first again, at 2π, or no, "
                "as the values allow both; or theta and phi, which tell"
            )
        meridians -= 1
    return sphere_grid(rings, meridians * options.fold, name, extent=extent, symmetry=symmetry)


def _may_close(samples: np.ndarray) -> bool:
    """Whether the last meridian may be the first again, and it makes a difference."""
    samples = np.nan_to_num(samples, posinf=0.0, neginf=0.0)
    rounding = 100 * np.finfo(samples.dtype).eps * np.abs(samples).max(initial=0.0)
    if samples.shape[2] < 3 or np.ptp(samples, axis=2).max() <= rounding:
        return False
    ends = np.linalg.norm(samples[..., -1] - samples[..., 0])
    step = np.linalg.norm(np.diff(samples, axis=2)) / np.sqrt(samples.shape[2] - 1)
    return bool(ends <= max(rounding * np.sqrt(samples.shape[1]), NOISE * step))


def _angles(
    options: Options,
) -> tuple[tuple[np.ndarray, np.ndarray] | None, tuple[slice, ...], list[str]]:
    """Colatitude and longitude in rad, rising; which way to read each of them; what was done.

    Raises:
        ValueError: they cannot be colatitudes or latitudes, and longitudes.
    """
    if not (options.theta or options.phi):
        return None, (), []
    if not (options.theta and options.phi):
        raise ValueError("theta, phi: expected both files or neither, got one")
    theta, phi = load(options.theta).astype(float), load(options.phi).astype(float)
    if theta.ndim != 1 or phi.ndim != 1 or not (theta.size and phi.size):
        raise ValueError(
            f"theta, phi: expected two lists of angles, got {theta.shape}, {phi.shape}"
        )
    if not (np.isfinite(theta).all() and np.isfinite(phi).all()):
        raise ValueError("theta, phi: expected finite angles, got some that are not")
    said = []
    if np.abs(theta).max() > np.pi + ANGLE or np.ptp(phi) > 2 * np.pi + ANGLE:
        for name, angles, whole in (("theta", theta, np.pi), ("phi", phi, 2 * np.pi)):
            if np.isclose(np.ptp(angles), whole, rtol=1e-3):
                raise ValueError(
                    "theta, phi: expected both in degrees or both in rad, got one in degrees and "
                    f"{name} over {np.ptp(angles):.6g}"
                )
        theta, phi = np.deg2rad(theta), np.deg2rad(phi)
        said.append("taken as degrees: theta and phi")
    if theta.min() < -np.pi / 2 - ANGLE:
        raise ValueError(
            "theta: expected colatitudes from 0 to 180° with φ over the whole turn, got "
            f"{np.rad2deg(theta.min()):g} to {np.rad2deg(theta.max()):g}°, great circles"
        )
    if theta.min() < -ANGLE:
        if theta.max() > np.pi / 2 + ANGLE:
            raise ValueError(
                "theta: expected colatitudes from 0 to 180° or latitudes from -90 to 90°, got "
                f"{np.rad2deg(theta.min()):g} to {np.rad2deg(theta.max()):g}°"
            )
        theta = np.pi / 2 - theta
        said.append("taken as latitude: theta")
    falls = [len(angles) > 1 and angles[0] > angles[-1] for angles in (theta, phi)]
    for name, each in zip(("rings, as theta", "meridians, as phi"), falls):
        said += [f"reversed: {name} falls"] if each else []
    ways = tuple(slice(None, None, -1 if each else None) for each in falls)
    return (theta[ways[0]], phi[ways[1]]), ways, said


def run(options: Options) -> tuple[list[str], dict[str, Any]]:
    """The lines to print, whose warnings begin with ``warning:``, and the same for JSON.

    Raises:
        ValueError: bad input, in one line.
    """
    samples = load(options.samples)
    samples = samples if samples.dtype.kind == "f" else samples.astype(float)
    scattered = options.grid in table.RULES and issubclass(table.find(options.grid), PointRule)
    steps = samples[None] if samples.ndim <= (1 if scattered else 2) else samples
    if not steps.size:
        raise ValueError(f"samples: expected some, got shape {samples.shape}")
    angles, ways, said = _angles(options)
    steps = steps[:, *ways]
    grid = layout(options, steps, angles)
    if angles is None and len(grid.shape) == 2 and options.closed == "ask" and not options.mirror:
        said.append(
            "taken as open: no meridian at 2π (give --closed yes if the last repeats the first)"
        )
    steps = steps.astype(float)
    mask = None
    if options.mask is not None:
        mask = load(options.mask)
        mask = mask[ways] if mask.ndim == 2 else mask
        if mask.shape == (*grid.shape[:1], *(n + 1 for n in grid.shape[1:])):
            mask = mask[:, :-1]
        if mask.dtype != bool or mask.shape != grid.shape:
            raise ValueError(f"mask: expected booleans {grid.shape}, got {mask.dtype} {mask.shape}")
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
    low, high = np.rad2deg(grid.extent if band is None else band)
    doubts = []
    if band is None and options.extent == (0.0, 180.0) and (low > 0.0 or high < 180.0):
        doubts.append("the samples stop short of a pole, and the cap beyond is left out")
    if steps[np.isfinite(steps)].min(initial=0.0) < -3 and np.nanmax(steps) < 60:
        doubts.append("negative samples: if these are decibels, integrate 10^(dB/10) instead")
    if not np.isfinite(found.value).all():
        doubts.append(f"the integral is beyond the range of {found.value.dtype}")
    flags = int(np.bitwise_or.reduce(np.asarray(found.warning)))
    doubts += explain(flags)
    result = {
        "values": found.value, "errors": found.error,
        "rule": choice.rule, "degree": int(choice.degree), "why": choice.why,
        "samples": grid.shape, "theta_range_degrees": [low, high],
        "notes": said, "warnings": doubts,
    }  # fmt: skip
    size = " x ".join(map(str, grid.shape))
    lines = [
        *(f"{value:.15g} ± {error:.1g}" for value, error in zip(found.value, found.error)),
        f"rule: {choice.rule}, exact to degree {choice.degree}, on {size} samples",
        f"why: {choice.why}",
        f"range: theta {low:.6g} to {high:.6g} deg",
        *said,
        *(f"warning: {text}" for text in doubts),
    ]
    return lines, result
