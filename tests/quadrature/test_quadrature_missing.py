"""Missing samples: the weights left are exact to the degree they claim, and not noisy."""

from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from zonal import zonal, zonal_integral

from diffsim.quadrature import Symmetry, integrate, sphere_grid, weights
from diffsim.quadrature.scheme import scheme_of
from studies import integrands

AXES = integrands.axes(4, seed=8)


def _mask(kind, shape):
    mask = np.ones(shape, bool)
    if kind == "one":
        mask[7, 5] = False
    elif kind == "scattered":
        mask = np.random.default_rng(1).uniform(size=shape) > 0.1
    elif kind == "wedge":
        mask[4:16, 3:6] = False
    elif kind == "rings":
        mask[[0, 9]] = False
    return mask


@pytest.mark.parametrize("measure", ["solid-angle", "flat", "included"])
@pytest.mark.parametrize("kind", ["one", "scattered", "wedge", "rings"])
def test_exact_to_the_degree_claimed(kind, measure):
    grid = sphere_grid(25, 48)
    mask = _mask(kind, grid.shape)
    found = weights(grid, measure, mask=mask)
    value = np.asarray(found.value)
    full = scheme_of(grid, measure)
    theta, phi = grid.points
    s = np.sin(theta)
    direction = np.stack([s * np.cos(phi), s * np.sin(phi), np.cos(theta)])
    carried = s if measure == "included" else 1.0
    for axis in AXES:
        c = np.tensordot(axis, direction, 1)
        for degree in range(found.degree + 1):
            exact = zonal_integral(degree, axis, measure)
            assert abs(np.sum(value * zonal(degree, c) * carried) - exact) < 1e-9
    assert np.all(value[~mask] == 0)
    assert 4 <= found.degree <= full.degree
    # Noise: both steps, rings and θ, may double the variance.
    plain = np.where(full.weights > 0, full.weights, np.inf)
    assert np.sum(value**2 / plain) < 4.1 * np.sum(full.weights)


def test_full_mask_changes_nothing():
    grid = sphere_grid(9, 16)
    full = weights(grid, mask=np.ones(grid.shape, bool))
    assert np.array_equal(full.value, weights(grid).value)


def test_more_missing_is_a_lower_degree():
    grid = sphere_grid(25, 48)
    degrees = [weights(grid).degree]
    for width in (1, 3, 8, 16):
        mask = np.ones(grid.shape, bool)
        mask[:, :width] = False
        degrees.append(weights(grid, mask=mask).degree)
    assert all(b < a for a, b in pairwise(degrees))


def test_missing_with_symmetry():
    symmetry = Symmetry(equator=True, mirror=True)
    grid = sphere_grid(25, 48, symmetry=symmetry)
    mask = np.ones(grid.shape, bool)
    mask[4, 7] = mask[8, 0] = False
    theta, phi = grid.points
    samples = np.cosh(np.cos(theta)) + np.sin(theta) ** 4 * np.cos(4 * phi)
    found = weights(grid, mask=mask)
    assert found.degree >= 20
    assert np.sum(np.asarray(found.value) * samples) == pytest.approx(4 * np.pi * np.sinh(1.0))


def test_missing_samples_may_be_nan():
    grid = sphere_grid(25, 48)
    mask = _mask("scattered", grid.shape)
    f = integrands.INTEGRANDS["dipole"]
    samples = jnp.asarray(np.where(mask, f(AXES[0], *grid.points), np.nan))
    found = integrate(samples, grid, mask=mask)
    error = abs(found.value - f.integral)
    assert found.warning == 0
    assert error < 1e-6 * f.integral
    assert error <= found.error < 1e-2 * f.integral
    gradient = jax.grad(lambda x: integrate(x, grid, mask=mask).value)(samples)
    assert jnp.allclose(gradient, weights(grid, mask=mask).value)
    with pytest.raises(ValueError, match="samples: expected finite numbers, got 105 that are not"):
        integrate(samples, grid)


def test_scattered_points_have_no_masks():
    grid = sphere_grid(17, rule="lebedev")
    mask = np.ones(grid.shape, bool)
    mask[0] = False
    with pytest.raises(ValueError, match="mask: expected a grid of rings"):
        weights(grid, mask=mask)
