"""Identification against made flights whose constants are known."""

import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffsim.identification import (
    Observations,
    explains,
    fit_warnings,
    flight_fits,
    identify,
    parameter_names,
    read,
    write,
)
from diffsim.identification.arcs import arcs, scatter
from diffsim.identification.contacts import FreeFlight, between, passes
from diffsim.identification.fit import get, put
from diffsim.identification.start import _check_stamps
from diffsim.physics import BallState, Surface, World, floor, net, paddle, simulate, table
from diffsim.physics.interpolate import states_at
from reports import identify as report
from studies.flights import made

NAMES = ("drag", "magnus", "table.restitution", "table.friction")
TRUTH = np.array([0.45, 0.5, 0.87, 0.12])
WORLD = World.create()
TRUE_WORLD = put(WORLD, NAMES, jnp.asarray(TRUTH))
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def seen():
    return made(TRUE_WORLD, seed=3, flights=8)


@pytest.fixture(scope="module")
def found(seen):
    return identify(seen, WORLD, NAMES)


def test_put_and_get_agree():
    for name in parameter_names(WORLD):
        assert float(get(put(WORLD, [name], [jnp.asarray(0.3)]), name)) == pytest.approx(0.3)


def test_recovers_the_truth_within_its_standard_errors(found):
    z = (found.values - TRUTH) / found.errors
    assert found.converged
    assert np.abs(z).max() < 4, z
    assert np.all(found.errors < [0.01, 0.06, 0.005, 0.005])  # 8 flights say something
    assert found.noise == pytest.approx(2e-3, rel=0.1)
    assert found.reference == pytest.approx(2e-3, rel=0.1), "told by the samples alone"
    assert found.chi_square == pytest.approx(1, abs=0.2)
    assert explains(found)
    assert fit_warnings(found) == []
    np.testing.assert_allclose(
        [float(get(found.world, name)) for name in NAMES], found.values, rtol=1e-6
    )


def test_covariance_is_that_of_the_whole_jacobian(seen, found):
    """The starts projected out flight by flight, against the inverse of the whole information."""
    from diffsim.identification.residuals import FlightResiduals

    problem = FlightResiduals.create(
        seen, WORLD, lambda w, t: put(w, NAMES, list(t)), len(NAMES),
        spin_noise=5.0, spin_scale=150.0, step=0.02,
    )  # fmt: skip
    starts = np.concatenate([np.asarray(x) for x in jax.tree.leaves(found.starts)], axis=1)
    unknowns = np.concatenate([found.values, starts.ravel()])
    jacobian = problem.evaluate(unknowns, found.noise)[1]
    scale = np.linalg.norm(jacobian, axis=0)
    whole = np.linalg.inv((jacobian / scale).T @ (jacobian / scale))[:4, :4]
    whole /= np.outer(scale[:4], scale[:4])
    np.testing.assert_allclose(found.covariance, whole, rtol=1e-5)
    # The Jacobian against central differences, in one parameter and one start.
    for j, h in ((0, 1e-6), (4 + 3, 1e-6)):
        ahead, behind = unknowns.copy(), unknowns.copy()
        ahead[j] += h
        behind[j] -= h
        slope = (
            problem.evaluate(ahead, found.noise)[0] - problem.evaluate(behind, found.noise)[0]
        ) / (2 * h)
        np.testing.assert_allclose(jacobian[:, j], slope, atol=2e-5 * np.abs(slope).max())


def test_without_measured_spins_and_with_a_net_that_was_not_there():
    """Lift given, the rest is found; the flights through the net are named, though most are."""
    names, laboratory = NAMES[:1] + NAMES[2:], World.create([table(), floor()])
    seen = made(put(laboratory, NAMES, jnp.asarray(TRUTH)), seed=3, flights=8, spin_noise=None)
    low, high = 1.04, 1.24  # m; where this net is
    barrier = Surface.create(
        center=(0, 0, (low + high) / 2), normal=(1, 0, 0), u=(0, 1, 0),
        half_extents=(0.9, (high - low) / 2), two_sided=True, name="net",
    )  # fmt: skip
    world = put(World.create([table(), barrier, floor()]), ["magnus"], [jnp.asarray(TRUTH[1])])
    middle = [p[np.nanargmin(np.abs(p[:, 0])), 2] for p in seen.positions]
    through = [name for name, z in zip(seen.names, middle) if low + 0.02 < z < high - 0.02]
    assert len(through) > 4
    found = identify(seen, world, names)
    z = (found.values - TRUTH[[0, 2, 3]]) / found.errors
    assert np.abs(z).max() < 4, z
    said = report.as_json(found)
    fits = {fit["name"]: fit for fit in said["flights"]}
    assert {name for name in fits if fits[name]["status"] == "contradicted"} == set(through)
    assert all("goes through net at t = 0." in fits[name]["reason"] for name in through)
    assert not said["explains"]
    assert said["warnings"][0].startswith(f"the world does not explain {len(through)} of 8 flights")
    assert found.noise == pytest.approx(2e-3, rel=0.1), "of the flights that are fitted"


