"""Integrals with known values, and what the samples may look like: symmetric, closed, zoomed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffsim.quadrature import (
    RULES,
    Symmetry,
    Zoom,
    explain,
    integrate,
    recognise,
    sphere_grid,
    weights,
)
from diffsim.quadrature.base import PointRule
from diffsim.quadrature.scheme import scheme_of
from studies import integrands

AXES = integrands.axes(5, seed=0)
INTEGRANDS = integrands.INTEGRANDS


def _quick(samples, grid, measure="solid-angle", **options):
    return float(np.sum(np.asarray(weights(grid, measure, **options).value) * samples))


@pytest.mark.parametrize(
    "rule", ["clenshaw-curtis", "gauss-legendre", "fejer1", "lebedev", "thinned"]
)
@pytest.mark.parametrize("name", [name for name, f in INTEGRANDS.items() if f.smooth])
def test_closed_forms_in_every_orientation(rule, name):
    """Dipole π Cin(2π), array 4πN, von Mises–Fisher 4π sinh κ/κ, Henyey–Greenstein 4π."""
    size = {"lebedev": 131, "gauss-legendre": 70, "thinned": 70}.get(rule, 121)
    grid = sphere_grid(size, rule=rule)
    integrand = INTEGRANDS[name]
    found = [_quick(integrand(axis, *grid.points), grid) for axis in AXES]
    # Henyey–Greenstein falls as 0.8^l, to 1e-12 at degree 131; the others are at roundoff.
    assert np.allclose(found, integrand.integral, rtol=2e-12, atol=0)


def test_closed_form_constants():
    from scipy.special import sici

    cin = np.euler_gamma + np.log(2 * np.pi) - sici(2 * np.pi)[1]
    assert abs(integrands.CIN_2PI - cin) < 1e-14
    kappa = 3.0
    grid = sphere_grid(25, 8)
    fisher = np.exp(kappa * np.cos(grid.points[0]))
    assert _quick(fisher, grid) == pytest.approx(4 * np.pi * np.sinh(kappa) / kappa, rel=1e-14)


def test_flat_and_included_measures():
    """∫ cos²θ dθ dφ = π²; samples that carry sinθ give the solid angle's value."""
    grid = sphere_grid(33, 64)
    theta, phi = grid.points
    assert _quick(np.cos(theta) ** 2, grid, "flat") == pytest.approx(np.pi**2, rel=1e-14)
    samples = INTEGRANDS["dipole"](AXES[0], theta, phi)
    assert _quick(samples * np.sin(theta), grid, "included") == pytest.approx(
        INTEGRANDS["dipole"].integral, rel=1e-13
    )


@pytest.mark.parametrize(
    "rule", ["clenshaw-curtis", "fejer1", "fejer2", "gauss-legendre", "gregory"]
)
@pytest.mark.parametrize("measure", ["solid-angle", "flat"])
def test_quarter_grid_equals_full(rule, measure):
    declared = [
        Symmetry(equator=True, mirror=True),
        Symmetry(fold=3),
        Symmetry(equator=True, mirror=True, fold=2),
    ]
    placed = "clenshaw-curtis" if rule == "gregory" else rule
    for n_theta in (20, 21):
        for symmetry in declared:
            full = sphere_grid(n_theta, 36, placed)
            part = sphere_grid(n_theta, 36, placed, symmetry=symmetry)

            def f(theta, phi):
                return np.exp(np.cos(theta) ** 2 + np.sin(theta) ** 6 * np.cos(6 * phi))

            whole = _quick(f(*full.points), full, measure, rule=rule)
            assert _quick(f(*part.points), part, measure, rule=rule) == pytest.approx(
                whole, rel=1e-13
            )
            again = _quick(f(*part.points), full, measure, rule=rule, symmetry=symmetry)
            assert again == pytest.approx(whole, rel=1e-13)
    quarter = sphere_grid(41, 80, symmetry=Symmetry(equator=True, mirror=True))
    assert np.prod(quarter.shape) < 0.27 * 41 * 80


