"""Plates with round edges: where, when and how a ball meets them, against other computations.

All scenes are one world with other numbers, a plate that moves by a polynomial and turns evenly,
so that each precision is one compiled batch. There is no air: the ball's way is known exactly.
"""

import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import brentq, minimize_scalar

from diffsim.physics import (
    Air,
    BallState,
    Compliant,
    Smoothed,
    Status,
    Surface,
    World,
    net_cord,
    simulate,
    table,
    table_edges,
)
from diffsim.physics import scene as scenes
from diffsim.physics.scene import PolynomialPose

R, A, T, INF = 0.02, 2 / 3, 0.15, np.inf
DEFAULT = {
    "position": (0.0, 0.0, 1.0), "velocity": (0.0, 0.0, 0.0), "spin": (0.0, 0.0, 0.0),
    "gravity": (0.0, 0.0, 0.0), "half": (INF, INF), "disk": INF, "edge": 0.01, "two": True,
    "e": 0.8, "friction": 0.2, "turn_round": 0.0, "once": False,
    "center": np.zeros((3, 3)), "rotation": np.eye(3), "axis": (0.0, 1.0, 0.0), "rate": 0.0,
}  # fmt: skip


def play(numbers, contact=None):
    plate = Surface.create(
        half_extents=numbers["half"], disk_radius=numbers["disk"], two_sided=numbers["two"],
        edge_radius=numbers["edge"], restitution=numbers["e"], friction=numbers["friction"],
        tangential_restitution=numbers["turn_round"], once=numbers["once"], driven=True,
    )  # fmt: skip
    world = World.create([plate], air=Air(jnp.zeros_like(numbers["e"])), gravity=numbers["gravity"])
    state = BallState.create(numbers["position"], numbers["velocity"], numbers["spin"])
    path = PolynomialPose(*(numbers[k] for k in ("center", "rotation", "axis", "rate")))
    return simulate(world, state, path, duration=T, contact=contact)


def turned(axis, angles):
    """Rotations about a unit axis, (n, 3, 3)."""
    x, y, z = axis
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    a = np.asarray(angles)[..., None, None]
    return np.eye(3) + np.sin(a) * cross + (1 - np.cos(a)) * cross @ cross


class Truth:
    """The same scene in NumPy: the way of the ball and of the plate, and between them the gap."""

    def __init__(self, numbers):
        self.n = DEFAULT | numbers

    def pose(self, t):
        t = np.asarray(t)
        center = sum(np.asarray(c) * t[..., None] ** k for k, c in enumerate(self.n["center"]))
        return center, turned(self.n["axis"], self.n["rate"] * t) @ self.n["rotation"]

    def ball(self, t):
        t, (x, v, g) = np.asarray(t)[..., None], (
            np.asarray(self.n[k]) for k in ("position", "velocity", "gravity")
        )  # fmt: skip
        return x + v * t + g * t**2 / 2

    def arm(self, t):
        """From the nearest point of the middle patch to the ball, in the axes of the plate."""
        (center, rotation), edge = self.pose(t), self.n["edge"]
        local = np.einsum("...ji,...j->...i", rotation, self.ball(t) - center)
        local[..., 2] += 0 if self.n["two"] else edge
        if np.isfinite(self.n["disk"]):
            far = np.hypot(local[..., 0], local[..., 1])
            share = np.minimum(1, (self.n["disk"] - edge) / np.maximum(far, 1e-12))
            return local - local * np.stack([share, share, 0 * share], axis=-1)
        most = np.array([*self.n["half"], edge]) - edge
        return local - np.clip(local, -most, most)

    def gap(self, t):
        return np.linalg.norm(self.arm(t), axis=-1) - self.n["edge"] - R

    def first_hit(self):
        """Its time, or None, and the least gap up to it."""
        times = np.linspace(0, T, 3001)
        gaps = self.gap(times)
        low = int(np.argmax(gaps < 0)) or int(np.argmin(gaps))
        around = times[max(low - 1, 0)], times[min(low + 1, len(times) - 1)]
        if gaps[low] < 0:
            return brentq(self.gap, around[0], times[low], xtol=1e-14), gaps.min()
        dip = minimize_scalar(self.gap, bounds=around, method="bounded", options={"xatol": 1e-9})
        if dip.fun < 0:
            return brentq(self.gap, around[0], dip.x, xtol=1e-14), dip.fun
        return None, dip.fun

    def after(self, t):
        """Velocity and spin after an impact at t, by the law in world axes."""
        (center, rotation), arm = self.pose(t), self.arm(t)
        normal = rotation @ arm / np.linalg.norm(arm)
        touched = self.ball(t) - R * normal - center
        powers = np.array([0, 1, 2 * t])
        moving = powers @ self.n["center"] + np.cross(self.n["rate"] * np.array(self.n["axis"]),
                                                      touched)  # fmt: skip
        v = np.asarray(self.n["velocity"]) + np.asarray(self.n["gravity"]) * t
        w = np.asarray(self.n["spin"])
        slip = v - R * np.cross(w, normal) - moving
        normal_impulse = -(1 + self.n["e"]) * (slip @ normal)
        tangential = -(slip - slip @ normal * normal) * (1 + self.n["turn_round"]) / (1 + 1 / A)
        tangential *= min(
            1, self.n["friction"] * normal_impulse / max(np.linalg.norm(tangential), 1e-300)
        )
        return v + normal_impulse * normal + tangential, w + np.cross(tangential, normal) / (A * R)