def test_a_fit_says_what_it_does_not_explain(found):
    """The verdict on what a fit might leave; the noise is that of the samples, not of the fit."""
    count, length, _ = found.residuals.shape
    bump = 0.02 * np.sin(np.linspace(0, np.pi, length))[:, None]
    for spoilt in (1, count - 1):  # also when they are the majority
        left = found.residuals.copy()
        left[:spoilt] += bump
        worse = dataclasses.replace(found, residuals=left, noise=9e-3)
        assert worse.unexplained() == found.flights[:spoilt]
        assert not explains(worse)
        assert f"does not explain {spoilt} of {count} flights" in report.parameter_table(worse)
    shaped = dataclasses.replace(found, residuals=found.residuals + bump / 8)
    assert {fit.status for fit in flight_fits(shaped)} == {"patterned"}
    assert "follow a pattern" in fit_warnings(shaped)[0]
    loud = dataclasses.replace(found, chi_square=4.0, noise=2 * found.reference)
    assert "leaves 3.9 mm where the noise is 1.9 mm" in re.sub(
        r"(\.\d)\d", r"\1", fit_warnings(loud)[0]
    )
    assert not explains(loud)
    still = dataclasses.replace(found, guess=np.where([1, 0, 0, 0], found.values, found.guess))
    assert fit_warnings(still) == [f"drag did not move from its first value, {found.values[0]:g}"]
    lively = dataclasses.replace(found, values=found.values + np.array([0, 0, 0.2, 0]))
    assert "table.restitution is above 1" in fit_warnings(lively)[0]
    bound = dataclasses.replace(found, values=np.where([1, 0, 0, 0], 1e-10, found.values))
    assert fit_warnings(bound) == ["drag ended where its range does, at 0"]
    near = dataclasses.replace(bound, values=np.where([1, 0, 0, 0], 1e-5, found.values))
    assert fit_warnings(near) == fit_warnings(bound), "within a hundredth of its error"
    granted = dataclasses.replace(found, reference=4 * found.scatter)
    assert "but the samples scatter by" in fit_warnings(granted)[0]
    astray = dataclasses.replace(loud, adrift=np.arange(count) < 3)
    assert "3 of 8 flights are not explained between contacts either" in fit_warnings(astray)[1]
    blind = dataclasses.replace(found, reference=np.nan, chi_square=np.nan)
    assert "do not tell their noise" in fit_warnings(blind)[0]
    assert not explains(blind)
    assert json.loads(json.dumps(report.as_json(blind), allow_nan=False))["chi_square"] is None


@pytest.mark.parametrize(("metre", "second"), [(1e3, 1), (39.37, 1), (1, 1e3), (1, 83), (1e-3, 1)])
def test_other_units_than_m_and_s_are_refused_before_work(seen, metre, second):
    """Millimetres, inches, times in ms or in frames, kilometres: by how fast arcs accelerate."""
    other = Observations.create(second * seen.times[:3], metre * seen.positions[:3])
    with pytest.raises(ValueError, match=r"expected m and s, got arcs that accelerate by .* 9\.81"):
        identify(other, WORLD, NAMES)


def test_samples_that_show_no_flight_are_refused(seen):
    """In another order than their times, each flight looks like noise as wide as it is long."""
    order = np.random.default_rng(0).permutation(seen.times.shape[1])
    shuffled = dataclasses.replace(seen, positions=seen.positions[:, order])
    with pytest.raises(ValueError, match="expected flights, got samples that scatter by"):
        identify(shuffled, WORLD, NAMES)


@pytest.mark.parametrize("late", [True, False])
def test_samples_that_moved_between_stamps_that_stand_still(seen, late):
    """A stamp 1 ns from its neighbour's says where; two cameras that look at once say nothing."""
    times = seen.times[:3].copy()
    sample = 12 if late else 10
    times[1, 11] = times[1, sample] + (-1e-9 if late else 1e-9)
    first = min(sample, 11)
    text = rf"got 1e-09 s between two .* trajectory 1 at {times[1, first]:.6g} s .* first of 1$"
    with pytest.raises(ValueError, match=text):
        identify(Observations.create(times, seen.positions[:3]), WORLD, NAMES)
    draw = np.random.default_rng(0)
    twice = np.repeat(times[:1, :40:2], 2, axis=1)
    twice[:, 1::2] += 1e-6
    looks = np.repeat(seen.positions[:1, :40:2], 2, axis=1) + 2e-3 * draw.normal(size=(1, 40, 3))
    _check_stamps(Observations.create(twice, looks), noise=0.0)


