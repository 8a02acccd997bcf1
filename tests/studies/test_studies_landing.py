"""The learned map from trajectory weights to landing points, inverted, in a short form."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffsim.physics import BallState, Status
from diffsim.tasks import HitToTarget
from studies import landing


def played(*impacts):
    """A task whose rollouts have these impacts, (surface, x, y), and room for five."""
    table, net, paddle = (SimpleNamespace(name=n, driven=n == "p") for n in ("table", "net", "p"))
    names = {"table": 0, "net": 1, "paddle": 2}
    rows = [*impacts, *[("table", 1.0, 1.0)] * (5 - len(impacts))]
    positions = jnp.array([[x, y, 0.78] for _, x, y in rows])
    found = SimpleNamespace(
        valid=jnp.arange(5) < len(impacts),
        surface=jnp.array([names[name] for name, _, _ in rows]),
        before=BallState(positions, positions, positions),
        time=jnp.linspace(0.0, 0.4, 5),
    )
    end = BallState(*[positions[-1]] * 3)
    rollout = SimpleNamespace(impacts=found, final=end, status=Status.OK)
    task = SimpleNamespace(
        step=0.05,
        target=jnp.array([0.9, 0.0]),
        world=SimpleNamespace(surfaces=(table, net, paddle)),
        play=lambda weights, serve, step: rollout,
        generator=lambda weights: None,
        load=lambda path: jnp.asarray(0.5),
    )
    task.of = lambda serve: task
    task.measures = lambda weights, serve: HitToTarget.measures(task, weights, serve)
    return task


SERVED, HIT = ("table", -0.6, 0.1), ("paddle", -1.2, 0.2)


@pytest.mark.parametrize(
    ("impacts", "expected"),
    [
        ([SERVED, HIT, ("table", 0.9, -0.3)], [0.9, -0.3]),
        ([HIT, ("table", 0.4, 0.5), ("table", 1.1, 0.6)], [0.4, 0.5]),
        ([SERVED, HIT, ("table", -0.2, 0.0)], None),  # its own side
        ([SERVED, HIT, ("net", 0.0, 0.0), ("table", 0.3, 0.0)], None),
        ([SERVED, HIT], None),
        ([SERVED, ("table", 0.5, 0.0)], None),
        ([], None),
    ],
)
def test_landing_is_the_first_impact_after_the_paddle_if_that_is_legal(impacts, expected):
    point = landing.landing(played(*impacts), None, BallState(*jnp.zeros((3, 3))))
    np.testing.assert_array_equal(point, [np.nan] * 2 if expected is None else expected)


def test_a_paddle_at_rest_returns_nothing():
    task = HitToTarget.create()
    serve = task.sample(jax.random.key(0))
    rest = jnp.zeros(task.weight_count)
    point = jax.jit(lambda w: landing.landing(task, w, serve))(rest)
    assert np.isnan(point).tolist() == [True, True]


@pytest.mark.slow
def test_inverted_model_hits_within_two_centimetres():
    """The whole comparison, smaller: nearer than the start by ten times, and mostly legal."""
    found = landing.compare(landing.LandingSettings(targets=30, samples=8000, steps=4000))
    fine = np.isfinite(found["inverted"])
    assert fine.mean() > 0.6
    assert np.mean(found["inverted"][fine]) < min(0.02, 0.1 * np.mean(found["start"]))
    good = np.isfinite(found["again"])
    assert good.mean() > 0.9
    assert np.mean(found["aimed"][good]) < 0.5 * np.mean(found["nearest"])
    assert np.median(found["again"][good]) < 0.5 * np.median(found["aimed"][good])
    assert np.all(np.isfinite(found["optimised"]))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"samples": 0}, "samples: expected at least 1, got 0"),
        ({"descent": 0}, "descent: expected at least 1, got 0"),
        ({"hidden": ()}, r"hidden: expected widths of at least 1, got \(\)"),
        ({"hidden": (8, 0)}, r"hidden: expected widths of at least 1, got \(8, 0\)"),
        ({"spread": 0.0}, "spread: expected in"),
        ({"box": ((0.5, 0.4), (1.1, -0.4))}, "box: expected the lower end first"),
    ],
)
def test_settings_that_cannot_be(changes, message):
    with pytest.raises(ValueError, match=message):
        landing.LandingSettings(**changes)


def test_the_table_is_in_centimetres_over_legal_landings():
    errors = np.array([0.01, 0.03, np.nan, 0.02])
    ways = ("start", "nearest", "inverted", "aimed", "again", "optimised")
    found = {"legal": 7, "model": np.array([0.01, 0.03]), "status": np.array([0, 0, 1])}
    shown = landing.rows(landing.LandingSettings(), found | dict.fromkeys(ways, errors))
    assert shown[0].startswith("forward model from 7 legal returns; held-out error 2.00 cm")
    assert shown[0].endswith("for 2 targets")
    half = 1.959964 / np.sqrt(3)
    assert f"2.000 ± {half:.3f}   2.000   3.000      3 of    4   0" in shown[2]
    assert shown[-1].endswith("100 with derivative")
    nothing = landing.rows(
        landing.LandingSettings(), found | dict.fromkeys(ways, np.full(4, np.nan))
    )
    assert " none      0 of    4 " in nothing[2]
