"""The arm against MuJoCo's C engine, its derivatives, and what is refused."""

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from diffsim.motion import GENERATORS, BSpline, Polynomial
from diffsim.motion.arm import (
    HOME,
    JOINT_SPEED,
    SCENE,
    Arm,
    ArmGenerator,
    arm_generator,
    joint_costs,
    joint_load,
)

# A chain with a fixed body below its first hinge and one after its last.
FIXED = """
<mujoco><option gravity="1 2 -9"/><worldbody><body pos="1 2 3" quat="1 1 0 0">
  <geom size="0.1"/>
  <body pos="0.3 0 0.1" quat="1 0 1 0"><joint axis="0 0 1" armature="0.2" damping="0.3"/>
    <geom type="box" size="0.1 0.2 0.3" pos="0.1 0.2 0.3" euler="10 20 30"/>
    <body pos="0 0.4 0" quat="1 0 0 1"><joint axis="0 0 1"/><geom size="0.1" pos="0.2 0 0"/>
      <body pos="0 0.1 0.2" quat="1 0 1 0"><geom type="box" size="0.1 0.1 0.2" pos="0 0.2 0"/>
        <body pos="0.1 0 0" quat="0 1 0 1"><geom size="0.05" pos="0.1 0 0"/>
          <site name="paddle" pos="0.1 0.1 0" quat="1 1 0 0"/>
</body></body></body></body></body></worldbody></mujoco>
"""


@pytest.fixture(scope="module")
def swing():
    return arm_generator(Polynomial)


@pytest.fixture(scope="module")
def weights(swing):
    return 0.2 * jax.random.normal(jax.random.key(0), (swing.weight_count,))


def reference(file, place, rate, bend):
    """The paddle's pose and velocities, and the joints' torques, by MuJoCo in C."""
    model = mujoco.MjModel.from_xml_path(str(file))
    model.opt.density = 0
    data = mujoco.MjData(model)
    count = len(place)
    data.qpos[-count:], data.qvel[-count:], data.qacc[-count:] = place, rate, bend
    mujoco.mj_inverse(model, data)
    site = model.site("paddle").id
    motion = np.zeros(6)
    mujoco.mj_objectVelocity(model, data, mujoco.mjtObj.mjOBJ_SITE, site, motion, 0)
    pose = data.site_xpos[site], data.site_xmat[site].reshape(3, 3), motion[3:], motion[:3]
    return pose, data.qfrc_inverse[-count:]


@pytest.mark.parametrize("fixed", [False, True], ids=["shipped", "fixed bodies"])
def test_kinematics_and_inverse_dynamics_are_those_of_mujoco(dtype, tmp_path, fixed):
    file = SCENE
    if fixed:
        file = tmp_path / "chain.xml"
        file.write_text(FIXED)
    arm = jax.tree.map(lambda leaf: leaf.astype(dtype), Arm.load(file))
    pose, torques = jax.jit(arm.pose), jax.jit(arm.torques)
    random = np.random.default_rng(0)
    close = {"rtol": 1e-11, "atol": 1e-12} if dtype == jnp.float64 else {"rtol": 1e-4, "atol": 1e-4}
    for _ in range(5):
        # Within the joints' limits: beyond them MuJoCo's limits push back.
        place, rate, bend = random.uniform(
            [[-0.8], [-5], [-30]], [[0.8], [5], [30]], (3, len(arm.mass))
        )
        place = np.asarray(place, dtype).astype(float)
        wanted, load = reference(file, place, rate, bend)
        got = pose(jnp.asarray(place, dtype), jnp.asarray(rate, dtype))
        for a, b in zip(jax.tree.leaves(got), wanted, strict=True):
            np.testing.assert_allclose(a, b, **close)
        got = torques(*(jnp.asarray(x, dtype) for x in (place, rate, bend)))
        assert got.dtype == dtype
        size = np.abs(load).max()
        np.testing.assert_allclose(np.asarray(got) / size, load / size, **close)


def test_velocities_of_a_path_are_the_derivatives_of_its_pose(swing, weights):
    path, time = swing(weights), jnp.asarray(0.4)
    pose, change = jax.jvp(path, (time,), (jnp.ones(()),))
    np.testing.assert_allclose(pose.velocity, change.position, rtol=1e-12)
    x, y, z = pose.angular_velocity
    turning = jnp.array([[0, -z, y], [z, 0, -x], [-y, x, 0]]) @ pose.rotation
    np.testing.assert_allclose(turning, change.rotation, atol=1e-12)
    _, acceleration = path.rates(time)
    np.testing.assert_allclose(change.velocity, acceleration.velocity, rtol=1e-12)
    np.testing.assert_allclose(path(0.0).velocity, 0, atol=1e-15)  # it starts at rest, at home
    np.testing.assert_allclose(swing(0 * weights)(1.0).position, [-1.6, 0, 0.98], atol=1e-3)


def test_the_skeleton_ends_in_the_paddle_and_keeps_its_lengths(swing, weights):
    path = swing(weights)
    bones = [np.diff(path.skeleton(time), axis=0) for time in (0.1, 0.6)]
    np.testing.assert_allclose(path.skeleton(0.6)[-1], path(0.6).position, atol=1e-6)
    lengths = [np.linalg.norm(one, axis=1) for one in bones]
    np.testing.assert_allclose(*lengths, atol=1e-6)  # float32
    assert np.abs(bones[0] - bones[1]).max() > 1e-3  # it moves


