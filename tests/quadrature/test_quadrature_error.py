"""The error estimate and the warnings, measured over integrands, orientations and sizes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.polynomial import legendre

from diffsim.quadrature import (
    Flag,
    explain,
    integrate,
    make,
    parity,
    recognise,
    sphere_grid,
)
from diffsim.quadrature.tail import Colatitude, Decay, Halving, Longitude, Scattered, _margin
from studies import integrands

FLOOR = 4e-15  # relative roundoff: below it neither errors nor estimates mean anything


def _cases(rule, measure, sizes, count, seed, asked=None):
    """Arrays over (integrand, size, orientation): relative error, estimate, warning."""
    axes = integrands.axes(count, seed)
    rows = []
    for n in sizes:
        grid = sphere_grid(n, rule=rule)
        theta, phi = grid.points
        carried = np.sin(theta) if measure == "included" else 1.0
        stack = np.stack(
            [
                f(axis, theta, phi) * carried / f.integral
                for f in integrands.INTEGRANDS.values()
                for axis in axes
            ]
        )
        found = jax.jit(jax.vmap(lambda s, grid=grid: integrate(s, grid, measure, rule=asked)))(
            stack
        )
        rows.append(
            np.stack([np.abs(found.value - 1), found.error, found.warning]).reshape(3, -1, count)
        )
    return np.stack(rows, axis=2)


SMOOTH = np.array([f.smooth for f in integrands.INTEGRANDS.values()])


def _excess(error, estimate, rough):
    """How many times too large the estimates of smooth functions not called rough are."""
    worst = np.maximum(error.max(axis=2, keepdims=True), FLOOR)
    return (estimate / worst)[SMOOTH][~rough[SMOOTH]]


def test_covers_99_cases_in_100():
    """Six integrands, 24 orientations, three sizes: the user's own grid in dΩ."""
    error, estimate, warning = _cases("clenshaw-curtis", "solid-angle", (17, 33, 65), 24, 21)
    assert np.mean(estimate >= error) >= 0.99
    # Never blind to a kink or a step, and no alarm on what has converged.
    warning = warning.astype(int)
    rough = warning & Flag.ROUGH.value > 0
    assert rough[~SMOOTH].all()
    assert not rough[SMOOTH][estimate[SMOOTH] < 1e-10].any()
    # Of what is not called rough, the estimate is at most 100 times too large, against the worst
    # orientation: errors change sign with orientation, and are in some by chance as small as one
    # likes.
    assert np.mean(_excess(error, estimate, rough) <= 100) >= 0.99
    # Resolved or not, kinked or not, fewer than 1 in 20 doubt a measure that is right.
    assert np.mean(warning & Flag.PARITY.value > 0) < 0.05
    assert not np.any(warning & (Flag.REPEATED | Flag.OPEN | Flag.POLE | Flag.NOT_FINITE).value)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [31, 32])
@pytest.mark.parametrize(
    ("rule", "measure", "asked", "share", "near"),
    [
        # near: share of the estimates within 100 times the error. Gauss–Legendre first errs at
        # twice the orders that its samples show: what lies there is a guess.
        ("clenshaw-curtis", "solid-angle", None, 0.99, 0.98),
        ("fejer1", "solid-angle", None, 0.99, 0.99),
        ("sine-series", "included", None, 0.99, 0.99),
        ("thinned", "solid-angle", None, 0.99, 0.0),
        ("gauss-legendre", "solid-angle", None, 0.98, 0.8),
        ("clenshaw-curtis", "solid-angle", "gregory", 0.97, 0.0),
    ],
)
def test_coverage_of_every_rule(rule, measure, asked, share, near, seed):
    error, estimate, warning = _cases(rule, measure, (17, 25, 33, 49, 65, 97), 24, seed, asked)
    assert np.mean(estimate >= error) >= share
    rough = warning.astype(int) & Flag.ROUGH.value > 0
    assert np.mean(_excess(error, estimate, rough) <= 100) >= near


def test_a_late_drop_is_followed():
    """Flat to order 40, then a thousandth an order: the power law alone is far too large."""
    k = np.arange(49.0)
    decay = Decay.fit(jnp.asarray(1e-3 ** np.maximum(k - 40, 0)))
    exact, found = 1e-3**16, float(decay.amplitude(np.array([56]))[0])
    assert exact <= found
    assert np.log(found) < 0.6 * np.log(exact)
    assert float(decay.order_of(jnp.log(found))) == pytest.approx(56, rel=1e-6)
    # An algebraic decay is not mistaken for one.
    assert float(Decay.fit(jnp.asarray((k + 1) ** -4.0)).edge) == np.inf