NET = np.array([[0.0, 0, 1], [1, 0, 0], [0, 1, 0]])  # across y, its height along z, facing x
CORD = {"half": (0.9, 0.003), "edge": 0.003, "rotation": NET}
TABLE = {"half": (1.37, 0.76), "two": False, "gravity": (0, 0, -9.81)}
PADDLE = {"disk": 0.08, "edge": 0.005}
SPUN = {"spin": (30.0, -80.0, 50.0), "turn_round": 0.4, "friction": 0.5}
HITS = {
    "cord off centre": CORD | {"position": (0.01, 0, 0.1), "velocity": (0, 0, -3.0)},
    "cord with spin": CORD | SPUN | {"position": (-0.2, 0.1, 0.05), "velocity": (4.0, 1.0, -0.8)},
    "end of the cord": CORD | {"position": (0.01, 1.0, 0.003), "velocity": (0, -3.0, 0)},
    "table from the side": TABLE | {"position": (1.5, 0.2, -0.005), "velocity": (-2.0, 0, 0)},
    "table's corner": TABLE | {"position": (1.5, 0.9, 0.1), "velocity": (-2.0, -2.0, -1.0)},
    "table's underside": TABLE | {"position": (0, 0, -0.1), "velocity": (1.0, 0, 3.0)},
    "table's face": TABLE | {"position": (0, 0, 0.1), "velocity": (1.0, 0, -3.0)},
    "rim of a moving paddle": PADDLE | {
        "position": (0.2, 0.03, 0.004), "center": [[0, 0, 0], [3.0, 0.5, 0.1], [0, 4.0, 0]]},
    "rim of a turning paddle": PADDLE | SPUN | {
        "position": (0.05, 0.0, -0.04), "axis": (0, 0.6, 0.8), "rate": 15.0},
    "back of a thin paddle": PADDLE | {
        "edge": 0.0, "position": (0.05, 0.0, -0.2), "velocity": (0, 0, 14.0)},
    "edge of a thin plate": {"half": (0.1, 0.05), "edge": 0.0, "position": (0.2, 0, 0),
                             "velocity": (-3.0, 0, 0)},
}  # fmt: skip
PASSES = {
    "just past the cord": CORD | {"position": (0.0231, 0, 0.1), "velocity": (0, 0, -3.0)},
    "just past the table": TABLE | {"position": (1.3901, 0.2, 0.1), "velocity": (0, 0, -3.0)},
}
OVER = {"position": (1.3, 0, R), "gravity": (0, 0, -9.81), "spin": (0, 50.0, 0)}
ROLLS = {
    "rolls over the edge": TABLE | OVER | {"velocity": (1.0, 0, 0)},
    "tips over the edge": TABLE | OVER | {
        "position": (1.355, 0, R), "velocity": (0.2, 0, 0), "spin": (0, 10.0, 0)},
}  # fmt: skip


