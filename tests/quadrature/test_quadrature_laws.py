"""What holds for all samples: units, turns and mirrors; and where each warning begins."""

from dataclasses import replace
from functools import partial

import jax.numpy as jnp
import numpy as np
import pytest

from diffsim.quadrature import (
    Flag,
    Symmetry,
    Zoom,
    integrate,
    make,
    recognise,
    refine,
    sphere,
    sphere_grid,
    suggest,
)
from diffsim.quadrature.base import SPHERE
from diffsim.quadrature.gregory import _coarse_line
from diffsim.quadrature.table import RULES
from diffsim.quadrature.tail import Decay, Outlook

GRIDS = {
    "linspace": sphere_grid(17, 16),
    "midpoints": sphere_grid(16, 16, "fejer1"),
    "gauss": sphere_grid(12, 16, "gauss-legendre"),
    "gregory": sphere_grid(25, 16, extent=(0.4, np.pi - 0.4)),
    "gaps": sphere_grid(17, 16),
}
MASK = np.ones((17, 16), bool)
MASK[[4, 12], 3] = False


def look(name, samples):
    return integrate(samples, GRIDS[name], mask=MASK if name == "gaps" else None)


@pytest.mark.parametrize("name", GRIDS)
def test_units_turns_and_the_other_pole_change_nothing(name):
    """Value and error are in the samples' unit; no meridian is the first, no pole is special."""
    theta, phi = GRIDS[name].points
    f = np.exp(np.sin(theta) * np.cos(phi - 1) + 0.7 * np.cos(theta)) - 1 + 0.1 * np.cos(phi)
    plain = look(name, f)
    for unit in (-1.0, 1e-12, 1e15):
        other = look(name, unit * f)
        assert float(other.value) == pytest.approx(unit * float(plain.value), rel=1e-9)
        assert float(other.error) == pytest.approx(abs(unit) * float(plain.error), rel=1e-6)
        assert other.warning == plain.warning
    moved = [f[::-1]] if name == "gaps" else [f[::-1], np.roll(f, 5, axis=1)]
    for other in map(partial(look, name), moved):
        assert float(other.value) == pytest.approx(float(plain.value), rel=1e-9)
        assert float(other.error) == pytest.approx(float(plain.error), rel=1e-6)
        assert other.warning == plain.warning


@pytest.mark.parametrize("name", GRIDS)
def test_the_error_is_that_of_each_direction_and_sixteen_roundings(name, dtype):
    """Of Σ w |f|, not |Σ w f|: where f is known, ∫ |cosθ| dΩ."""
    grid, mask = GRIDS[name], MASK if name == "gaps" else None
    samples = jnp.asarray(np.cos(grid.points[0]), dtype)
    found, parts = sphere.assess(samples, grid, "solid-angle", mask=mask)
    rest = float(found.error) - sum(float(part.error) for part in parts)
    whole = 2 * np.pi * np.cos(grid.extent[0]) ** 2
    assert rest / 16 / float(jnp.finfo(dtype).eps) == pytest.approx(whole, rel=0.15)
    theta, phi = grid.points
    samples = jnp.asarray(np.exp(20 * np.cos(theta)) * (1 + np.cos(phi) ** 40), dtype)
    found, parts = sphere.assess(samples, grid, "solid-angle", mask=mask)
    assert not parts or float(found.error) == pytest.approx(
        sum(float(part.error) for part in parts), rel=1e-3
    )


def test_a_size_is_enough_where_its_direction_has_half_the_tolerance():
    grid = GRIDS["linspace"]
    theta, phi = grid.points
    samples = jnp.asarray(np.exp(3 * np.cos(theta)) * (1 + np.cos(phi) ** 40))
    for axis, part in enumerate(sphere.assess(samples, grid, "solid-angle")[1]):
        for share, more in ((1.0001, 0), (0.9999, 1)):
            sizes = suggest(samples, grid, 2 * float(part.error) * share)
            assert int(sizes[axis]) == (grid.n_theta, grid.n_phi)[axis] + more


def test_suggested_meridians_are_a_multiple_of_the_fold():
    grid = sphere_grid(9, 12, symmetry=Symmetry(fold=3))
    theta, phi = grid.points
    samples = jnp.asarray(np.exp(np.sin(theta) ** 3 * np.cos(3 * phi)))
    wanted = [int(suggest(samples, grid, 10.0**-k)[1]) for k in range(10)]
    assert all(n % 3 == 0 for n in wanted)
    assert len(set(wanted)) > 3


def test_refinement_stops_at_the_most_samples_and_not_before():
    def step(theta, phi):
        return jnp.where(theta < 1, 1.0, 0.0)

    sizes = [refine(step, sphere_grid(5, 4), 1e-9, max_samples=most).samples.size
             for most in (36, 35)]  # fmt: skip
    assert sizes == [36, 20]


@pytest.mark.parametrize("rule", ["gauss-legendre", "gauss-colatitude"])
def test_rings_of_a_band_are_recognised(rule):
    grid = sphere_grid(7, 8, rule, extent=(0.3, 1.2), phi_start=0.25)
    theta, phi = grid.axes
    np.testing.assert_allclose(phi, 0.25 + np.pi / 4 * np.arange(8))
    assert recognise(theta, phi, extent=(0.3, 1.2)) == grid
    with pytest.raises(ValueError, match="theta: expected linspace"):
        recognise(theta, phi)
    half = recognise(np.linspace(0.3, np.pi / 2, 9), phi, Symmetry(equator=True))
    assert (half.n_theta, half.shape) == (17, (9, 8))
    assert half.extent == pytest.approx((0.3, np.pi - 0.3))


