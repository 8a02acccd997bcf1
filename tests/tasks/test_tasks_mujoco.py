"""MuJoCo's flight against the law it stands for, and the arm's rally in it."""

import dataclasses
import pickle

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from diffsim.motion import DMP
from diffsim.motion.arm import arm_generator
from diffsim.physics import BallState, World, simulate
from diffsim.tasks import ArmHitsTarget, HitToTarget, mujoco_contact
from diffsim.tasks.mujoco_rally import STEP, MuJoCoRally, _scene
from diffsim.tasks.mujoco_task import MujocoHits
from diffsim.training import Settings, Trainer

pytestmark = pytest.mark.slow  # compiles or starts so much that the default run has no room


@pytest.fixture(scope="module")
def task():
    return ArmHitsTarget.create()


@pytest.fixture(scope="module")
def rally(task):
    return MuJoCoRally.create(task)


@pytest.fixture(scope="module")
def starts(task):
    return jax.device_get(jax.vmap(task.sample)(jax.random.split(jax.random.key(3), 8)))


def row(tree, i):
    return jax.tree.map(lambda leaf: leaf[i], tree)


@pytest.mark.parametrize("spin", [(0.0, 0.0, 0.0), (0.0, 200.0, -100.0)], ids=["drag", "and spin"])
def test_flight_is_that_of_the_event_driven_world(rally, spin):
    start = BallState.create((1.2, 0.0, 2.0), (-6.0, 1.0, 2.0), spin)
    time = 0.4
    wanted = simulate(World.create([]), start, duration=time).final
    scene = _scene(rally.numbers, False, False)
    model, data = scene.model, scene.data
    mujoco.mj_resetData(model, data)
    data.qpos[:3], data.qvel[:3], data.qvel[3:] = start.position, start.velocity, start.spin
    model.opt.timestep = STEP
    for _ in range(round(time / STEP)):
        mujoco.mj_step(model, data)
    # The first-order integrator falls g h t/2 = 4 mm too far; spin moves the ball by 0.5 m.
    np.testing.assert_allclose(data.qpos[:3], wanted.position, atol=6e-3)
    np.testing.assert_allclose(data.qvel[:3], wanted.velocity, atol=0.02)


def test_the_servos_follow_the_trajectory(task, rally, starts):
    """The joints are where they are asked to be, and the paddle where the path puts it."""
    weights = 0.3 * np.ones(task.weight_count)
    rally._swing(weights, row(starts, 0), True)
    data = _scene(rally.numbers, True, True).data
    index = min(round(data.time / STEP), len(rally.place) - 1)
    asked = rally.place[index] @ np.r_[1.0, weights]
    assert np.abs(asked - rally.place[0, :, 0]).max() > 0.1  # it has moved
    np.testing.assert_allclose(data.qpos[7:], asked, atol=0.02)
    pose = task.generator(jnp.asarray(weights))(float(data.time))
    np.testing.assert_allclose(data.site_xpos[0], pose.position, atol=0.02)


def test_a_rally_is_repeatable_and_can_be_sent_to_a_worker(task, rally, starts):
    weights = 0.05 * np.arange(task.weight_count) / task.weight_count
    sent = pickle.loads(pickle.dumps(rally))
    first = [rally(weights, row(starts, i), real) for i in range(3) for real in (False, True)]
    again = [sent(weights, row(starts, i), real) for i in range(3) for real in (False, True)]
    np.testing.assert_equal(first, again)
    for terms, measures in zip(first[::2], first[1::2], strict=True):
        assert all(np.isfinite(terms[name]) for name in ("landing", "miss", "net", "torque"))
        assert all(np.isnan(terms[name]) for name in ("hit", "legal"))
        assert measures["hit"] in (0, 1)
        assert np.isnan(measures["landing_error"]) == (not measures["legal"])


def test_joints_asked_beyond_their_limits_cost(task, rally, starts):
    wild = rally.terms(5 * np.ones(task.weight_count), row(starts, 0))
    assert wild["limits"] > 1
    assert np.isfinite(list(wild.values())).all()


def test_what_mujoco_cannot_carry_over_is_named(task):
    with pytest.raises(ValueError, match="generator: expected one of an arm"):
        MuJoCoRally.create(HitToTarget.create())
    bent = arm_generator(DMP, duration_scale=0.5)
    with pytest.raises(ValueError, match="generator: expected joint angles affine"):
        MuJoCoRally.create(dataclasses.replace(task, generator=bent))
    surfaces = tuple(s.replace(restitution_slope=jnp.asarray(0.02)) for s in task.world.surfaces)
    world = dataclasses.replace(task.world, surfaces=surfaces)
    with pytest.raises(ValueError, match="restitution_slope: expected 0 in MuJoCo"):
        MuJoCoRally.create(dataclasses.replace(task, world=world))
    with pytest.raises(ValueError, match=r"restitution: expected in \(0, 1\], got 0"):
        mujoco_contact.solref(0.0)


def test_the_trainer_takes_a_step_through_it(tmp_path):
    settings = Settings(
        simulator="mujoco", gradient="spsa", batch=2, steps=1, workers=0, hidden=(4,), out=tmp_path
    )
    assert settings.method().step == 0.05
    trainer = Trainer(settings.player(), settings)
    assert isinstance(trainer.player.task, MujocoHits)
    assert trainer.evaluations_per_step() == 2 * 5  # two pairs a serve, and the serve itself
    before = trainer.state
    value, size = trainer.update()
    assert np.isfinite(value)
    assert size > 0
    moved = jax.tree.map(lambda a, b: jnp.abs(a - b).max(), before.params, trainer.state.params)
    assert max(jax.tree.leaves(moved)) > 0
    measures = trainer.evaluate(jax.random.key(0), 3)
    assert 0 <= measures["hit_rate"].value <= 1


@pytest.mark.slow
def test_training_through_mujoco_learns_to_hit(tmp_path):
    settings = dataclasses.replace(
        Settings.defaults(["--simulator", "mujoco"]), steps=200, workers=2, out=tmp_path
    )
    trainer = Trainer(settings.player(), settings)
    before = trainer.measure()
    for _ in range(settings.steps):
        trainer.update()
    after = trainer.measure()
    assert before["legal_rate"] == 0
    assert after["loss"] < before["loss"] / 5
    assert after["legal_rate"] > 0.2
