"""Samples needed for an accuracy, and seconds per step, against what users do instead."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from diffsim.quadrature.base import SPHERE
from diffsim.quadrature.grid import Grid, sphere_grid
from diffsim.quadrature.lebedev import DEGREES
from diffsim.quadrature.scheme import scheme_of
from diffsim.quadrature.sphere import integrate
from diffsim.quadrature.zoom import Zoom
from studies import harness, integrands

LEVELS = (1e-3, 1e-6, 1e-10)
POINTS = ("thinned", "lebedev")
SOLID = (*POINTS, "zoomed")  # solid angle only
AIM, HALF_ANGLE = 0.02, 0.4  # rad: how well a beam is known, and what to zoom on
REFERENCE = 301  # rings of the reference for dθ dφ, where every smooth integrand is at roundoff


def closed(n: int) -> Grid:
    """The user's own grid: linspace in θ with both poles, steps in φ as in θ."""
    return sphere_grid(n, 2 * (n - 1))


def middling(n: int) -> Grid:
    """The same with steps in φ longer by a third."""
    return sphere_grid(n, 3 * (n - 1) // 2)


def sparse(n: int) -> Grid:
    """The same with steps in φ twice as long."""
    return sphere_grid(n, n - 1)


def zoomed(n: int, axis: np.ndarray) -> Grid:
    """Gauss–Legendre × trapezoid bent towards a beam whose axis is known to 0.02 rad."""
    off = np.cross(axis, np.roll(axis, 1))
    theta, phi = _angles(np.cos(AIM) * axis + np.sin(AIM) * off / np.linalg.norm(off))
    return sphere_grid(n, n, "gauss-legendre", zoom=Zoom(theta, phi, HALF_ANGLE))


def _angles(axis: np.ndarray) -> tuple[float, float]:
    x, y, z = (float(part) for part in axis)
    return float(np.arctan2(np.hypot(x, y), z)), float(np.arctan2(y, x))


def count(grid: Grid) -> int:
    """Distinct samples: a pole counts once."""
    theta = grid.points[0]
    poles = np.sin(theta) < 1e-9
    return int((~poles).sum() + len(np.unique(np.round(theta[poles]))))


def ours(grid: Grid, samples: np.ndarray, measure: str) -> float:
    """The rule that the library chooses for the grid."""
    return float(np.sum(scheme_of(grid, measure).weights * samples))


def _integrand(grid: Grid, samples: np.ndarray, measure: str) -> tuple[np.ndarray, ...]:
    """θ, φ and the closed table of f, times sinθ for the solid angle, as users make them."""
    theta, phi = grid.axes
    table = np.concatenate([samples, samples[:, :1]], axis=1)
    factor = np.sin(theta) if measure == "solid-angle" else np.ones_like(theta)
    return theta, np.append(phi, phi[0] + 2 * np.pi), table * factor[:, None]


def trapezoid(grid: Grid, samples: np.ndarray, measure: str) -> float:
    """Trapezoid in θ and φ of the table times sinθ."""
    theta, phi, table = _integrand(grid, samples, measure)
    return float(np.trapezoid(np.trapezoid(table, phi, axis=1), theta))


def linear(grid: Grid, samples: np.ndarray, measure: str) -> float:
    """Bilinear interpolation of f, times sinθ, integrated exactly in each panel."""
    theta, phi, table = _integrand(grid, samples, "flat")
    mean = np.trapezoid(table, phi, axis=1)
    if measure == "flat":
        return float(np.trapezoid(mean, theta))
    h = theta[1] - theta[0]
    low, high = theta[:-1], theta[1:]
    rising = (np.sin(high) - np.sin(low)) / h - np.cos(high)
    falling = np.cos(low) - (np.sin(high) - np.sin(low)) / h
    return float(falling @ mean[:-1] + rising @ mean[1:])


def spline(grid: Grid, samples: np.ndarray, measure: str) -> float:
    """Scipy's bicubic spline through the table times sinθ, and its integral."""
    from scipy.interpolate import RectBivariateSpline

    theta, phi, table = _integrand(grid, samples, measure)
    return float(RectBivariateSpline(theta, phi, table).integral(*SPHERE, phi[0], phi[-1]))


@dataclass(frozen=True)
class Method:
    """A way to integrate: the layouts it may choose from, the sizes to try, and the integral.

    Layouts that are aimed take the integrand's axis too.
    """

    layouts: tuple[Callable[..., Grid], ...]
    sizes: Sequence[int]
    integral: Callable[[Grid, np.ndarray, str], float]
    aimed: bool = False


def methods(largest: int) -> dict[str, Method]:
    """Sizes rise by some 5 %."""
    rings = sorted({round(5 * 1.05**k) for k in range(150) if 5 * 1.05**k <= largest})
    users = (closed, middling, sparse)

    def free(rule: str) -> tuple[Callable[[int], Grid], ...]:
        return (lambda n: sphere_grid(n, None if rule in POINTS else 2 * n, rule),)

    return {
        "ours": Method(users, rings, ours),
        "gauss-legendre": Method(free("gauss-legendre"), rings, ours),
        "thinned": Method(free("thinned"), [n for n in rings if n <= 80], ours),
        "lebedev": Method(free("lebedev"), DEGREES, ours),
        "zoomed": Method((zoomed,), rings, ours, aimed=True),
        "trapezoid": Method(users, rings, trapezoid),
        "linear": Method(users, rings, linear),
        "spline": Method(users, rings, spline),
    }


def samples_needed(
    name: str,
    method: Method,
    measure: str,
    axes: np.ndarray,
    levels: Sequence[float] = LEVELS,
) -> list[int | None]:
    """The fewest samples from which on, in every orientation, the relative error stays below."""
    integrand = integrands.INTEGRANDS[name]
    exact = [_exact(name, axis, measure) for axis in axes]
    fewest: list[int | None] = [None] * len(levels)
    for layout in method.layouts:
        needed: list[int | None] = [None] * len(levels)
        for size in method.sizes:
            worst, grid = 0.0, None
            for axis, value in zip(axes, exact):
                if grid is None or method.aimed:
                    grid = layout(size, axis) if method.aimed else layout(size)
                found = method.integral(grid, integrand(axis, *grid.points), measure)
                worst = max(worst, abs(found / value - 1))
            assert grid is not None
            needed = [
                None if worst >= level else before or count(grid)
                for level, before in zip(levels, needed)
            ]
            if worst < min(levels):
                break
        fewest = [min(filter(None, pair), default=None) for pair in zip(fewest, needed)]
    return fewest


def _exact(name: str, axis: np.ndarray, measure: str) -> float:
    integrand = integrands.INTEGRANDS[name]
    if measure == "solid-angle":
        return integrand.integral
    grid = closed(REFERENCE)
    return ours(grid, integrand(axis, *grid.points), measure)


def seconds_per_step(shape: tuple[int, int] = (400, 200), repeats: int = 300) -> dict[str, float]:
    """Least seconds of one time step: our value, our value with its error, and one spline built.

    All in one run, on the same samples, each after an untimed call of itself.
    """
    from scipy.interpolate import RectBivariateSpline

    grid = sphere_grid(*shape)
    axis = integrands.axes(1, seed=0)[0]
    samples = integrands.INTEGRANDS["dipole"](axis, *grid.points)
    theta, phi = grid.axes
    device = jnp.asarray(samples, jnp.result_type(float))
    value = jax.jit(lambda f: integrate(f, grid).value)
    both = jax.jit(lambda f: integrate(f, grid))
    actions: dict[str, Callable[[], object]] = {
        "value": lambda: value(device),
        "value and error": lambda: both(device),
        "spline": lambda: RectBivariateSpline(theta, phi, samples),
    }
    return harness.least(actions, repeats, warm=True)


def benchmark(largest: int = 190, orientations: int = 5, seed: int = 0) -> harness.Found:
    """Print samples needed for errors of 1e-3, 1e-6 and 1e-10, and seconds per 400 × 200 step.

    Args:
        largest: most rings to try; a dash means that more are needed.
        orientations: number of random orientations, of which the worst counts.
        seed: seed of the orientations.
    """
    axes = integrands.axes(orientations, seed)
    table = methods(largest)

    def needed(measure: str) -> Iterator[harness.Row]:
        for name in integrands.INTEGRANDS:
            row = {"integrand": name}
            for key, method in table.items():
                if measure == "solid-angle" or key not in SOLID:
                    found = samples_needed(name, method, measure, axes)
                    row[key] = " / ".join("–" if n is None else str(n) for n in found)
            yield row

    levels = " / ".join(f"{level:g}" for level in LEVELS)
    found: harness.Found = {}
    for measure in ("solid-angle", "flat"):
        title = f"samples for relative {levels}, {measure}, worst of {orientations}"
        found |= harness.show(title, needed(measure))
    steps = seconds_per_step()
    slower = {name: 1 / ratio for name, ratio in harness.ratios(steps, "spline").items()}
    rows = ({"step": k, "seconds": s, "spline takes, times": slower[k]} for k, s in steps.items())
    return found | harness.show("seconds per 400 x 200 step, least of one run", rows)
