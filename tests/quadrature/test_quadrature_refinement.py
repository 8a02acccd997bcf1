"""Nested refinement reuses samples; suggested sizes reach the tolerance without waste."""

import jax.numpy as jnp
import numpy as np
import pytest

from diffsim.quadrature import Symmetry, refine, sphere_grid, suggest, weights
from studies import integrands

AXIS = integrands.axes(1, seed=5)[0]


@pytest.mark.parametrize("symmetry", [None, Symmetry(equator=True, mirror=True)])
def test_refine_meets_the_tolerance_and_evaluates_no_point_twice(symmetry):
    points = []

    def f(theta, phi):
        points.append(np.stack([theta, phi], axis=1))
        return jnp.exp(3 * jnp.cos(theta) ** 2 + jnp.sin(theta) ** 2 * jnp.cos(2 * phi))

    found = refine(f, sphere_grid(17, 16, symmetry=symmetry), 1e-8)
    everywhere = np.concatenate(points)
    assert found.reached
    assert len(everywhere) == found.evaluations == found.samples.size
    assert len(np.unique(np.round(everywhere, 9), axis=0)) == len(everywhere)
    fine = sphere_grid(65, 64)
    reference = np.sum(weights(fine).value * f(*fine.points))
    assert abs(found.integral.value - reference) < 1e-8
    # The samples are those of the grid that is returned.
    assert jnp.allclose(found.samples, f(*map(jnp.asarray, found.grid.points)), rtol=1e-12)


def test_refine_grows_the_direction_that_errs():
    found = refine(lambda theta, phi: jnp.exp(8 * jnp.cos(theta)), sphere_grid(9, 4), 1e-6)
    assert found.grid.n_phi == 4
    assert found.grid.n_theta > 16


def test_refine_starts_from_given_samples_and_stops():
    grid = sphere_grid(9, 8)
    theta = jnp.asarray(grid.points[0])
    found = refine(
        lambda t, p: jnp.abs(jnp.cos(t)),
        grid,
        1e-12,
        samples=jnp.abs(jnp.cos(theta)),
        max_samples=300,
    )
    assert not found.reached
    assert found.samples.size <= 300
    assert found.evaluations == found.samples.size - theta.size


def test_refine_needs_a_nested_rule():
    with pytest.raises(
        ValueError, match="expected a nested rule such as clenshaw-curtis, got fejer1"
    ):
        refine(lambda t, p: t, sphere_grid(9, 8, "fejer1"), 1e-3)


@pytest.mark.parametrize(
    ("name", "now", "tolerance"), [("dipole", 7, 1e-8), ("Henyey-Greenstein", 41, 1e-6)]
)
def test_suggested_sizes(name, now, tolerance):
    """From the previous step's samples: enough, and not twice too many in each direction."""
    f = integrands.INTEGRANDS[name]
    grid = sphere_grid(now)
    n_theta, n_phi = map(int, suggest(jnp.asarray(f(AXIS, *grid.points)), grid, tolerance))

    def error(grid):
        return abs(float(np.sum(weights(grid).value * f(AXIS, *grid.points))) - f.integral)

    assert error(sphere_grid(n_theta, n_phi)) < tolerance
    assert error(sphere_grid(n_theta // 2, n_phi // 2)) > tolerance


def test_suggestions_stay_within_sixteen_times():
    """However much less, or more, the tolerance asks for."""
    grid = sphere_grid(33, 64)
    theta, phi = grid.points
    step = jnp.asarray(np.where(theta < 1, 1.0, 0.0) * np.where(np.sin(phi) > 0.3, 1.0, 0.0))
    for tolerance, sizes in ((1e30, (3, 4)), (1e-30, (33 * 16, 64 * 16))):
        assert tuple(map(int, suggest(step, grid, tolerance))) == sizes