def test_rotation_changes_nothing():
    grid = sphere_grid(111)  # the spectrum falls as exp(-k²/2κ), to 1e-13 at k = 110
    found = [_quick(INTEGRANDS["von Mises-Fisher"](axis, *grid.points), grid) for axis in AXES]
    assert np.ptp(found) < 1e-12 * found[0]


def test_closing_meridian_is_dropped():
    grid = sphere_grid(17, 32)
    samples = jnp.asarray(INTEGRANDS["dipole"](AXES[1], *grid.points))
    closed = jnp.concatenate([samples, samples[:, :1]], axis=1)
    plain, dropped = integrate(samples, grid), integrate(closed, grid)
    assert plain.value == dropped.value
    assert dropped.warning == 0
    assert explain(integrate(closed, sphere_grid(17, 33)).warning)[0].startswith(
        "the last meridian"
    )
    broken = closed.at[5, -1].add(0.1)
    assert explain(integrate(broken, grid).warning)[0].startswith("the closing meridian")


@pytest.mark.parametrize("rule", ["clenshaw-curtis", "gauss-legendre"])
def test_bands(rule):
    """∫ cos²θ over [a, b]: exact from the whole sphere's samples, wherever a and b lie."""
    grid = sphere_grid(15, 8, rule)
    low, high = 0.3, 1.234
    exact = {
        "solid-angle": 2 * np.pi * (np.cos(low) ** 3 - np.cos(high) ** 3) / 3,
        "flat": 2 * np.pi * ((high - low) / 2 + (np.sin(2 * high) - np.sin(2 * low)) / 4),
    }
    for measure, value in exact.items():
        samples = np.cos(grid.points[0]) ** 2
        assert _quick(samples, grid, measure, band=(low, high)) == pytest.approx(value, rel=1e-13)


@pytest.mark.parametrize("rule", ["clenshaw-curtis", "gauss-legendre", "gauss-colatitude"])
def test_samples_of_a_band_only(rule):
    grid = sphere_grid(33, 8, rule, extent=(0.3, 1.234))
    found = _quick(np.cos(grid.points[0]) ** 2, grid)
    exact = 2 * np.pi * (np.cos(0.3) ** 3 - np.cos(1.234) ** 3) / 3
    # Gregory's error is (h = 0.03)^8 times a constant of order one; Gauss is exact.
    assert found == pytest.approx(exact, rel=1e-9 if rule == "clenshaw-curtis" else 1e-13)


@pytest.mark.parametrize("kappa", [200.0, 2000.0, 20000.0])
def test_zoom_needs_192_samples_for_any_beam(kappa):
    axis = np.array([0.48, -0.6, 0.64])
    theta, phi = np.arccos(axis[2]), np.arctan2(axis[1], axis[0])
    beam = Zoom(theta=theta, phi=phi, half_angle=2.0 / np.sqrt(kappa))
    grid = sphere_grid(24, 8, "gauss-legendre", zoom=beam)
    a, b = grid.points
    s = np.sin(a)
    direction = np.stack([s * np.cos(b), s * np.sin(b), np.cos(a)], axis=-1)
    samples = np.exp(-kappa / 2 * np.sum((direction - axis) ** 2, axis=-1))
    assert samples.size == 192
    assert _quick(samples, grid) == pytest.approx(2 * np.pi / kappa, rel=1e-6)


def test_zoom_bends_scattered_points_too():
    kappa = 2000.0
    grid = sphere_grid(23, rule="lebedev", zoom=Zoom(1.1, 0.4, 2.0 / np.sqrt(kappa)))
    axis = np.array([np.sin(1.1) * np.cos(0.4), np.sin(1.1) * np.sin(0.4), np.cos(1.1)])
    a, b = grid.points
    cosine = np.sin(a) * (axis[0] * np.cos(b) + axis[1] * np.sin(b)) + axis[2] * np.cos(a)
    found = integrate(jnp.asarray(np.exp(kappa * (cosine - 1))), grid)
    assert (
        abs(float(found.value) - 2 * np.pi / kappa) < float(found.error) < 1e-3 * 2 * np.pi / kappa
    )
    with pytest.raises(ValueError, match="a zoomed grid expected solid-angle"):
        weights(grid, "solid-angle", band=(0.1, 0.2))