def parabola(start, velocity, times, gravity=(0, 0, -9.81)):
    """States of a ball without air."""
    t, g = times[:, None], np.array(gravity)
    x = np.array(start) + np.array(velocity) * t + g * t**2 / 2
    return np.c_[x, np.array(velocity) + g * t, np.zeros_like(x)]


def test_arcs_and_contacts_of_a_bounce_in_closed_form():
    world, e = World.create([table(), net()]), 0.8
    radius, height = float(world.ball.radius), 0.3
    meets = np.sqrt(2 * height / 9.81)
    times = np.arange(60) / 100
    before, after = times[times < meets], times[times > meets]
    top = (0.5, 0.1, 0.76 + radius + height)
    fall = parabola(top, (1.5, 0, 0), before)
    low = (0.5 + 1.5 * meets, 0.1, 0.76 + radius)
    rise = parabola(low, (1.2, 0, e * 9.81 * meets), after - meets)
    noise = 1e-3 * np.random.default_rng(0).normal(size=(len(times), 3))
    seen = np.concatenate([fall, rise])[:, :3] + noise
    seen[40] += 0.5  # an outlier
    seen[10:13] = np.nan
    one = Observations.create(times[None], seen[None])
    assert scatter(one) == pytest.approx(1e-3, rel=0.3)
    (pieces,) = arcs(one, 1e-3)
    whole = np.r_[0:10, 13 : len(before)]
    assert pieces[0].tolist() == whole.tolist()
    assert 40 not in np.concatenate(pieces)
    assert sum(map(len, pieces)) >= len(times) - 7, "an outlier may take three along"

    first, second = FreeFlight(before, fall, 1e-3), FreeFlight(after, rise, 1e-3)
    contact = between(first, second, world)
    assert contact.surface == "table"
    # The speeds are those at the samples beside the bounce, not at it.
    assert contact.restitution == pytest.approx(e, abs=0.04)
    assert contact.friction == pytest.approx(0.3 / (1.8 * 9.81 * meets), abs=0.01)
    assert passes(first, world) == passes(second, world) == ""
    assert between(first, second, World.create([net()])).startswith("turns at t = 0.24")
    assert between(first, FreeFlight(after, parabola(top, (1.5, 0, 0), after), 1e-3), world) is None
    through = FreeFlight(times, parabola((-0.5, 0, 0.9), (2.0, 0, 1.0), times, (0, 0, 0)), 1e-3)
    assert passes(through, world) == ""  # 1.14 m high at the net
    through = FreeFlight(times, parabola((-0.5, 0, 0.84), (2.0, 0, 0.0), times, (0, 0, 0)), 1e-3)
    assert passes(through, world).startswith("goes through net at t = 0.24")
    sinks = FreeFlight(times, parabola((0.5, 0, 1.0), (0, 0, -1.0), times, (0, 0, 0)), 1e-3)
    assert passes(sinks, world).startswith("goes through table")
    rests = FreeFlight(
        times, parabola((0.5, 0, 0.76 + radius), (1.0, 0, 0), times, (0, 0, 0)), 1e-3
    )
    assert passes(rests, world) == ""


@pytest.mark.slow
def test_what_is_never_met_is_not_determined(seen):
    found = identify(seen, WORLD, ("drag", "net.friction"))
    assert np.isinf(found.errors[1])
    assert np.isfinite(found.errors[0])
    assert "not determined" in report.parameter_table(found)


@pytest.mark.slow
def test_errors_cover():
    """z-scores of 24 data sets: mean within 4 standard errors of 0, spread near 1."""
    z = []
    for seed in range(24):
        found = identify(made(TRUE_WORLD, seed=100 + seed, flights=8), WORLD, NAMES)
        if not found.unexplained():
            z.append((found.values - TRUTH) / found.errors)
    z = np.array(z)
    assert len(z) >= 20
    assert np.abs(z.mean(axis=0)).max() < 4 / np.sqrt(len(z))
    assert 0.6 < z.std() < 1.4