def test_decay_recovers_algebraic_geometric_and_gaussian_spectra():
    k = np.arange(41.0)
    for spectrum, power in (((k + 1e-9) ** -4.0, 0.0), (0.8**k, 1.0), (np.exp(-k * k / 200), 2.0)):
        decay = Decay.fit(jnp.asarray(np.minimum(spectrum, 1e30)))
        assert float(decay.power) == pytest.approx(min(power, np.log2(3)), abs=0.02)
        beyond = decay.amplitude(np.array([60]))[0]
        if power < 2:  # steeper than p = log2(3) is held to that, so above the truth
            exact = 60.0**-4 if power == 0 else 0.8**60
            assert float(beyond) == pytest.approx(exact, rel=0.05)
            assert float(decay.order_of(jnp.log(beyond))) == pytest.approx(60, rel=1e-6)
        else:
            assert np.exp(-3600 / 200) < float(beyond) < 100 * np.exp(-3600 / 200)


@pytest.mark.parametrize("slow", [1e-3, 0.2, 30.0])
def test_a_decay_goes_through_its_three_points(slow):
    """However slowly it falls: by d and then by 2d, so of power 1, or by d and d, of power 0."""
    for factor in (2.0, 1.0):
        logs = slow * np.array([1 + factor, factor, 0.0])
        decay = Decay.through(jnp.asarray(logs), 8.0)
        assert float(decay.power) == pytest.approx(np.log2(factor), abs=1e-9)
        np.testing.assert_allclose(jnp.log(decay.amplitude(np.array([2, 4, 8]))), logs, atol=1e-9)


@pytest.mark.parametrize("n", [1, 5, 16])
def test_meridians_err_on_their_multiples_by_what_a_sum_gives(n):
    """2 cos kφ on n meridians: 4π for k = n, 2n, … up to twice the orders seen, else nothing."""
    response = Longitude.of(n).response
    phi = 2 * np.pi * np.arange(n) / n
    orders = np.arange(1, 2 * n + 1)
    errors = 2 * np.pi * np.mean(2 * np.cos(np.outer(orders, phi)), axis=1)
    np.testing.assert_array_equal(response.orders, orders[np.abs(errors) > 1e-9])
    np.testing.assert_allclose(response.sizes, errors[response.orders - 1])


def test_scattered_points_see_two_degrees_in_each_window():
    """Harmonics of unit energy, degree by degree; a flat spectrum goes on as it is."""
    rule = make("lebedev", 17)
    spectrum = Scattered.of(rule)
    cosine = np.cos(rule.points[0])
    for degree in range(1, spectrum.top + 1):
        values = np.sqrt((2 * degree + 1) / (4 * np.pi)) * legendre.Legendre.basis(degree)(cosine)
        for matrix, last in zip(spectrum.analysis, (spectrum.top // 4, spectrum.top // 2,
                                                    spectrum.top)):  # fmt: skip
            seen = np.linalg.norm(matrix @ values)
            window = {max(1, last - 1), max(1, last)}
            inside = len(window) ** -0.5 if degree in window else 0.0
            assert seen == pytest.approx(inside, abs=1e-9), (degree, last)
    flat = Scattered((np.eye(1, 12),) * 3, top=1, degree=5)
    found = flat.outlook(jnp.full(12, 0.3)).error
    assert float(found) == pytest.approx(_margin(6, 1) * np.sqrt(4 * np.pi / 12) * 6 * 0.3)


def test_roundoff_is_in_the_estimate(dtype):
    grid = sphere_grid(17, 32)
    f = integrands.INTEGRANDS["dipole"]
    found = integrate(jnp.asarray(f(integrands.axes(1, 2)[0], *grid.points), dtype), grid)
    assert found.error.dtype == dtype
    assert abs(float(found.value) - f.integral) <= float(found.error)
    assert float(found.error) < 100 * float(jnp.finfo(dtype).eps) * f.integral


def _flags(samples, grid, measure="solid-angle"):
    return Flag(int(integrate(jnp.asarray(samples), grid, measure).warning))


