"""Every rule of the table: exact to its degree and not beyond, and known weights."""

import numpy as np
import pytest
from zonal import zonal, zonal_integral

from diffsim.quadrature import RULES, Symmetry, Zoom, make, sphere_grid
from diffsim.quadrature.base import PointRule, Rule
from diffsim.quadrature.gregory import _line
from diffsim.quadrature.scheme import scheme_of
from studies import integrands

AXES = integrands.axes(4, seed=3)
CASES = [(name, measure) for name, rule in RULES.items() for measure in rule.measures]
# Even and odd sizes differ in the degree's last unit.
SIZES = {"lebedev": (5, 17), "thinned": (5, 8)}


def _grid(name, n):
    """Meridians to spare, so that the degree is that of the rule in θ."""
    return sphere_grid(n, None if issubclass(RULES[name], PointRule) else 4 * n, name)


def _harmonic_errors(grid, measure, scheme, degree):
    """The largest error over the axes, of the zonal harmonic of a degree."""
    theta, phi = grid.points
    s = np.sin(theta)
    direction = np.stack([s * np.cos(phi), s * np.sin(phi), np.cos(theta)])
    carried = s if measure == "included" else 1.0
    errors = [
        np.sum(scheme.weights * zonal(degree, np.tensordot(axis, direction, 1)) * carried)
        - zonal_integral(degree, axis, measure)
        for axis in AXES
    ]
    return np.max(np.abs(errors))


@pytest.mark.parametrize(("name", "measure"), CASES)
def test_exact_to_the_degree_and_not_beyond(name, measure):
    for n in SIZES.get(name, (9, 10)):
        if getattr(RULES[name], "space", None) == "polynomial":
            extent = (0.4, 2.1)  # off the poles, where a polynomial over sinθ would be infinite
            rule = make(name, n, measure=measure, extent=extent)
            degree = rule.degree
            basis = rule.basis(degree + 3, rule.nodes)
            error = np.abs(rule.weights() @ basis - rule.moments(degree + 3))
            inside, outside = error[: degree + 1].max(), error[degree + 1 :].max()
        else:
            grid = _grid(name, n)
            scheme = scheme_of(grid, measure, name)
            degree = scheme.degree
            inside = max(_harmonic_errors(grid, measure, scheme, k) for k in range(degree + 1))
            outside = max(
                _harmonic_errors(grid, measure, scheme, k) for k in range(degree + 1, degree + 3)
            )
        # Roundoff of some hundred terms of order one; beyond, the error is a fraction of a term.
        assert inside < 1e-12
        assert outside > 1e-4


@pytest.mark.parametrize(("name", "measure"), CASES)
def test_weights_sum_to_the_area(name, measure):
    grid = _grid(name, 9 if name != "lebedev" else 17)
    weights = scheme_of(grid, measure, name).weights
    if measure == "included":
        samples, area = np.sin(grid.points[0]), 4 * np.pi
    else:
        samples, area = 1.0, {"flat": 2 * np.pi**2, "solid-angle": 4 * np.pi}[measure]
    # Gregory's nine points integrate sinθ to h^8; every other rule is exact.
    tolerance = 1e-4 if name == "gregory" else 1e-13
    assert np.sum(weights * samples) == pytest.approx(area, rel=tolerance)


@pytest.mark.parametrize("name", RULES)
def test_a_record_checks_its_settings(name):
    smallest = RULES[name].least if issubclass(RULES[name], Rule) else 1
    with pytest.raises(ValueError, match="n_theta: expected"):
        make(name, smallest - 1)
    if issubclass(RULES[name], Rule):
        for extent in ((1.0, 0.5), *([] if RULES[name].partial else [(0.5, 1.0)])):
            with pytest.raises(ValueError, match="extent: "):
                make(name, 9, extent=extent)
        with pytest.raises(ValueError, match=f"measure: {name} expected one of .* got 'mass'"):
            make(name, 9, measure="mass")


def test_clenshaw_curtis_degrees():
    """n intervals: n, and n + 1 if n is even; with dθ dφ the alias comes first at 2n."""
    for n in (8, 9):
        assert scheme_of(sphere_grid(n + 1, 64), "solid-angle").degree == n + (n % 2 == 0)
        assert scheme_of(sphere_grid(n + 1, 64), "flat").degree == 2 * n - 1
    weights = scheme_of(sphere_grid(9, 64), "flat").theta
    assert np.allclose(weights, np.pi / np.array([16, *[8] * 7, 16]))


def test_too_few_meridians_lower_the_degree():
    assert scheme_of(sphere_grid(33, 8), "solid-angle").degree == 7


def test_trapezoid_error_constant():
    """trapz(g sinθ) errs by -h²/12 (g(0) + g(π)): why the weights are not those of trapz."""
    theta = np.linspace(0, np.pi, 201)
    g = np.exp(np.cos(theta))
    error = np.trapezoid(g * np.sin(theta), theta) - (np.e - 1 / np.e)
    constant = error / (-(theta[1] ** 2) / 12 * (g[0] + g[-1]))
    # The next term is relatively h²/60 (g'''-like)/g, below 1e-3 here.
    assert constant == pytest.approx(1.0, abs=1e-3)


def test_gregory_is_of_order_8():
    """Halving the step divides the error by 2^8 on a function without parity."""
    errors = []
    for n in (41, 81):
        x = np.linspace(0.0, 1.0, n)
        errors.append(abs(_line(n) @ np.exp(6 * x) / (n - 1) - np.expm1(6) / 6))
    # The next term, of order 9, still shows at these sizes; smaller steps meet roundoff.
    assert 7.5 < np.log2(errors[0] / errors[1]) < 9


def test_gauss_agrees_with_numpy():
    nodes, weights = np.polynomial.legendre.leggauss(31)
    rule = make("gauss-legendre", 31)
    assert np.allclose(np.cos(rule.nodes), nodes[::-1], atol=1e-15)
    assert np.allclose(rule.weights(), weights[::-1], atol=1e-14)


def test_thinned_rings_save_points():
    full = 2 * 64 * 64
    assert 0.7 * full < sphere_grid(64, rule="thinned").shape[0] < 0.87 * full


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_theta": 2}, "n_theta: expected at least 3 rings, got 2"),
        ({"n_theta": 9, "rule": "simpson"}, "rule: expected one of"),
        ({"n_theta": 16, "rule": "lebedev"}, "n_theta: expected a size that lebedev has, got 16"),
        ({"n_theta": 9, "rule": "fejer1", "extent": (0.5, 1.0)}, "rule: expected one for samples"),
        (
            {"n_theta": 9, "zoom": Zoom(0.0, 0.0, 0.1), "symmetry": Symmetry(equator=True)},
            "zoom: expected symmetries about the beam only",
        ),
        (
            {"n_theta": 9, "n_phi": 8, "symmetry": Symmetry(fold=3)},
            "n_phi: expected a positive mult",
        ),
        ({"n_theta": 9, "extent": (1.0, 0.5)}, "extent: expected 0 <= low < high"),
    ],
)
def test_bad_grids_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        sphere_grid(**arguments)