def test_derivatives_in_the_weights_agree(swing, weights):
    """Of a number made of everything: forward, reverse, differences."""

    def number(w):
        path = swing(w)
        pose = path(jnp.asarray(0.3))
        return pose.position @ pose.velocity + pose.rotation[2, 1] + sum(joint_costs(path).values())

    way = jax.random.normal(jax.random.key(1), weights.shape)
    along = jax.jit(lambda w, d: jax.jvp(number, (w,), (d,)))
    forward = along(weights, way)[1]
    reverse = jax.jit(jax.grad(number))(weights) @ way
    step = 1e-5
    up, down = (along(weights + sign * step * way, way)[0] for sign in (1, -1))
    between = (up - down) / (2 * step)
    np.testing.assert_allclose(forward, reverse, rtol=1e-10)
    np.testing.assert_allclose(forward, between, rtol=1e-7)


def test_costs_see_the_limits(swing, weights):
    costs = jax.jit(lambda w: joint_costs(swing(w)))
    slope = jax.jit(jax.grad(lambda w: sum(joint_costs(swing(w)).values())))
    calm, wild = costs(0 * weights), costs(40 * jnp.ones_like(weights))
    assert calm["limits"] == 0
    assert wild["limits"] > 1
    # At rest the motors hold the arm up: the mean is that of MuJoCo's torques there.
    load = reference(SCENE, np.array(HOME), np.zeros(7), np.zeros(7))[1]
    expected = np.mean((load / np.asarray(swing.arm.torque_limit)) ** 2)
    np.testing.assert_allclose(calm["torque"], expected, rtol=1e-10)
    for size in (0.0, 1.0, 40.0):
        assert np.isfinite(slope(size * weights)).all()


def test_the_load_is_the_largest_share_of_a_limit():
    """Of a swing that comes home; and how near the paddle may come to the table."""
    swing = arm_generator(BSpline, control_points=4, degree=7, returns=True)
    load = jax.jit(lambda joints, w: joint_load(ArmGenerator(joints, swing.arm)(w)))
    rest = jnp.zeros(swing.weight_count)
    assert 0 < load(swing.joints, rest) < 1
    # The wrist's last joint alone, which asks for little torque: the Bézier curve of equal points.
    fast = rest.at[6::7].set(9.0)
    rates = jax.vmap(lambda t: swing(fast).motion(t)[1])(jnp.linspace(0.0, 1.1, 500))
    # Of 64 times none need be that of the peak.
    np.testing.assert_allclose(
        load(swing.joints, fast), np.abs(rates).max() / JOINT_SPEED, rtol=1e-2
    )
    pose = jax.jit(lambda q: swing.arm.pose(q, jnp.zeros(7)).position)
    slope = jax.jit(jax.jacfwd(pose))
    for height, near in ((0.10, False), (0.06, True)):
        goal, q = jnp.array([-1.28, 0.0, 0.76 + height]), jnp.array(HOME)
        for _ in range(30):
            q += jnp.linalg.pinv(slope(q)) @ (goal - pose(q))
        np.testing.assert_allclose(pose(q), goal, atol=1e-6)
        assert (load(swing.joints.replace(home=q), rest) > 1) == near
    unended = Polynomial.create(degree=1, at_rest=False, axes=7, home=HOME, scale=[1.0] * 7)
    assert np.isinf(joint_load(ArmGenerator(unended, swing.arm)(jnp.ones(7))))


@pytest.mark.parametrize("name", GENERATORS)
def test_generators_take_any_number_of_coordinates(name):
    """A seventh coordinate leaves the other six as they are."""
    kind = GENERATORS[name]
    home, scale = jnp.linspace(0.1, 0.7, 7), jnp.linspace(0.2, 0.5, 7)
    seven = kind.create(home=home, scale=scale, axes=7)
    six = kind.create(home=home[:6], scale=scale[:6])
    rows = jax.random.normal(jax.random.key(0), (seven.weight_count // 7, 7))
    assert six.weight_count == 6 * len(rows)
    assert seven.weight_count == rows.size

    @jax.jit
    def both(rows):
        places = (g(r.ravel()).coordinates(0.31) for g, r in ((seven, rows), (six, rows[:, :6])))
        return tuple(places)

    got, wanted = both(rows)
    assert got.shape == (7,)
    np.testing.assert_allclose(got[:6], wanted, rtol=1e-12)
    with pytest.raises(ValueError, match=r"coordinates: expected shape \(6,\) for a pose, got"):
        seven(rows.ravel())(0.5)


def test_what_does_not_fit_is_named(tmp_path, swing):
    with pytest.raises(ValueError, match="joints: expected 7 coordinates, got 6"):
        ArmGenerator.create(Polynomial.create(), swing.arm)
    far = Polynomial.create(axes=7, home=[3.0] * 7, scale=[1.0] * 7)
    with pytest.raises(ValueError, match="joints: expected a home within"):
        ArmGenerator.create(far, swing.arm)
    with pytest.raises(ValueError, match="site: expected one of the file, got 'hand'"):
        Arm.load(site="hand")
    with pytest.raises(ValueError, match="file: expected an MJCF file, got"):
        Arm.load(tmp_path / "none.xml")
    for change, message in (
        ('axis="0 1 0"', "expected one hinge about z"),
        ('axis="0 0 1" type="slide"', "expected one hinge about z"),
    ):
        file = tmp_path / f"{len(change)}.xml"
        file.write_text(FIXED.replace('axis="0 0 1"', change))
        with pytest.raises(ValueError, match=message):
            Arm.load(file)
    loose = tmp_path / "loose.xml"
    loose.write_text('<mujoco><worldbody><site name="paddle"/></worldbody></mujoco>')
    with pytest.raises(ValueError, match="site: expected one carried by a hinge"):
        Arm.load(loose)
