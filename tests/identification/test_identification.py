"""Identification against made flights whose constants are known."""

import json
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffsim.identification import Observations, identify, parameter_names, read, report, write
from diffsim.identification.fit import get, put
from diffsim.identification.made import made
from diffsim.physics import BallState, Paddle, World, floor, simulate, table
from diffsim.physics.interpolate import states_at

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
    np.testing.assert_allclose(
        [float(get(found.world, name)) for name in NAMES], found.values, rtol=1e-6
    )


def test_covariance_is_that_of_the_whole_jacobian(seen, found):
    """The starts projected out flight by flight, against the inverse of the whole information."""
    from diffsim.identification.problem import Problem

    problem = Problem.create(
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


def test_without_measured_spins():
    """Lift given, the rest is found from positions alone."""
    names, seen = NAMES[:1] + NAMES[2:], made(TRUE_WORLD, seed=3, flights=8, spin_noise=None)
    world = put(WORLD, ["magnus"], [jnp.asarray(TRUTH[1])])
    found = identify(seen, world, names)
    z = (found.values - TRUTH[[0, 2, 3]]) / found.errors
    assert np.abs(z).max() < 4, z


@pytest.mark.slow
def test_what_is_never_met_is_not_determined(seen):
    found = identify(seen, WORLD, ("drag", "net.friction"))
    assert np.isinf(found.errors[1])
    assert np.isfinite(found.errors[0])
    assert "not determined" in report.table(found)


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
    file.write_text("\n".join([head, *reversed(rows)]) + "\n")
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
        ("trajectory,time,x,y,z\na,0,1,0,0\na,0,1,0,0\n", "trajectory a: expected ascending"),
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
        identify(seen, World.create([table(), Paddle()]))
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