def test_measure_and_data_that_disagree():
    """Always found for the broad dipole; for a beam, whenever it does not vanish at both poles."""
    grid = sphere_grid(65)
    axes = integrands.axes(24, 4)
    names = ("dipole", "Henyey-Greenstein")
    stack = np.stack([integrands.INTEGRANDS[n](axis, *grid.points) for n in names for axis in axes])
    for measure, right, wrong in (
        ("solid-angle", stack, stack * np.sin(grid.points[0])),
        ("included", stack * np.sin(grid.points[0]), stack),
    ):
        check = jax.jit(jax.vmap(lambda s, m=measure: parity.check(s, grid, m)))
        assert not np.any(check(right) & Flag.PARITY.value)
        dipole, beam = (np.asarray(check(wrong)) & Flag.PARITY.value).reshape(2, -1)
        assert dipole.all()
        assert np.mean(beam) >= 0.9
        assert int(integrate(jnp.asarray(wrong[0]), grid, measure).warning) & Flag.PARITY


def test_other_warnings():
    grid = sphere_grid(17, 16)
    theta, phi = grid.points
    assert _flags(np.cos(phi) + theta, grid) & Flag.POLE
    spoilt = np.cos(theta)
    spoilt[3, 3] = np.inf
    with pytest.raises(ValueError, match=r"samples: expected finite numbers, got 1 .* a mask"):
        integrate(jnp.asarray(spoilt), grid)
    traced = jax.jit(lambda samples: integrate(samples, grid).warning)(spoilt)
    assert int(traced) & Flag.NOT_FINITE
    assert len(explain(Flag.POLE | Flag.ROUGH)) == 2


def test_halving_takes_the_order_from_its_changes():
    """With an error C h⁸ the changes are 255 C h⁸ and 256 times that: 8 × 5 × 255/128 errors."""
    errors = 1e-12 * 256.0 ** np.arange(3)
    found = Halving(np.diff(errors)[:, None]).outlook(jnp.ones(1), jnp.ones(1))
    assert float(found.error) == pytest.approx(8 * 5 * 255 / 128 * errors[0], rel=1e-9)


def test_gregory_is_in_doubt_by_a_factor_that_its_order_explains():
    """Of order 8 on a smooth function 80 errors, and some more as the next order still shows."""
    theta = np.linspace(0.5, 2.0, 97)
    grid = recognise(theta, np.linspace(0, 2 * np.pi, 9))
    samples = np.broadcast_to(np.exp(6 * theta)[:, None], grid.shape)
    found = integrate(jnp.asarray(samples), grid, "flat")
    error = abs(float(found.value) - 2 * np.pi * (np.exp(12) - np.exp(3)) / 6)
    assert 60 < float(found.error) / error < 240


def test_a_first_harmonic_counts_as_its_amplitude_over_the_ring():
    """2 Re c exp(jφ), times sinθ: as much as a mean over φ of that size, whatever its phase."""
    spectrum = Colatitude.of(make("clenshaw-curtis", 17))
    theta = np.linspace(0, np.pi, 17)
    first = jnp.asarray(np.sin(theta) / (1.5 + np.cos(theta) ** 2))  # even orders: all matter
    nothing = jnp.zeros(17)
    mean = spectrum.outlook(2 * np.sin(theta) * first, nothing.astype(complex)).error
    for phase in (1, 1j, np.exp(0.7j)):
        np.testing.assert_allclose(
            spectrum.outlook(nothing, phase * first.astype(complex)).error, mean, rtol=1e-9
        )


def test_the_margin_grows_as_a_cube():
    """Where the first order that errs is at twice those seen, as with Gauss–Legendre: 8 times."""
    assert _margin(34, 17) == 8 * _margin(17, 17) == 8 * _margin(9, 17)


def test_gregory_knows_its_error_on_a_band():
    """A function with a pole near the band: the estimate is above the error, not far above."""
    theta = np.linspace(0.5, 2.0, 49)
    grid = recognise(theta, np.linspace(0, 2 * np.pi, 9))
    samples = np.broadcast_to(1 / (0.1 + (theta[:, None] - 1.2) ** 2), grid.shape)
    found = integrate(jnp.asarray(samples), grid, "flat")
    root = np.sqrt(0.1)
    exact = 2 * np.pi * (np.arctan(0.8 / root) + np.arctan(0.7 / root)) / root
    error = abs(float(found.value) - exact)
    assert error <= float(found.error) < 1e-3 * exact
    assert found.degree == 7
