"""What is drawn with a serve: worlds, views and targets; and the fastest return."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffsim.delay.radar import Radar
from diffsim.physics import BallState
from diffsim.tasks import HitToTarget
from diffsim.tasks.radar_view import RadarView
from diffsim.tasks.randomise import SHIFTS, USUAL, Randomisation, shifts
from diffsim.training import Settings


def drawn(task, count=2000):
    return jax.jit(jax.vmap(task.sample))(jax.random.split(jax.random.key(3), count))


@pytest.fixture(scope="module")
def plain():
    return HitToTarget.create()


@pytest.fixture(scope="module")
def random(plain):
    return dataclasses.replace(plain, randomisation=Randomisation.create(**USUAL))


def test_worlds_are_drawn_between_their_ends(plain, random):
    worlds = drawn(random).world
    for i, surface in enumerate(plain.world.surfaces):
        for name in ("restitution", "friction"):
            factor = getattr(worlds.surfaces[i], name) / getattr(surface, name)
            np.testing.assert_allclose([factor.min(), factor.max()], USUAL[name], atol=5e-3)
    drag = worlds.ball.drag_coefficient / plain.world.ball.drag_coefficient
    np.testing.assert_allclose([drag.min(), drag.max()], USUAL["drag"], atol=5e-3)
    table, net = (worlds.surfaces[i].restitution for i in (0, 1))
    assert abs(np.corrcoef(table, net)[0, 1]) < 0.1  # 4.5 sigma


def test_what_is_seen_is_late_and_noisy(plain):
    late = dataclasses.replace(plain, randomisation=Randomisation.create(latency=(0.02, 0.02)))
    serve = drawn(late)
    g, age = np.array([0, 0, -9.81]), 0.02
    # In a vacuum the ball seen would fly on to where the ball is.
    np.testing.assert_allclose(serve.seen.velocity + age * g, serve.velocity, atol=1e-12)
    there = serve.seen.position + age * serve.seen.velocity + age**2 / 2 * g
    np.testing.assert_allclose(there, serve.position, atol=1e-12)
    noisy = Randomisation.create(position_noise=0.005, velocity_noise=0.05)
    serve = drawn(dataclasses.replace(plain, randomisation=noisy))
    for name, deviation in (("position", 0.005), ("velocity", 0.05)):
        noise = np.asarray(getattr(serve.seen, name) - getattr(serve, name))
        assert noise.std() == pytest.approx(deviation, rel=0.04)  # 6,000 numbers: 4.4 sigma
    seen = jax.vmap(late.observe)(serve)
    ball = BallState(serve.seen.position, serve.seen.velocity, serve.seen.spin)
    np.testing.assert_array_equal(seen, jax.vmap(plain.observe)(ball))


def test_the_ball_is_the_same_whatever_else_is_drawn(plain, random):
    alone, with_world = drawn(plain, 8), drawn(random, 8)
    for name in ("position", "velocity", "spin"):
        np.testing.assert_array_equal(getattr(alone, name), getattr(with_world, name))


def test_targets_fill_their_box_and_are_seen():
    box = np.array([[0.3, -0.5], [1.2, 0.5]])
    task = HitToTarget.create(targets=box)
    serves = drawn(task)
    np.testing.assert_allclose(
        [serves.target.min(axis=0), serves.target.max(axis=0)], box, atol=0.01
    )
    seen = jax.vmap(task.observe)(serves)
    assert seen.shape == (2000, 8)
    np.testing.assert_allclose(box.mean(axis=0) + seen[:, 6:] * np.ptp(box, axis=0), serves.target)
    one = jax.tree.map(lambda leaf: leaf[0], serves)
    assert np.array_equal(task.of(one).target, one.target)


def test_without_spread_nothing_differs(plain):
    still = dataclasses.replace(plain, randomisation=Randomisation.create())
    serve = still.sample(jax.random.key(0))
    for given, own in zip(jax.tree.leaves(still.of(serve).world), jax.tree.leaves(plain.world)):
        np.testing.assert_array_equal(given, own)
    np.testing.assert_array_equal(
        still.observe(serve), plain.observe(plain.sample(jax.random.key(0)))
    )
    assert list(shifts(plain)) == list(SHIFTS)


@pytest.mark.slow
def test_the_world_drawn_is_the_world_played(plain):
    """A dead paddle returns nothing, a shift of the target moves the error by as much."""
    ball = plain.sample(jax.random.key(0))
    weights = jnp.zeros(plain.weight_count)
    dead = dataclasses.replace(plain, randomisation=Randomisation.create(restitution=(0.0, 0.0)))
    rollouts = [
        jax.jit(task.play)(weights, task.sample(jax.random.key(0))) for task in (plain, dead)
    ]
    bounce = [r.impacts.after.velocity[0, 2] for r in rollouts]
    assert bounce[0] > 0.5
    assert abs(bounce[1]) < 1e-6
    assert np.array_equal(rollouts[0].states.position[0], ball.position)


@pytest.mark.slow
def test_the_fastest_return_counts_time_and_no_place_well_on_the_half():
    task = Settings(objective="fastest").task()
    terms = jax.jit(task.terms)(jnp.zeros(24), task.sample(jax.random.key(0)))
    assert set(terms) >= {"landing", "hurry"}
    assert 0 < terms["hurry"] / 0.5 < 2.4


@pytest.mark.slow
def test_a_radar_sees_the_ball_but_for_its_noise(plain):
    """The better it hears, the nearer to the ball is what it finds, by as much."""
    balls, keys = drawn(plain, 64), jax.random.split(jax.random.key(4), 64)
    found = {}
    for noise in (0.002, 0.02):
        view = RadarView.create(radar=Radar.create(noise=noise))
        task = dataclasses.replace(plain, randomisation=Randomisation.create(radar=view))
        seen = jax.jit(jax.vmap(task.randomisation.view, (0, 0, None)))(keys, balls, None)
        assert not seen.spin.any()
        off = np.asarray(seen.position - balls.position)
        found[noise] = np.sqrt(np.mean(np.sum(off**2, axis=1)))
        with pytest.raises(ValueError, match="shifted: expected a network that sees the ball"):
            shifts(task)
    assert 0.001 < found[0.02] < 0.05
    assert found[0.02] / found[0.002] == pytest.approx(10, rel=0.5)


def test_what_does_not_go_together_is_refused():
    with pytest.raises(ValueError, match="drag: expected the lower end first"):
        Randomisation.create(drag=(1.2, 0.8))
    with pytest.raises(ValueError, match="latency: expected in"):
        Randomisation.create(latency=(-0.1, 0.0))
    with pytest.raises(ValueError, match="objective: expected target where any is drawn"):
        Settings(any_target=True, objective="fastest")
    with pytest.raises(ValueError, match="simulator: expected events"):
        Settings(simulator="mujoco", gradient="spsa", randomise=True)
    with pytest.raises(ValueError, match="simulator: expected events"):
        Settings(simulator="mujoco", gradient="spsa", radar=True)
    with pytest.raises(ValueError, match="observe_spin: expected off with a radar"):
        Settings(radar=True, observe_spin=True)
    with pytest.raises(ValueError, match="floor: expected >= 0, got -1"):
        Settings(floor=-1)
    with pytest.raises(ValueError, match="objective: expected one of target, fastest, got 'x'"):
        Settings(objective="x")
