"""Where each doubt begins, what a record is by default, and the places of an ITTF table's parts."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffsim.physics import (
    Air,
    Ball,
    Compliant,
    Impulse,
    Smoothed,
    SpinRatioLift,
    Surface,
    World,
    floor,
    net,
    paddle,
    table,
)
from diffsim.physics import arc as arcs
from diffsim.physics.contact.base import Impacts
from diffsim.physics.proximity import Proximity
from diffsim.physics.search import Cubic, crossing
from diffsim.physics.simulate import _alternate, memory, room
from diffsim.physics.state import Body
from diffsim.physics.surfaces import net_cord, table_edges
from diffsim.physics.vector import Vector


def vector(*numbers):
    return Vector(*(jnp.asarray(float(x)) for x in numbers))


def numbers(record):
    return {k: np.asarray(v).tolist() for k, v in vars(record).items() if not isinstance(v, str)}


def test_what_things_are_unless_it_is_said_otherwise():
    assert numbers(Ball.create()) == {
        "mass": 2.7e-3, "radius": 0.02, "inertia_factor": 2 / 3, "drag_coefficient": 0.4,
        "magnus_coefficient": 0.6, "spin_decay_time": np.inf,
    }  # fmt: skip
    plain = {
        "center": [0, 0, 0], "rotation": np.eye(3).tolist(), "half_extents": [np.inf, np.inf],
        "disk_radius": np.inf, "two_sided": False, "restitution": 0.9, "restitution_slope": 0,
        "friction": 0.2, "tangential_restitution": 0, "once": False, "edge_radius": None,
        "driven": False,
    }  # fmt: skip
    assert numbers(Surface.create()) == plain
    assert numbers(floor()) == plain | {"restitution": 0.8, "friction": 0.4}
    assert numbers(paddle()) == plain | {
        "disk_radius": 0.08, "two_sided": True, "restitution": 0.8, "friction": 0.4, "driven": True,
    }  # fmt: skip
    assert float(Air.create().density) == pytest.approx(1.204)
    assert World.create().gravity.tolist() == [0, 0, -9.81]
    assert Impulse().rest_speed == 0.01
    soft = {"damping": None, "slip_speed": 0.1, "substeps": None}
    assert vars(Compliant(5.0)) == {"stiffness": 5.0} | soft
    assert vars(Smoothed(7.0)) == {"sharpness": 7.0, "stiffness": 1e4} | soft


def box(surface):
    """The least and the largest corner of a rectangle with its edge, m."""
    ends = np.abs(np.asarray(surface.rotation[:, :2])) @ np.asarray(surface.half_extents)
    if surface.edge_radius is not None:  # the rest of it is in the half extents
        ends = ends + np.abs(np.asarray(surface.rotation[:, 2])) * float(surface.edge_radius)
    center = np.asarray(surface.center)
    return np.concatenate([center - ends, center + ends])


def test_the_parts_of_a_table_are_where_the_handbook_has_them():
    """2.74 × 1.525 × 0.76 m, the net 0.1525 m over it and to each side; rods in their outlines."""
    parts = {part.name: part for part in (table(), net(), net_cord(), *table_edges())}
    x, y, side, top = 1.37, 0.7625, 0.7625 + 0.1525, 0.76 + 0.1525
    wanted = {
        "table": (-x, -y, 0.76, x, y, 0.76),
        "net": (0, -side, 0.76, 0, side, top),
        "net cord": (-0.003, -side, top - 0.006, 0.003, side, top),
        "table edge -x": (-x, -y, 0.74, -x + 0.02, y, 0.76),
        "table edge +x": (x - 0.02, -y, 0.74, x, y, 0.76),
        "table edge -y": (-x, -y, 0.74, x, -y + 0.02, 0.76),
        "table edge +y": (-x, y - 0.02, 0.74, x, y, 0.76),
    }
    assert parts.keys() == wanted.keys()
    for name, ends in wanted.items():
        np.testing.assert_allclose(box(parts[name]), ends, atol=1e-6, err_msg=name)
    materials = dict.fromkeys(wanted, (0.7, 0.2)) | {
        "table": (0.9, 0.2), "net": (0.1, 0.2), "net cord": (0.5, 0.2),
    }  # fmt: skip
    for name, pair in materials.items():
        found = (float(parts[name].restitution), float(parts[name].friction))
        assert found == pytest.approx(pair), name
        assert bool(parts[name].two_sided) == (name != "table")


def test_the_error_of_a_step_is_its_difference_from_the_embedded_one():
    """Dormand & Prince 1980, table 2; both are of order 4 at least."""
    embedded = (5179 / 57600, 0, 7571 / 16695, 393 / 640, -92097 / 339200, 187 / 2100, 1 / 40)
    weights = np.array([*arcs._DORMAND_PRINCE[-1], 0.0])
    np.testing.assert_allclose(arcs._ERROR, weights - embedded, atol=1e-15)
    times = np.array(arcs._STAGE_TIMES)
    for power in range(5):
        assert weights @ times**power == pytest.approx(1 / (power + 1), abs=1e-14)
    for row, time in zip(arcs._DORMAND_PRINCE, times):
        assert sum(row) == pytest.approx(time, abs=1e-14)


def test_a_step_is_coarse_from_two_millionths_of_what_moves_on():
    zero = vector(0, 0, 0)
    velocity = (vector(1, 0, 0), vector(0, 2, 0), zero, zero, zero)  # from (1, 0, 0) to (1, 2, 0)
    size = np.sqrt(1 + 5 + 4)
    for share, wanted in ((1.99e-6, False), (2.01e-6, True), (np.nan, True)):
        made = arcs.Arc(jnp.asarray(0.1), zero, velocity, (zero,) * 4, jnp.asarray(share * size))
        assert bool(arcs.coarse(made)) == wanted


@pytest.mark.parametrize("way", [(1.0, 0, 0), (0, -0.6, 0.8)])
def test_drag_may_take_one_and_a_half_times_the_speed_in_a_step(way):
    world = World.create([])
    drag = 0.5 * 1.204 * np.pi * 0.02**2 * 0.4 / 2.7e-3
    velocity = vector(*(30 * np.array(way)))
    state = Body(vector(0, 0, 0), velocity, vector(0, 0, 0))
    for share, wanted in ((1.49, True), (1.51, False)):
        assert bool(arcs.stable(world, state, jnp.asarray(share / (drag * 30)))) == wanted
    still = Body(state.position, state.spin, state.spin)
    assert bool(arcs.stable(world, still, jnp.asarray(1e9)))


@pytest.mark.parametrize(
    ("times", "surfaces", "wanted"),
    [
        ((0.1, 0.1004, 0.1009), (0, 1, 0), True),
        ((0.1, 0.1004, 0.1011), (0, 1, 0), False),
        ((0.1, 0.1004, 0.1009), (0, 1, 1), False),
        ((0.1, 0.1004, 0.1009), (1, 0, 1), True),
    ],
)
def test_two_surfaces_in_turn_within_a_hundredth_of_a_step_hold_a_ball(times, surfaces, wanted):
    impacts = Impacts(jnp.array([0.0, *times]), jnp.array([2, *surfaces]), None, None, None)
    assert bool(_alternate(impacts, jnp.asarray(0.1))) == wanted


def test_room_and_memory_are_linear():
    assert [room(t) for t in (0.01, 0.1, 0.11, 2.0)] == [9, 9, 10, 28]
    assert memory(10, 4) == 4 * 50 * 14
    assert memory(10, 4, driven=2, itemsize=8) == 8 * (50 * 14 + 370 * 10 * 2)


def test_spin_turns_the_path_to_the_side_of_the_cross_product():
    """An arc with drag, lift and decay against small steps of its equations."""
    world = World.create([], ball=Ball.create(spin_decay_time=0.5))
    state = Body(vector(0, 0, 0), vector(8, -3, 2), vector(20, 150, -90))
    end = jax.jit(lambda s: arcs.fly(world, s, jnp.asarray(0.05))(jnp.asarray(1.0)))(state)
    k = 0.5 * 1.204 * np.pi * 0.02**2 / 2.7e-3
    x, v, w = np.zeros(3), np.array([8.0, -3, 2]), np.array([20.0, 150, -90])
    h, count = 0.05 / 4000, 4000

    def rate(v, w):
        lift = 0.6 * 0.02 * np.cross(w, v)
        return np.array([0, 0, -9.81]) + k * (lift - 0.4 * np.linalg.norm(v) * v)

    for step in range(count):  # the midpoint rule
        half = v + h / 2 * rate(v, w * np.exp(-step * h / 0.5))
        x, v = x + h * half, v + h * rate(half, w * np.exp(-(step + 0.5) * h / 0.5))
    np.testing.assert_allclose(end.position.array, x, atol=1e-7)
    np.testing.assert_allclose(end.velocity.array, v, atol=1e-6)
    np.testing.assert_allclose(end.spin.array, w * np.exp(-0.1), rtol=1e-9)


def test_a_cubic_falls_where_its_polynomial_does():
    """Values and slopes at the ends, the least place between them, the first root: by NumPy."""
    rng = np.random.default_rng(0)
    drawn = rng.normal(size=(4, 400)) * np.array([[1], [1], [3], [3]])
    drawn[0] = np.abs(drawn[0])
    cubics = Cubic.through(*drawn)
    found = *cubics.minimum(), cubics.falls(1e-9), cubics.root()
    lowest, inside, dips, roots = map(np.asarray, found)
    values, slopes, checked = np.asarray(cubics.value(0.37)), np.asarray(cubics.slope(0.37)), 0
    for i, (start, end, first, last) in enumerate(drawn.T):
        curve = np.polynomial.Polynomial([start, first, 3 * (end - start) - 2 * first - last,
                                          first + last - 2 * (end - start)])  # fmt: skip
        assert (curve(0), curve(1)) == pytest.approx((start, end))
        assert (curve.deriv()(0), curve.deriv()(1)) == pytest.approx((first, last))
        assert (values[i], slopes[i]) == pytest.approx((curve(0.37), curve.deriv()(0.37)))
        flat = curve.deriv().roots()
        least = [r.real for r in flat if abs(r.imag) < 1e-12 and 0 < r.real < 1
                 and curve.deriv(2)(r.real) > 0]  # fmt: skip
        assert bool(inside[i]) == bool(least), i
        if least:
            assert float(lowest[i]) == pytest.approx(least[0], abs=1e-9)
        below = end <= 0 or bool(least and curve(least[0]) < 0)
        assert bool(dips[i]) == below, i
        if below:
            first_root = min(
                r.real for r in curve.roots() if abs(r.imag) < 1e-9 and 0 <= r.real <= 1
            )
            assert float(roots[i]) == pytest.approx(first_root, abs=1e-6)
            checked += 1
    assert 100 < checked < 300
    near = Cubic.through(*map(jnp.asarray, (1.0, 1e-6, -1.0, -1.0)))
    assert [bool(near.sinks(most)) for most in (2e-6, 1e-7)] == [True, False]
    rises = Cubic.through(*map(jnp.asarray, (1.0, 1e-6, -1.0, 1.0)))
    assert not bool(rises.sinks(2e-6))


@pytest.mark.parametrize("edge", [None, 0.03])
def test_a_gap_falls_through_zero_from_above_alone(edge):
    """At an even pace, to a face or a round edge: met where it is, and not when it is touched."""

    def near(gap):
        parts = map(jnp.asarray, (0.02 + gap, -1.0, 1.0, 0.5, np.zeros(3), np.array([0, 0, 1.0])))
        return Proximity(*parts, None if edge is None else jnp.asarray(edge))

    limits = map(jnp.asarray, (0.011, 0.02, 1e-9, 1e-9))
    pace, zero, least, most = limits
    for begin, end, falls in ((0.001, -0.01, True), (0.0, -0.011, False), (-0.001, -0.012, False),
                              (0.02, 0.009, False)):  # fmt: skip
        found, cubic = crossing(near(begin), near(end), pace, zero, least, most)
        assert bool(found) == falls, begin
        if falls:
            assert float(cubic.root()) == pytest.approx(1 / 11, rel=1e-6)


# What takes a number, the number's name, the least and the most, and whether the least is too low.
RANGES = [
    *((Ball.create, name, 0, np.inf, True) for name in ("mass", "radius")),
    (Ball.create, "inertia_factor", 0, 1, True),
    (Ball.create, "drag_coefficient", 0, np.inf, False),
    (Air.create, "density", 0, np.inf, False),
    (Surface.create, "restitution", 0, 1.5, False),
    (Surface.create, "tangential_restitution", 0, 1, False),
    *((Surface.create, name, 0, np.inf, False) for name in ("restitution_slope", "friction")),
    (Surface.create, "disk_radius", 0, np.inf, True),
    (partial(Surface.create, half_extents=(0.2, 0.1)), "edge_radius", 0, 0.1, False),
    (partial(Surface.create, disk_radius=0.3), "edge_radius", 0, 0.3, False),
    (Impulse.create, "rest_speed", 0, np.inf, False),
    *((partial(kind, 1e4), name, 0, np.inf, open_low)
      for kind in (Compliant.create, Smoothed.create)
      for name, open_low in (("damping", False), ("slip_speed", True))),
    (Compliant.create, "stiffness", 0, np.inf, True),
    (partial(Smoothed.create, 1.0), "stiffness", 0, np.inf, True),
    (Smoothed.create, "sharpness", 0, np.inf, True),
    (SpinRatioLift.create, "saturation", 0, np.inf, False),
    (SpinRatioLift.create, "slope", 0, np.inf, True),
]  # fmt: skip


@pytest.mark.parametrize(("make", "name", "low", "high", "open_low"), RANGES)
def test_numbers_are_taken_within_their_range_alone(make, name, low, high, open_low):
    fits, wrong = [low + 1e-6, min(high, 1e6)], [low - 1e-6, np.nan]
    (wrong if open_low else fits).append(low)
    if np.isfinite(high):
        wrong.append(high + 1e-6)
    for value in fits:
        made = make(**{name: value})
        assert float(getattr(made, name)) == pytest.approx(value)
    for value in wrong:
        with pytest.raises(ValueError, match=f"{name}: expected"):
            make(**{name: value})
