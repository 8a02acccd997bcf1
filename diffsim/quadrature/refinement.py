"""More samples where the error says so: the next sizes from the tail, and nested refinement."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from diffsim import _check
from diffsim._types import ArrayLike
from diffsim.quadrature import sphere, table
from diffsim.quadrature.base import Rule
from diffsim.quadrature.grid import Grid

MOST = 16  # the largest factor of growth that a suggestion extrapolates to


@struct.dataclass
class Refined:
    """The outcome of a refinement.

    Attributes:
        integral: on the last grid.
        grid: the last grid.
        samples: on it.
        evaluations: how many points f was evaluated at in this call.
        reached: whether the tolerance was met.
    """

    integral: sphere.Integral
    grid: Grid
    samples: jax.Array
    evaluations: int = struct.field(pytree_node=False)
    reached: bool = struct.field(pytree_node=False)


def suggest(
    samples: ArrayLike, grid: Grid, tolerance: ArrayLike, measure: str = "solid-angle"
) -> tuple[jax.Array, jax.Array]:
    """Rings and meridians that should bring the error to a tolerance: where the fitted decay
    of each direction, times the rule's response, comes down to half of it.

    Args:
        samples: f on the grid, for example of the previous time step.
        grid: where the samples are.
        tolerance: absolute error wanted.
        measure: see :func:`~diffsim.quadrature.sphere.weights`.

    Returns:
        n_theta and n_phi, integers; at most 16 times the present ones.

    Raises:
        ValueError: the grid has no rings, or the samples' shape is not the grid's.

    >>> from diffsim.quadrature import sphere_grid
    >>> grid = sphere_grid(17, 32)
    >>> samples = jnp.exp(4 * jnp.cos(grid.points[0]))
    >>> sizes = suggest(samples, grid, 1e-3)
    >>> int(sizes[0]) <= 17, int(sizes[1]) <= 32
    (True, True)
    """
    if not grid.n_phi:
        raise ValueError(f"grid: expected rings, got the points of {grid.rule}")
    _, outlooks = sphere.assess(samples, grid, measure)
    sizes = []
    for n, part in zip((grid.n_theta, grid.n_phi), outlooks):
        level = jnp.log(part.decay.amplitude(np.array([part.first]))[0])
        wanted = level + jnp.log(jnp.asarray(tolerance, level.dtype) / 2 / part.error)
        factor = jnp.clip(part.decay.order_of(wanted) / part.first, 1 / MOST, MOST)
        sizes.append(n * factor)
    fold = grid.symmetry.fold
    return jnp.ceil(sizes[0]).astype(int), fold * jnp.ceil(sizes[1] / fold).astype(int)


def refine(
    function: Callable[[jax.Array, jax.Array], ArrayLike],
    grid: Grid,
    tolerance: float,
    measure: str = "solid-angle",
    *,
    samples: ArrayLike | None = None,
    max_samples: int = 1_000_000,
) -> Refined:
    """Double the rings or the meridians, whichever errs more, until the error is small enough.

    Only nested rules: every old sample is used again. f is called once a step with the new
    points alone.

    Args:
        function: (theta, phi), rad, (N,) each -> f, (N,).
        grid: where to start; its rule must be nested (linspace in θ).
        tolerance: absolute error wanted.
        measure: see :func:`~diffsim.quadrature.sphere.weights`.
        samples: f on the starting grid, if already known.
        max_samples: where to stop.

    Returns:
        The integral, the grid and samples it came from, and the number of evaluations.

    Raises:
        ValueError: the rule is not nested.

    >>> from diffsim.quadrature import sphere_grid
    >>> found = refine(lambda theta, phi: jnp.exp(jnp.cos(theta)), sphere_grid(5, 4), 1e-3)
    >>> found.reached, bool(abs(found.integral.value - 4 * jnp.pi * jnp.sinh(1.0)) < 1e-3)
    (True, True)
    """
    rule = table.choose(grid.rule, measure, grid.extent)
    if not issubclass(rule, Rule) or not rule.nested:
        raise ValueError(f"grid: expected a nested rule such as clenshaw-curtis, got {rule.name}")
    evaluations = 0
    if samples is None:
        theta, phi = grid.points
        values = function(jnp.asarray(theta.ravel()), jnp.asarray(phi.ravel()))
        samples = jnp.reshape(_check.floating("function", values), grid.shape)
        evaluations = theta.size
    samples = _check.floating("samples", samples, grid.shape)
    while True:
        integral, (in_theta, in_phi) = sphere.assess(samples, grid, measure)
        reached = bool(integral.error <= tolerance)
        axis = 0 if bool(in_theta.error >= in_phi.error) else 1
        finer = _doubled(grid, axis)
        if reached or finer.shape[0] * finer.shape[1] > max_samples:
            return Refined(integral, grid, samples, evaluations, reached)
        theta, phi = finer.points
        old = np.zeros(finer.shape, dtype=bool)
        np.moveaxis(old, axis, 0)[::2] = True
        values = function(jnp.asarray(theta[~old]), jnp.asarray(phi[~old]))
        values = _check.floating("function", values, (int((~old).sum()),)).astype(samples.dtype)
        merged = jnp.zeros(finer.shape, samples.dtype)
        samples = merged.at[old].set(samples.ravel()).at[~old].set(values)
        evaluations += values.size
        grid = finer


def _doubled(grid: Grid, axis: int) -> Grid:
    """Twice the intervals in θ (axis 0) or φ (axis 1), the old points among the new."""
    if axis == 0:
        return dataclasses.replace(grid, n_theta=2 * grid.n_theta - 1)
    return dataclasses.replace(grid, n_phi=2 * grid.n_phi)