def test_meridians_are_twice_the_intervals():
    assert sphere_grid(9).shape == (9, 16)
    assert sphere_grid(1, rule="gauss-legendre").shape == (1, 2)


@pytest.mark.parametrize("n", range(3, 10))
def test_gregory_of_few_samples_is_of_the_degree_it_says(n):
    """Polynomials from 0 to 2 with dθ dφ: its degree, and not the next but one."""
    rule = make("gregory", n, measure="flat", extent=(0.0, 2.0))
    off = [rule.weights() @ rule.nodes**k - 2.0 ** (k + 1) / (k + 1) for k in range(n + 3)]
    assert np.max(np.abs(off[: rule.degree + 1])) < 1e-11
    assert np.max(np.abs(off[rule.degree + 1 : rule.degree + 3])) > 1e-6


def flags(samples, grid, measure="solid-angle"):
    return Flag(int(integrate(samples, grid, measure).warning))


def test_samples_that_differ_by_rounding_are_the_same(dtype):
    """At a pole and on the closing meridian: ten thousand roundings are too many."""
    grid, eps = sphere_grid(9, 8), float(jnp.finfo(dtype).eps)
    f = np.cos(grid.points[0]) + 2
    for roundings, flagged in ((3e3, False), (3e4, True)):
        off = jnp.asarray(f, dtype).at[0, 3].multiply(1 + roundings * eps)
        assert (Flag.POLE in flags(off, grid)) == flagged
        closed = jnp.concatenate([jnp.asarray(f, dtype), jnp.asarray(f[:, :1], dtype)], axis=1)
        assert Flag.OPEN not in flags(closed, grid)
        closed = closed.at[4, -1].multiply(1 + 3 / 2 * roundings * eps)
        assert (Flag.OPEN in flags(closed, grid)) == flagged


def test_a_repeated_meridian_is_one_among_others_that_differ():
    closed = np.linspace(0, 2 * np.pi, 9)
    theta = np.linspace(0, np.pi, 9)[:, None]
    grid = sphere_grid(9, 9)
    assert Flag.REPEATED in flags(np.sin(theta) * np.cos(closed), grid)
    assert Flag.REPEATED not in flags(np.sin(theta) * (closed > np.pi), grid), "steps"
    assert Flag.REPEATED not in flags(np.cos(theta) * np.ones(9), grid), "a zonal function"
    few = sphere_grid(9, 3)
    assert Flag.REPEATED not in flags(np.sin(theta) * np.array([1.0, 2, 1]), few)
    half = sphere_grid(9, 8, symmetry=Symmetry(mirror=True))
    assert Flag.REPEATED not in flags(np.sin(theta) * np.array([1.0, 2, 3, 2, 1]), half)


def test_poles_that_are_not_sampled_say_nothing_of_the_measure():
    """Odd samples are doubted on the sphere, not on a band, in a zoom or in few rings."""
    whole = sphere_grid(17, 8)
    band = replace(whole, extent=(0.0, 3.0))
    zoomed = sphere_grid(17, 8, zoom=Zoom(0.0, 0.0, 1.0))
    few, enough = sphere_grid(9, 8), sphere_grid(10, 8)
    for grid, flagged in ((whole, 1), (band, 0), (zoomed, 0), (few, 0), (enough, 1)):
        theta = np.linspace(*(SPHERE if grid.zoom else grid.extent), grid.n_theta)
        samples = np.sin(theta)[:, None] * np.ones(8)
        assert (Flag.PARITY in flags(samples, grid)) == bool(flagged), grid


def test_rough_is_slower_than_the_third_power_where_it_matters():
    def told(*parts):
        outlooks = [
            Outlook(jnp.asarray(error), Decay(jnp.asarray(0.0), jnp.asarray(power * np.log(2)),
                    jnp.asarray(0.0), 8.0), 9.0)
            for power, error in parts
        ]  # fmt: skip
        return bool(sphere._rough(outlooks, jnp.asarray(1.0)))

    least = 100 * 16 * np.finfo(float).eps
    assert told((2.9, 1.0))
    assert not told((3.1, 1.0))
    assert told((3.1, 1.0), (2.9, 0.11))
    assert not told((3.1, 1.0), (2.9, 0.09))
    assert told((2.9, 1.1 * least))
    assert not told((2.9, 0.9 * least))


@pytest.mark.parametrize("n", [33, 34, 35, 36, 40])
@pytest.mark.parametrize("level", [0, 1, 2])
def test_a_coarser_line_is_exact_too_and_leaves_out_what_it_says(n, level):
    """Of unit spacing, ∫ tᵖ to the seventh power; odd intervals at the end keep their points."""
    line, t = _coarse_line(n, level), np.arange(float(n)) / (n - 1)
    for power in range(8):
        assert line @ t**power == pytest.approx((n - 1) / (power + 1), rel=1e-12)
    assert np.flatnonzero(line[:8]).tolist() == list(range(0, 8, 2**level))


@pytest.mark.parametrize("name", RULES)
def test_points_are_on_the_sphere_once_round(name):
    n = 5 if name in ("lebedev", "thinned") else 9
    theta, phi = sphere_grid(n, None if n == 5 else 8, name).points
    assert np.all((theta >= 0) & (theta <= np.pi))
    assert np.all((phi >= 0) & (phi < 2 * np.pi))


@pytest.mark.parametrize(
    ("theta", "phi"), [([], [0.0]), ([1.0], []), ([[1.0]], [0.0]), ([1.0], 0.0)]
)
def test_angles_are_two_lists(theta, phi):
    with pytest.raises(ValueError, match="theta, phi: expected two lists of angles"):
        recognise(theta, phi)
    with pytest.raises(ValueError, match="n_theta: expected at least 3 rings, got 1"):
        recognise([np.pi / 2], np.arange(8) * np.pi / 4)