def test_states_between_grid_points_and_across_an_impact():
    """Against the closed form of a ball dropped on a table in a vacuum."""
    from diffsim.physics import Air

    world = World.create([table(0.9, 0.2), floor()], air=Air.create(0.0))
    rollout = simulate(world, BallState.create([0.0, 0.0, 0.88]), duration=0.25, step=0.1)
    g, height = 9.81, 0.1
    impact = np.sqrt(2 * height / g)
    times = np.array([-1.0, 0.0, 0.07, 0.149, 0.2, 0.25, 9.0])

    def closed(t):
        after = t - impact
        up = 0.9 * g * impact
        return np.where(after < 0, 0.88 - 0.5 * g * t**2, 0.78 + up * after - 0.5 * g * after**2)

    states = states_at(rollout, jnp.asarray(times))
    np.testing.assert_allclose(states.position[:, 2], closed(np.clip(times, 0, 0.25)), atol=1e-9)

    def height_at(z, t):
        ball = BallState(jnp.stack([0 * z, 0 * z, z]), jnp.zeros(3), jnp.zeros(3))
        r = simulate(world, ball, duration=0.25, step=0.1)
        return states_at(r, t[None]).position[0, 2]

    # Before the impact the height moves with the start; after it by 1 less what the fall gained:
    # d/dz0 [z_t + e g t1 (t − t1) − ½ g (t − t1)²] with dt1/dz0 = 1/(g t1).
    t = jnp.asarray(0.2)
    after = 0.2 - impact
    expected = (0.9 * (after - impact) + after) / impact
    for derivative in (jax.grad, jax.jacfwd):
        slope = jax.jit(derivative(height_at))
        assert float(slope(jnp.asarray(0.88), t)) == pytest.approx(expected)
        assert float(slope(jnp.asarray(0.88), jnp.asarray(0.07))) == pytest.approx(1)


def test_csv_round_trip_and_rows_in_any_order(tmp_path, seen):
    file = tmp_path / "seen.csv"
    write(file, seen)
    head, *rows = file.read_text().splitlines()
    text = "\n".join([head, *reversed(rows)]) + "\n"
    file.write_text(text, encoding="utf-8-sig")  # with the mark that spreadsheets put in front
    again = read(file)
    order = [again.names.index(name) for name in seen.names]
    np.testing.assert_allclose(again.positions[order], seen.positions, atol=1e-5)
    np.testing.assert_allclose(again.spins[order], seen.spins, rtol=1e-5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("time,x,y,z\n0,0,0,0\n", "expected columns trajectory,time,x,y,z"),
        ("trajectory,time,x,y,z\n", "expected rows of samples, got none"),
        ("trajectory,time,x,y,z\na,0,oops,0,0\n", "line 2, x: expected a number, got 'oops'"),
        ("trajectory,time,x,y,z\na,,1,0,0\n", "line 2, time: expected a number, got ''"),
        (
            "trajectory,time,x,y,z\na,0,1,0,0\na,0,1,0,0\n",
            "lines 2 and 3: expected each time of trajectory a once, got 0 s twice",
        ),
        ("trajectory,time,x,y,z\na,0,1,0,0\na,1,,0,0\n", "at least 5 whole positions, got 1"),
    ],
)
def test_files_that_cannot_be_used(tmp_path, text, message):
    file = tmp_path / "seen.csv"
    file.write_text(text)
    with pytest.raises(ValueError, match=message):
        read(file)


def test_bad_arguments(seen):
    with pytest.raises(ValueError, match=r"names: expected each once of drag, .*got 'mass'"):
        identify(seen, WORLD, ("mass",))
    with pytest.raises(ValueError, match="got 'drag'"):
        identify(seen, WORLD, ("drag", "drag"))
    with pytest.raises(ValueError, match="noise: expected a positive number, got -1"):
        identify(seen, WORLD, noise=-1)
    with pytest.raises(ValueError, match="expected fixed surfaces, got 1 driven"):
        identify(seen, World.create([table(), paddle()]))
    with pytest.raises(ValueError, match=r"got 0\.1 s after 0\.1 s at sample 3, the first of 1"):
        Observations.create([[0, 0.1, 0.1, 0.2, 0.3]], np.zeros((1, 5, 3)))
    with pytest.raises(ValueError, match=r"positions: expected shape \(1, 5, 3\)"):
        Observations.create(np.arange(5.0)[None], np.zeros((1, 4, 3)))


def test_script_on_the_shipped_flights(tmp_path):
    run = subprocess.run(
        [sys.executable, "scripts/identify.py", "data/flights.csv", "--json", "--plot",
         str(tmp_path / "fit.png")],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    found = json.loads(run.stdout)
    truth = json.loads((ROOT / "data/flights_truth.json").read_text())
    for name, fit in found["parameters"].items():
        assert abs(fit["value"] - truth[name]) < 4 * fit["error"], (name, fit)
    assert (tmp_path / "fit.png").stat().st_size > 10_000
    bad = subprocess.run(
        [sys.executable, "scripts/identify.py", "missing.csv"],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert bad.returncode == 2
    assert bad.stderr.startswith("error: ")
