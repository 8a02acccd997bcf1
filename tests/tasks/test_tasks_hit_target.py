"""The hitting task: its serves, its loss and gradient, and what it reports."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffsim.motion import Limits
from diffsim.physics import BallState, World
from diffsim.physics.surfaces import TABLE_HEIGHT
from diffsim.tasks import HitToTarget, Serves
from diffsim.tasks.hit_target import ROBOT, SPIN
from diffsim.training import Traced

# A serve, and weights found by descent that return it to within a centimetre of the target.
SERVE = BallState(
    jnp.array([1.31112385, 0.15600822, 1.16233313]),
    jnp.array([-4.88493059, -0.88654978, 1.5010158]),
    jnp.array([6.66847003, -12.67328029, 8.10731804]),
)
ANSWER = jnp.array([
    -1.61773489, -3.19377328, -1.15522632, 1.68061435, 0.16661374, -1.93925302,
    3.57380271, -1.66729525, 0.97893058, 0.38589155, -0.68884164, 1.26342422,
    2.038222, 0.50354821, 1.52876202, -1.83167854, -0.31331696, 1.25713977,
    2.13170332, 1.5037909, 2.17517428, -2.35323645, -0.83923253, 1.4773638,
])  # fmt: skip


@pytest.fixture(scope="module")
def task():
    return HitToTarget.create()


@pytest.fixture(scope="module")
def starts(task):
    return jax.jit(jax.vmap(task.sample))(jax.random.split(jax.random.key(1), 2000))


@pytest.fixture(scope="module")
def rallies(task, starts):
    """Answers and starts, 128 of each, with their terms and measures.

    96 near the answer to one serve, 16 resting before other serves, 16 to a ball out of reach.
    """
    noise = 0.03 * jax.random.normal(jax.random.key(2), (96, 24))
    weights = jnp.concatenate([ANSWER + noise.at[0].set(0.0), jnp.zeros((32, 24))])
    far = BallState(jnp.array([1.3, 0.0, 1.1]), jnp.array([5.0, 0.0, 1.0]), jnp.zeros(3))
    parts = [
        jax.tree.map(lambda leaf: jnp.tile(leaf, (96, 1)), SERVE),
        jax.tree.map(lambda leaf: leaf[:16], starts),
        jax.tree.map(lambda leaf: jnp.tile(leaf, (16, 1)), far),
    ]
    balls = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *parts)
    terms = jax.jit(jax.vmap(task.terms))(weights, balls)
    return weights, balls, jax.device_get(terms), Traced(task).outcomes(weights, balls)


def test_serves_lie_in_their_ranges_and_bounce_where_aimed(task, starts):
    serves, position, velocity = task.serves, starts.position, starts.velocity
    assert np.all((position >= serves.start[0]) & (position <= serves.start[1]))
    speed = np.linalg.norm(velocity[:, :2], axis=1)
    assert np.all((speed >= serves.speed[0] - 1e-9) & (speed <= serves.speed[1] + 1e-9))
    # In a vacuum the ball's centre comes down to the height of a resting ball at time t.
    g, height = 9.81, TABLE_HEIGHT + task.world.ball.radius
    assert task.world.gravity.tolist() == [0, 0, -g]
    up = velocity[:, 2]
    t = (up + np.sqrt(up**2 + 2 * g * (position[:, 2] - height))) / g
    bounce = position[:, :2] + velocity[:, :2] * t[:, None]
    low, high = serves.bounce
    assert np.all((bounce >= low - 1e-9) & (bounce <= high + 1e-9))
    assert np.all(bounce[:, 0] < 0)  # the robot's half
    # They fill the box, and 6,000 normal numbers have a variance good to 2 %: four sigma.
    np.testing.assert_allclose(bounce.min(axis=0), low, atol=0.01)
    np.testing.assert_allclose(bounce.max(axis=0), high, atol=0.01)
    assert np.mean(starts.spin**2) == pytest.approx(100, rel=0.08)


def test_the_network_sees_numbers_of_order_one_and_spin_if_asked(task, starts):
    seen = jax.vmap(task.observe)(starts)
    assert np.abs(seen).max() < 4
    assert np.all((seen.std(axis=0) > 0.3) & (seen.std(axis=0) < 1.5))
    spun = starts.replace(spin=1 + 2 * starts.spin)
    assert np.array_equal(jax.vmap(task.observe)(spun), seen)
    sighted = dataclasses.replace(task, observe_spin=True)
    np.testing.assert_array_equal(
        jax.vmap(sighted.observe)(spun), jnp.concatenate([seen, spun.spin / SPIN], axis=1)
    )


def test_landing_term_is_the_landing_error_of_a_legal_return(task, rallies):
    _, _, terms, measures = rallies
    legal = measures["legal"]
    assert legal[0]
    assert legal[:96].sum() > 20
    # The step grid starts anew at the hit, so the two integrate with different steps.
    np.testing.assert_allclose(terms["landing"][legal], measures["landing_error"][legal], atol=1e-4)
    assert np.all(terms["net"][measures["hit"] & legal] < 0.1)


def test_the_swing_ends_at_home_and_its_load_is_told(task, rallies):
    """Shares of speed and acceleration by differences of positions, on a grid of its own."""
    _, _, terms, measures = rallies
    path = task.generator(ANSWER)
    times = jnp.linspace(0.0, float(path.duration) + 0.2, 3601)
    places = np.asarray(jax.jit(jax.vmap(lambda t: path(t).position))(times))
    home = np.tile(task.generator.home[:3], (2, 1))
    np.testing.assert_allclose(places[[0, -1]], home, atol=1e-12)
    step = float(times[1])
    speed = np.linalg.norm(np.diff(places, axis=0), axis=1) / step
    bend = np.linalg.norm(np.diff(places, n=2, axis=0), axis=1) / step**2
    low, high = ROBOT["box"]
    beyond = np.abs(places - np.mean([low, high], axis=0)) / (np.subtract(high, low) / 2)
    shares = [speed.max() / ROBOT["speed"], bend.max() / ROBOT["acceleration"], beyond.max()]
    assert speed[-300:].max() < 1e-9  # it stays
    # The grid of 128 times misses a peak by less than a thousandth.
    assert measures["load"][0] == pytest.approx(max(shares), rel=2e-3)
    assert terms["limits"][0] < 1e-4
    assert measures["load"][100] == pytest.approx(beyond[0].max())  # who rests is at home
    assert measures["load"].max() < 1


def test_a_robot_of_less_costs_more(task):
    slow = dataclasses.replace(task, limits=Limits.create(speed=1.0))
    both = jax.jit(lambda path: (slow.costs(path)["limits"], slow.load(path)))
    cost, share = both(task.generator(ANSWER))
    assert float(cost) > 1.0
    assert float(share) > 1.5


def test_a_serve_nobody_hits_counts_as_not_hit(rallies):
    _, _, terms, measures = rallies
    assert measures["hit"][0]
    assert not measures["hit"][112:].any()
    assert not measures["legal"][112:].any()
    assert np.isnan(measures["landing_error"][112:]).all()
    assert all(np.isfinite(term[112:]).all() for term in terms.values())
    assert np.array_equal(np.isnan(measures["landing_error"]), ~measures["legal"])
    assert np.all(measures["hit"] | ~measures["legal"])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"target": (0.9, 0.0, 0.8)}, r"target: expected shape \(2,\), got \(3,\)"),
        ({"target": (float("nan"), 0.0)}, "target: expected finite numbers"),
        ({"miss_weight": -1.0}, "miss_weight: expected in"),
        ({"net_weight": -1.0}, "net_weight: expected in"),
        ({"limit_weight": -1.0}, "limit_weight: expected in"),
        ({"world": World.create()}, "world: expected one driven surface, got 0"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_bad_settings_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        HitToTarget.create(**settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"start": (1.0, 2.0)}, r"start: expected shape \(2, 3\)"),
        ({"speed": (6.0, 5.0)}, r"speed: expected the lower end first, got \[6.0, 5.0\]"),
        ({"bounce": ((0.0, 0.0), (-1.0, 1.0))}, "bounce: expected the lower end first"),
        ({"spin": -1.0}, "spin: expected in"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_bad_serves_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        Serves.create(**settings)
