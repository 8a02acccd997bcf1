"""The force laws of the air against NumPy, and every constant of the presets against its source."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffsim.physics import (
    Air,
    Ball,
    BallState,
    Compliant,
    Impulse,
    Status,
    World,
    presets,
    simulate,
)
from diffsim.physics.flight import SpinRatioLift
from diffsim.physics.vector import Vector


def lift(velocity, spin):
    """The acceleration without drag, (3,)."""
    ball = Ball.create(drag_coefficient=0.0)
    force = SpinRatioLift()(
        ball, Air.create(1.2), *map(Vector.of, map(jnp.array, (velocity, spin)))
    )
    return np.array(force.array)


@pytest.mark.parametrize("spin", [30.0, 300.0, 3000.0])
def test_lift_is_stepaneks_fit_for_tennis_balls(spin):
    """C_L = 1/(2.022 + 0.981 v/(r w))."""
    speed, area = 15.0, math.pi * 0.02**2
    ratio = 0.02 * spin / speed
    size = 0.5 * 1.2 * area * speed**2 / (2.022 + 0.981 / ratio) / 2.7e-3
    # Topspin about y: w × v for v along x is along −z.
    np.testing.assert_allclose(lift([speed, 0.0, 0.0], [0.0, spin, 0.0]), [0, 0, -size], rtol=1e-12)


def test_lift_ends_at_its_largest_and_begins_with_its_slope():
    full = 0.5 * 1.2 * math.pi * 0.02**2 * 100.0 / 2.7e-3
    most = np.linalg.norm(lift([10.0, 0.0, 0.0], [0.0, 0.0, 1e9]))
    assert most / full == pytest.approx(1 / 2.022, rel=1e-5)
    least = np.linalg.norm(lift([10.0, 0.0, 0.0], [0.0, 0.0, 1e-3]))
    assert least / full / (0.02 * 1e-3 / 10) == pytest.approx(1 / 0.981, rel=1e-5)


def test_no_lift_at_rest_without_spin_or_along_the_spin():
    for velocity, spin in (([0, 0, 0], [0, 0, 9]), ([9, 0, 0], [0, 0, 0]), ([0, 0, 0], [0, 0, 0]),
                           ([0, 0, 9], [0, 0, 9])):  # fmt: skip
        assert lift(np.array(velocity, float), np.array(spin, float)).tolist() == [0, 0, 0]


def test_drag_beside_the_lift_is_the_balls_own():
    v, still = Vector(3.0, 4.0, 0.0), Vector(0.0, 0.0, 0.0)
    drag = SpinRatioLift()(Ball.create(drag_coefficient=0.5), Air.create(1.2), v, still).array
    size = 0.5 * 1.2 * math.pi * 0.02**2 * 0.5 / 2.7e-3 * 5
    np.testing.assert_allclose(drag, [-3 * size, -4 * size, 0], rtol=1e-12)


@pytest.mark.parametrize("contact", [Impulse(), Compliant.create(1e4)])
def test_drag_alone_is_a_logarithm_where_there_is_nothing_to_meet(contact):
    """dv/dt = −k v²: x = ln(1 + k v₀ t)/k, with its derivatives in v₀, forward and reverse."""
    world = World.create([], gravity=(0.0, 0.0, 0.0))
    ball, times = world.ball, np.linspace(0.0, 0.5, 11)
    k = 0.5 * 1.204 * 0.4 * math.pi * 0.02**2 / 2.7e-3
    assert float(ball.drag_coefficient) == 0.4

    def fly(speed):
        start = BallState.create([0.0, 0.0, 0.0], jnp.stack([speed, 0.0, 0.0]))
        return simulate(world, start, duration=0.5, step=0.05, contact=contact)

    def place(speed):
        return fly(speed).states.position[:, 0]

    slowed, v = 1 + k * 5.0 * times, jnp.asarray(5.0)
    np.testing.assert_allclose(place(v), np.log(slowed) / k, atol=1e-7)
    np.testing.assert_allclose(jax.jacrev(place)(v), times / slowed, atol=1e-6)
    bend = jax.jacfwd(jax.jacfwd(place))(v)
    np.testing.assert_allclose(bend, -k * times**2 / slowed**2, atol=1e-6)
    ends = jax.vmap(fly)(jnp.array([5.0, 500.0, jnp.nan]))
    assert ends.status.tolist() == [Status.OK, Status.TOO_FAST, Status.NOT_FINITE]
    assert not ends.impacts.valid.any()
    assert ends.final.position[1, 0] == 0.0


# C_D, air density, kg/m³; table e, its fall with speed, s/m, and μ; paddle radius, m, e and μ.
SOURCES = {
    "ittf": (0.4, 1.204, 0.9020, 0.0, 0.25, 0.08, 0.78, 0.4),
    "robot-table-tennis": (0.472, 1.225, 0.974, 0.0, 0.1, 0.08, 0.78, 0.4),
    "ace": (0.55, 1.204, 0.98, 0.02, 0.25, 0.08, 0.78, 0.4),
    "koc": (0.5047, 1.204, 0.88, 0.0, 0.25, 0.076, 0.78, 0.4),
    "nakashima": (0.4, 1.204, 0.93, 0.0, 0.25, 0.08, 0.78, 0.4),
}


@pytest.mark.parametrize("name", presets.PRESETS)
def test_a_preset_holds_the_constants_of_its_source(name):
    world = presets.PRESETS[name]()
    table, net, floor, paddle = world.surfaces
    got = (
        world.ball.drag_coefficient, world.air.density,
        table.restitution, table.restitution_slope, table.friction,
        paddle.disk_radius, paddle.restitution, paddle.friction,
    )  # fmt: skip
    np.testing.assert_allclose(list(map(float, got)), SOURCES[name], rtol=1e-4)
    assert [surface.name for surface in world.surfaces] == ["table", "net", "floor", "paddle"]
    assert (float(world.ball.mass), float(world.ball.radius)) == (2.7e-3, 0.02)
    assert 2 * table.half_extents == pytest.approx([2.74, 1.525])
    assert float(table.center[2]) == 0.76
    assert 2 * net.half_extents[1] == pytest.approx(0.1525)
    assert 2 * net.half_extents[0] == pytest.approx(1.525 + 2 * 0.1525)
    assert paddle.driven
    assert not floor.driven


def test_a_vector_stands_beside_many():
    many = Vector(*jax.random.normal(jax.random.key(0), (3, 3)))  # as many as components
    wind = Vector(30.0, 1.0, 2.0)
    for i in range(3):
        one = Vector(many.x[i], many.y[i], many.z[i])
        for act in (Vector.__add__, Vector.__sub__, Vector.cross):
            np.testing.assert_allclose(act(many, wind).array[:, i], act(one, wind).array)
            np.testing.assert_allclose(act(wind, many).array[:, i], act(wind, one).array)
        np.testing.assert_allclose(wind.dot(many)[i], wind.dot(one))
        np.testing.assert_allclose((many.x * wind).array[:, i], (one.x * wind).array)
