"""The arm's hitting task: its terms, its gradient through arm, flight and impacts, its settings."""

import dataclasses

import jax
import numpy as np
import pytest

from diffsim.motion.arm import ArmPath
from diffsim.tasks import ArmHitsTarget, HitToTarget
from diffsim.training import Settings, Trainer

pytestmark = pytest.mark.slow  # compiles or starts so much that the default run has no room


@pytest.fixture(scope="module")
def task():
    return ArmHitsTarget.create()


@pytest.fixture(scope="module")
def case(task):
    """Weights and a serve that the paddle meets."""
    start = task.sample(jax.random.key(5))
    return 0.2 * jax.random.normal(jax.random.key(2), (task.weight_count,)), start


@pytest.fixture(scope="module")
def slope(task):
    return jax.jit(jax.value_and_grad(task.loss))


@pytest.mark.slow
def test_forward_mode_agrees_with_reverse_mode(task, case, slope):
    weights, start = case
    forward = jax.jit(lambda w, s, d: jax.jvp(lambda w: task.loss(w, s), (w,), (d,))[1])
    for key in jax.random.split(jax.random.key(0), 3):
        way = jax.random.normal(key, weights.shape)
        reverse = slope(weights, start)[1] @ way
        np.testing.assert_allclose(forward(weights, start, way), reverse, rtol=1e-9)


def test_the_motion_costs_torques_and_limits(task, case):
    weights, start = case
    names = jax.eval_shape(task.terms, weights, start)
    assert set(names) == {"landing", "miss", "net", "torque", "limits"}
    path = task.generator(weights)
    assert isinstance(path, ArmPath)
    cost = task.costs(path)
    double = dataclasses.replace(task, torque_weight=2 * task.torque_weight)
    np.testing.assert_allclose(double.costs(path)["torque"], 2 * cost["torque"], rtol=1e-12)
    with pytest.raises(ValueError, match="torque_weight: expected in"):
        ArmHitsTarget.create(torque_weight=-1.0)


def test_settings_choose_what_hits_and_where():
    assert type(Settings().task()) is HitToTarget
    arm = Settings(robot="arm", spin=3.0, generator="minimum-jerk").task()
    assert isinstance(arm, ArmHitsTarget)
    assert float(arm.serves.spin) == 3.0
    assert arm.weight_count == 21
    with pytest.raises(ValueError, match="task: expected one of paddle, arm, got 'leg'"):
        Settings(robot="leg")
    with pytest.raises(ValueError, match="simulator: expected one of events, mujoco, got 'x'"):
        Settings(simulator="x")
    assert Settings.defaults(["--out", "arm"]) == Settings()
    assert Settings.defaults(["--task=arm"]).robot == "arm"
    assert Settings.defaults(["--simulator", "mujoco"]).simulator == "mujoco"


@pytest.mark.slow
def test_training_the_arm_learns_to_hit(tmp_path):
    settings = Settings(robot="arm", steps=300, out=tmp_path)
    trainer = Trainer(settings.player(), settings)
    assert trainer.measure()["legal_rate"] == 0
    for _ in range(settings.steps):
        trainer.update()
    after = trainer.measure()
    assert after["legal_rate"] > 0.5
    assert after["landing_error_cm"] < 20