def test_gradient_is_the_weights(dtype):
    grid = sphere_grid(9, 16)
    samples = jnp.asarray(INTEGRANDS["dipole"](AXES[2], *grid.points), dtype)
    gradient = jax.jit(jax.grad(lambda f: integrate(f, grid).value))(samples)
    assert gradient.dtype == dtype
    assert jnp.allclose(gradient, weights(grid).value.astype(dtype), rtol=10 * jnp.finfo(dtype).eps)
    tangent = jax.jvp(lambda f: integrate(f, grid).value, (samples,), (samples,))[1]
    assert jnp.allclose(tangent, integrate(samples, grid).value)


def test_time_steps_by_vmap_without_retrace():
    grid = sphere_grid(9, 16)
    traces = []

    @jax.jit
    @jax.vmap
    def step(f):
        traces.append(1)
        return integrate(f, grid)

    stack = jnp.asarray(np.stack([INTEGRANDS["dipole"](axis, *grid.points) for axis in AXES]))
    found = step(stack)
    step(stack + 1.0)
    assert len(traces) == 1
    assert found.value.shape == found.error.shape == found.warning.shape == (5,)
    assert jnp.allclose(found.value, INTEGRANDS["dipole"].integral, rtol=1e-7)


@pytest.mark.parametrize(
    "rule", [name for name, rule in RULES.items() if not issubclass(rule, PointRule)]
)
def test_recognise(rule):
    if rule in ("sine-series", "gregory"):
        pytest.skip("its nodes are those of clenshaw-curtis")
    for symmetry in (Symmetry(), Symmetry(equator=True, mirror=True), Symmetry(fold=4)):
        grid = sphere_grid(24, 40, rule, symmetry=symmetry, phi_start=-np.pi)
        theta, phi = grid.axes
        assert recognise(theta, phi, symmetry) == grid
        if not symmetry.mirror:
            closed = np.append(phi, phi[0] + 2 * np.pi / symmetry.fold)
            assert recognise(theta, closed, symmetry) == grid
    with pytest.raises(ValueError, match="theta: expected linspace"):
        recognise(np.linspace(0, np.pi, 9) ** 1.1, np.linspace(0, 2 * np.pi, 9))
    with pytest.raises(ValueError, match="phi: expected equal steps"):
        recognise(np.linspace(0, np.pi, 9), np.linspace(0, 5.0, 9))


def test_recognise_part_of_the_sphere():
    theta = np.linspace(0.2, 1.5, 30)
    grid = recognise(theta, np.linspace(0, 2 * np.pi, 17))
    assert scheme_of(grid, "solid-angle").rule.name == "gregory"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda f, g: integrate(f, g, "sphere"), "measure: expected one of"),
        (lambda f, g: integrate(f.T, g), r"samples: expected shape \(9, 16\)"),
        (lambda f, g: integrate(f, g, band=(2.0, 1.0)), "band: expected low < high"),
        (lambda f, g: integrate(f, g, rule="fejer1"), "rule: expected one for samples placed"),
        (lambda f, g: integrate(f, g, mask=np.ones(3, bool)), "mask: expected booleans of shape"),
        (
            lambda f, g: integrate(f, g, mask=np.zeros((9, 16), bool)),
            "mask: expected samples enough",
        ),
    ],
)
def test_bad_input_is_refused(call, message):
    grid = sphere_grid(9, 16)
    with pytest.raises(ValueError, match=message):
        call(jnp.ones((9, 16)), grid)


@pytest.mark.parametrize("band", [(0.0, np.pi / 2), (np.pi / 2, np.pi)])
def test_a_part_from_a_pole_on_is_exact_to_one_degree_less(band):
    """∫ |cosθ|^k over half the sphere is 2π/(k + 1): 9 rings know k = 8, of the whole 9."""
    grid = sphere_grid(9, 16)
    part = weights(grid, band=band)
    assert (weights(grid).degree, part.degree) == (9, 8)
    for power in (8, 9):
        found = np.sum(np.asarray(part.value) * np.cos(grid.points[0]) ** power)
        assert (abs(abs(found) - 2 * np.pi / (power + 1)) < 1e-13) == (power == 8)
