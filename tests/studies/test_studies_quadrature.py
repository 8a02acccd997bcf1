"""What the benchmark measures: fewer samples and less time than the spline."""

import numpy as np
import pytest

from diffsim.quadrature import sphere_grid
from studies import integrands
from studies import quadrature as benchmark


def test_peers_converge_to_the_same_integral():
    """Each peer is a fair one: its error falls at its own order."""
    f = integrands.INTEGRANDS["dipole"]
    axis = integrands.axes(1, 0)[0]
    orders = {benchmark.trapezoid: 2, benchmark.linear: 2, benchmark.spline: 4}
    for method, order in orders.items():
        errors = []
        for n in (33, 65):
            grid = benchmark.closed(n)
            errors.append(abs(method(grid, f(axis, *grid.points), "solid-angle") / f.integral - 1))
        assert np.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.5)


def test_a_pole_counts_once():
    assert benchmark.count(sphere_grid(5, 8)) == 3 * 8 + 2


@pytest.mark.parametrize("measure", ["solid-angle", "flat"])
def test_ten_times_fewer_samples_than_the_spline(measure):
    """On the user's own grid, at relative 1e-6, for the dipole; worst of two orientations."""
    table = benchmark.methods(60)
    axes = integrands.axes(2, 0)
    ours, spline = (
        benchmark.samples_needed("dipole", table[name], measure, axes, (1e-6,))[0]
        for name in ("ours", "spline")
    )
    assert spline >= 10 * ours


@pytest.mark.parametrize(("name", "size"), [("von Mises-Fisher", 11), ("Henyey-Greenstein", 15)])
def test_zoom_needs_forty_times_fewer_samples_than_the_spline(name, size):
    """For beams whose axis is known: at 1e-6, where the spline on 40 times as many fails where a
    beam is near a pole."""
    f = integrands.INTEGRANDS[name]
    users = benchmark.closed(round(1 + (40 * size**2 / 2) ** 0.5) + 1)
    assert benchmark.count(users) >= 40 * size**2
    for axis in integrands.axes(5, 0):
        zoomed = benchmark.zoomed(size, axis)
        found = benchmark.ours(zoomed, f(axis, *zoomed.points), "solid-angle")
        assert abs(found / f.integral - 1) < 1e-6
    worst = max(
        abs(benchmark.spline(users, f(axis, *users.points), "solid-angle") / f.integral - 1)
        for axis in integrands.axes(5, 0)
    )
    assert worst > 1e-6


@pytest.mark.slow
def test_a_hundred_times_faster_than_building_the_spline():
    seconds = benchmark.seconds_per_step()
    assert seconds["spline"] > 100 * seconds["value"]


@pytest.mark.slow
def test_the_table_is_printed(capsys):
    benchmark.benchmark(largest=30, orientations=1)
    printed = capsys.readouterr().out
    assert all(name in printed for name in integrands.INTEGRANDS)
    assert "seconds per 400 x 200 step" in printed