def random_passes(count):
    """Balls that pass the border of a plate at a distance of up to 1.3 of the sum of radii."""
    rng = np.random.default_rng(5)
    made = []
    for i in range(count):
        kind = (CORD, TABLE, PADDLE | {"edge": 0.006}, PADDLE | {"edge": 0.0})[i % 4]
        kind = DEFAULT | kind | {"gravity": (0.0, 0.0, -9.81)}
        if "disk" in kind and np.isfinite(kind["disk"]):  # it moves
            kind |= {"center": rng.normal(size=(3, 3)) * [[1.0], [3.0], [10.0]],
                     "rate": rng.uniform(-15, 15)}  # fmt: skip
            axis = rng.normal(size=3)
            kind["axis"] = axis / np.linalg.norm(axis)
            at = np.array([np.cos(i), np.sin(i), 0]) * (kind["disk"] - kind["edge"])
        else:
            at = np.array([*rng.uniform(-1, 1, 2), 0.0])
            at[i // 4 % 2] = 1 - 2 * (i // 8 % 2)
            at[:2] *= np.array(kind["half"]) - kind["edge"]
        at[2] -= 0 if kind["two"] else kind["edge"]
        velocity, across = rng.normal(size=(2, 3))
        velocity *= rng.uniform(0.5, 20) / np.linalg.norm(velocity)
        across = np.cross(velocity, across)
        across *= rng.uniform(0, 1.3) * (R + kind["edge"]) / np.linalg.norm(across)
        t = rng.uniform(0.01, T - 0.01)
        center, rotation = Truth(kind).pose(t)
        start = (
            center + rotation @ at + across - velocity * t - np.array(kind["gravity"]) * t**2 / 2
        )
        made.append(kind | {"position": start, "velocity": velocity})
    return [one for one in made if Truth(one).gap(0.0) > 1e-3]


RANDOM = random_passes(640)
SLOPES = ("rim of a moving paddle", "rim of a turning paddle", "table's corner")
STEP, MOVED = (
    1e-5,
    [
        "position",
        "velocity",
        "spin",
        "gravity",
        "edge",
        "e",
        "friction",
        "turn_round",
        "center",
        "rate",
    ],
)


def ways(seed=6):
    """A random direction in all numbers of each scene of SLOPES, and one in where it ends."""
    rng = np.random.default_rng(seed)
    shapes = {key: np.shape(DEFAULT[key]) for key in MOVED}
    scale = {"edge": 0.01, "spin": 10.0}
    return [
        ({k: rng.normal(size=shape) * scale.get(k, 0.1) for k, shape in shapes.items()},
         rng.normal(size=6))
        for _ in SLOPES
    ]  # fmt: skip


GONE = {
    "gone after its edge": {
        "half": (0.1, 0.1), "once": True, "position": (0.15, 0, -0.01), "velocity": (-3.0, 0, 0),
        "gravity": (-100.0, 0, 0)},
}  # fmt: skip
ASIDE = {
    f"{name} {sign:+}": HITS[name]
    | {key: np.asarray((DEFAULT | HITS[name])[key]) + sign * STEP * way[key] for key in MOVED}
    for name, (way, _) in zip(SLOPES, ways(), strict=True)
    for sign in (1, -1)
}
NAMED = HITS | PASSES | ROLLS | GONE | ASIDE


@pytest.fixture(params=[pytest.param(jnp.float32, marks=pytest.mark.slow), jnp.float64])
def dtype(request):
    return request.param


@functools.cache
def played(dtype):
    numbers = [DEFAULT | one for one in (*NAMED.values(), *RANDOM)]
    batch = {
        key: jnp.asarray(
            np.array([one[key] for one in numbers]), bool if key in ("two", "once") else dtype
        )
        for key in DEFAULT
    }
    return jax.tree.map(np.asarray, jax.jit(jax.vmap(play))(batch))


def named(name, dtype):
    return jax.tree.map(lambda leaf: leaf[list(NAMED).index(name)], played(dtype))


@pytest.mark.parametrize("name", HITS)
def test_an_edge_is_met_and_answers_by_the_law(name, dtype):
    rollout, truth = named(name, dtype), Truth(HITS[name])
    atol = 2e-5 if dtype == np.float32 else 1e-11
    time, _ = truth.first_hit()
    assert rollout.status == Status.OK
    np.testing.assert_allclose(rollout.impacts.time[0], time, rtol=0, atol=atol)
    velocity, spin = truth.after(time)
    after = jax.tree.map(lambda leaf: leaf[0], rollout.impacts.after)
    np.testing.assert_allclose(after.position, truth.ball(time), rtol=0, atol=20 * atol)
    np.testing.assert_allclose(after.velocity, velocity, rtol=0, atol=200 * atol)
    np.testing.assert_allclose(after.spin, spin, rtol=1e-4, atol=1e4 * atol)


def test_closed_forms():
    """Of some of them, so that the other computation is not alone."""
    cord = named("cord off centre", jnp.float64).impacts
    high = np.sqrt(0.023**2 - 0.01**2)
    assert cord.time[0] == pytest.approx((0.1 - high) / 3.0, abs=1e-12)
    normal = np.array([0.01, 0, high]) / 0.023
    slip = -3.0 * np.array([0, 0, 1]) + 3.0 * normal[2] * normal
    tangential = -slip / np.linalg.norm(slip) * 0.2 * 1.8 * 3.0 * normal[2]
    stick = np.linalg.norm(slip) * A / (1 + A)
    tangential *= min(1, stick / np.linalg.norm(tangential))
    expected = [0, 0, -3.0] + 1.8 * 3.0 * normal[2] * normal + tangential
    np.testing.assert_allclose(cord.after.velocity[0], expected, atol=1e-11)
    moments = [
        R * np.cross(normal, state.velocity[0]) + A * R**2 * state.spin[0]
        for state in (cord.before, cord.after)
    ]
    np.testing.assert_allclose(*moments, atol=1e-14)

    side = named("table from the side", jnp.float64).impacts
    t = side.time[0]
    z = -0.005 - 9.81 / 2 * t**2 + 0.01
    assert 1.5 - 2.0 * t == pytest.approx(1.36 + np.sqrt(0.03**2 - z**2), abs=1e-12)

    rim = named("edge of a thin plate", jnp.float64)
    np.testing.assert_allclose(rim.impacts.after.velocity[0], [0.8 * 3.0, 0, 0], atol=1e-12)
    below = named("table's underside", jnp.float64).impacts
    assert below.before.position[0][2] == pytest.approx(-0.02 - R, abs=1e-12)
    thin = named("back of a thin paddle", jnp.float64).impacts
    assert thin.time[0] == pytest.approx((0.2 - R) / 14.0, abs=1e-12)


@pytest.mark.parametrize("name", PASSES)
def test_a_tenth_of_a_millimetre_past_it_is_free(name, dtype):
    rollout = named(name, dtype)
    assert rollout.status == Status.OK
    assert not rollout.impacts.valid.any()


def test_over_the_edge_of_a_table(dtype):
    """A fast ball leaves it as a parabola; a slow one tips over, which is told."""
    fast = named("rolls over the edge", dtype)
    left = T - 0.06  # over the flat part of the table
    fallen = [1.3 + T, 0, R - 9.81 / 2 * left**2]
    assert fast.status == Status.OK
    np.testing.assert_allclose(
        fast.final.position, fallen, atol=1e-3 if dtype == np.float32 else 1e-5
    )
    assert named("tips over the edge", dtype).status == Status.COARSE_STEP


def test_random_passes_are_hit_where_the_gap_is_zero(dtype):
    """At the default step; what is missed, or hit by mistake, is a graze of less than 0.1 mm."""
    rollouts = jax.tree.map(lambda leaf: leaf[len(NAMED) :], played(dtype))
    errors, grazes = [], 0
    for i, numbers in enumerate(RANDOM):
        hit, low = Truth(numbers).first_hit()
        grazes += abs(low) < 1e-3
        ours = rollouts.impacts.time[i, 0] if rollouts.impacts.valid[i, 0] else None
        if hit is None or ours is None:
            assert (hit is None) == (ours is None) or abs(low) < 1e-4, (i, low, hit, ours)
        else:
            errors.append(abs(ours - hit))
    assert len(errors) > 400
    assert grazes > 10
    assert np.median(errors) < (1e-6 if dtype == np.float32 else 1e-14)
    assert np.max(errors) < (1e-4 if dtype == np.float32 else 1e-10)


@pytest.mark.parametrize("mode", ["forward", pytest.param("reverse", marks=pytest.mark.slow)])
def test_slopes_in_all_numbers(mode):
    """Along a random direction, against central differences."""
    numbers = [DEFAULT | HITS[name] for name in SLOPES]
    both = [jax.tree.map(jnp.asarray, pair) for pair in ways()]
    batch = {key: jnp.asarray(np.array([one[key] for one in numbers])) for key in DEFAULT}
    way, end = jax.tree.map(lambda *x: jnp.stack(x), *both)

    def slope(numbers, way, end):
        def along(moved):
            final = play(numbers | moved).final
            return end @ jnp.concatenate([final.position, final.velocity])

        moved = {key: numbers[key] for key in MOVED}
        if mode == "forward":
            return jax.jvp(along, (moved,), (way,))[1]
        gradient = jax.grad(along)(moved)
        return sum(jnp.vdot(gradient[key], way[key]) for key in MOVED)

    ours = jax.jit(jax.vmap(slope))(batch, way, end)
    for name, slope, (_, e) in zip(SLOPES, ours, ways(), strict=True):
        ends = [named(f"{name} {sign:+}", jnp.float64).final for sign in (1, -1)]
        values = [e @ np.concatenate([one.position, one.velocity]) for one in ends]
        assert float(slope) == pytest.approx((values[0] - values[1]) / (2 * STEP), rel=1e-5)


@pytest.mark.parametrize(
    "contact", [Compliant(3e6), pytest.param(Smoothed(1e6, 3e6), marks=pytest.mark.slow)]
)
def test_a_penalty_model_meets_the_same_cord(contact):
    numbers = DEFAULT | CORD | {"position": (0.01, 0.2, 0.05), "velocity": (0, 0.5, -3.0)}
    world = World.create([net_cord(0.8, 0.2)], air=Air.create(0.0), gravity=(0.0, 0.0, 0.0))
    top = world.surfaces[0].center
    state = BallState.create(top + jnp.asarray(numbers["position"]), numbers["velocity"])
    soft = simulate(world, state, duration=0.03, contact=contact)
    time, _ = Truth(numbers).first_hit()
    assert soft.impacts.valid.tolist()[:2] == [True, False]
    assert soft.impacts.time[0] == pytest.approx(time, abs=1e-4)
    velocity, spin = Truth(numbers).after(time)
    np.testing.assert_allclose(soft.final.velocity, velocity, atol=0.04)  # it turns as it sinks in
    np.testing.assert_allclose(soft.final.spin, spin, atol=0.02 * np.abs(spin).max())


def test_a_plate_is_hit_once(dtype):
    """After its edge was hit, its face is gone too."""
    rollout = named("gone after its edge", dtype)
    assert rollout.impacts.valid.sum() == 1
    assert rollout.final.position[0] < 0


def test_presets_are_what_they_are_named_for():
    cord, rods = net_cord(radius=0.004), table_edges(radius=0.01)
    assert float(cord.center[2]) + 0.004 == pytest.approx(0.76 + 0.1525)
    assert cord.half_extents.tolist() == pytest.approx([0.915, 0.004])
    ends = [rod.center + sign * rod.half_extents[0] * rod.rotation[:, 0]
            for rod in rods for sign in (1, -1)]  # fmt: skip
    np.testing.assert_allclose(np.abs(ends)[:4, 0], 1.36, atol=1e-6)
    np.testing.assert_allclose(np.abs(ends)[:4, 1], 0.7625, atol=1e-6)
    np.testing.assert_allclose(np.abs(ends)[4:, 0], 1.37, atol=1e-6)
    np.testing.assert_allclose(np.asarray(ends)[:, 2], 0.75, atol=1e-6)
    assert float(table(edge_radius=0.01).edge_radius) == pytest.approx(0.01)
    assert table().edge_radius is None


BAD = {
    "negative": {"half_extents": (1.0, 1.0), "edge_radius": -0.01},
    "not finite": {"half_extents": (1.0, 1.0), "edge_radius": np.nan},
    "wider than the plate": {"half_extents": (1.0, 0.01), "edge_radius": 0.02},
    "wider than the disk": {"disk_radius": 0.01, "edge_radius": 0.02},
    "no border": {"edge_radius": 0.01},
    "two borders": {"half_extents": (1.0, 1.0), "disk_radius": 1.2, "edge_radius": 0.01},
}


@pytest.mark.parametrize("case", BAD)
def test_an_edge_radius_that_does_not_fit_is_refused(case):
    with pytest.raises(ValueError, match=r"^edge_radius: expected"):
        Surface.create(**BAD[case])


BALL = "duration = 0.3\n[ball]\nposition = [0.01, 0, 1.0]\n[[surface]]\n"


def test_edges_in_a_scene_file():
    scene = scenes.loads(
        BALL + "kind = 'net_cord'\n[[surface]]\nkind = 'table'\nedge_radius = 0.01\n"
    )
    cord, top = scene.world.surfaces
    assert (cord.name, float(top.edge_radius)) == ("net_cord", pytest.approx(0.01))
    np.testing.assert_allclose(cord.center, net_cord().center)
    for text in ("kind = 'table'\nedge_radius = 2\n", "kind = 'floor'\nedge_radius = 0.01\n",
                 "kind = 'disk'\nradius = 0.1\nedge_radius = -1\n"):  # fmt: skip
        with pytest.raises(scenes.SceneError, match=r"^surface\[0\]\.edge_radius: "):
            scenes.loads(BALL + text)


def test_the_scene_with_edges_is_met_and_drawn(tmp_path):
    from diffsim.report import plots

    scene = scenes.load(Path(__file__).parents[2] / "data" / "edges.toml")
    rollout = scenes.run(scene)
    result = scenes.describe(scene, rollout)
    assert result["status"] == "ok"
    met = [impact["surface"] for impact in result["impacts"]]
    assert met == ["table", "net_cord", "table", "paddle"]
    cord = result["impacts"][1]["position"]
    arm = np.hypot(cord[0], cord[2] - (0.76 + 0.1525 - 0.003))
    assert arm == pytest.approx(R + 0.003, abs=1e-5)
    path = plots.scene(scene.world, rollout, scene.paths, path=tmp_path / "edges.png")
    assert path.stat().st_size > 10_000
