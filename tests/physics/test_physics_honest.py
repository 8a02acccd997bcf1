"""An answer is right or its status says that it may not be, in both precisions, at 0.05 s steps.

All scenes are one world with other numbers, two fixed planes and a driven plate, so that each
precision is one compiled batch.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct

from diffsim.physics import Air, Ball, BallState, Pose, Status, Surface, World, paddle, simulate

G, R, T = 9.81, 0.02, 0.6
FAR = {"plate": (-500.0, 0.0, 0.0, 0.0)}


@struct.dataclass
class Plate:
    """Height Σ_k (plate[k] tᵏ + later[k] max(t − 0.1, 0)ᵏ) + shake[0] sin(2π shake[1] t)."""

    plate: jax.Array
    later: jax.Array
    shake: jax.Array

    def __call__(self, time):
        zero = jnp.zeros_like(time)

        def height(t):
            since = jnp.maximum(t - 0.1, 0.0)
            known, new = (jnp.stack([jnp.ones_like(x), x, x**2, x**3]) for x in (t, since))
            return (
                self.plate @ known
                + self.later @ new
                + self.shake[0] * jnp.sin(2 * jnp.pi * self.shake[1] * t)
            )

        value, rate = jax.jvp(height, (time,), (jnp.ones_like(time),))
        turn = jnp.eye(3, dtype=time.dtype)
        return Pose(
            jnp.stack([zero, zero, value]), turn, jnp.stack([zero, zero, rate]), jnp.zeros_like(
                self.plate[:3])
        )  # fmt: skip


DEFAULT = {
    "position": (0.0, 0.0, 0.5), "velocity": (0.0, 0.0, 0.0), "spin": (0.0, 0.0, 0.0),
    "gravity": (0.0, 0.0, -G), "radius": R, "density": 0.0,
    "a_center": (0.0, 0.0, 0.0), "a_normal": (0.0, 0.0, 1.0), "a_half": np.inf, "a_e": 0.8,
    "b_center": (0.0, 0.0, -400.0), "b_normal": (0.0, 0.0, 1.0), "b_e": 0.0, "friction": 0.2,
    "plate": (-500.0, 0.0, 0.0, 0.0), "later": (0.0, 0.0, 0.0, 0.0), "shake": (0.0, 0.0),
    "plate_e": 0.9,
}  # fmt: skip


def run(numbers):
    first = Surface.create(
        center=numbers["a_center"], normal=numbers["a_normal"], u=(0.0, 1.0, 0.0), name="a",
        half_extents=jnp.stack([numbers["a_half"]] * 2), restitution=numbers["a_e"],
        friction=numbers["friction"],
    )  # fmt: skip
    second = Surface.create(
        center=numbers["b_center"], normal=numbers["b_normal"], u=(0.0, 1.0, 0.0), name="b",
        restitution=numbers["b_e"], friction=numbers["friction"],
    )  # fmt: skip
    plate = paddle(0.5, numbers["plate_e"], numbers["friction"])
    world = World.create(
        [first, second, plate], ball=Ball.create(radius=numbers["radius"]),
        air=Air(numbers["density"]), gravity=numbers["gravity"],
    )  # fmt: skip
    state = BallState.create(numbers["position"], numbers["velocity"], numbers["spin"])
    return simulate(
        world, state, Plate(*(numbers[key] for key in ("plate", "later", "shake"))), duration=T
    )


def ok(rollout, position, single, double):
    """Status ok and the position, to a tolerance for each precision."""
    atol = single if rollout.final.position.dtype == np.float32 else double
    assert rollout.status == Status.OK
    np.testing.assert_allclose(rollout.final.position, position, rtol=0, atol=atol)


def told(*statuses):
    def check(rollout):
        assert rollout.status in statuses, Status(int(rollout.status))

    return check


def in_contact(start):
    """A ball at rest is pushed out; one that moves bounces where it is."""

    def check(rollout):
        assert rollout.status == Status.OK
        assert rollout.impacts.valid[0]
        assert rollout.states.position[:, 2].min() > start - 1e-5
        assert rollout.final.position[2] > start - 1e-8

    return check


def shaken(frequency):
    """Met where the plate is, and answered at its speed, or a status."""
    times = np.linspace(0, T, 100_001)
    height = 0.5 - R - 0.1 - G / 2 * times**2 - 0.005 * np.sin(2 * np.pi * frequency * times)
    true = times[np.argmax(height < 0)]

    def check(rollout):
        if rollout.status == Status.OK:
            assert rollout.impacts.time[0] == pytest.approx(true, abs=2e-5)
            speed = 0.01 * np.pi * frequency * np.cos(2 * np.pi * frequency * true)
            answer = speed + 0.9 * (speed + G * true)
            assert rollout.impacts.after.velocity[0, 2] == pytest.approx(answer, abs=5e-4)
        else:
            assert rollout.status in (Status.ROUGH_PATH, Status.IMPACTS_EXHAUSTED)
            assert frequency > 10

    return check


def drop(height, e=0.8, after=T):
    """Height over the plane of a ball dropped from ``height`` over it, after one bounce."""
    hit = np.sqrt(2 * height / G)
    return e * G * hit * (after - hit) - G / 2 * (after - hit) ** 2


def far(height, aside=0.0):
    def check(rollout):
        coarse = np.finfo(rollout.final.position.dtype).eps * (height + 2 * aside)
        if coarse > R / 100:
            assert rollout.status == Status.TOO_FAR
        else:
            ok(rollout, (aside, aside, height + R + drop(0.5)), 20 * coarse, 20 * coarse + 1e-9)

    return check


def dragged(speed):
    """x = ln(1 + k v t)/k to 1e-6 of each of 12 arcs, or a status."""
    k = 0.5 * 1.2 * 0.4 * np.pi * R**2 / 2.7e-3
    true = np.log1p(k * speed * T) / k

    def check(rollout):
        if rollout.status == Status.OK:
            assert speed < 60
            error = 2e-6 if rollout.final.position.dtype == np.float64 else 4e-6
            np.testing.assert_allclose(rollout.final.position[0], true, rtol=error)
        else:
            assert rollout.status == Status.COARSE_STEP
            assert speed > 20

    return check


def above(*planes):
    """Not below any plane through the origin, whatever the status; not at large if it is ok."""

    def check(rollout):
        for normal in planes:
            gap = rollout.states.position @ np.asarray(normal, rollout.times.dtype) - R
            assert gap.min() > -1e-5

    return check


def lifted(rollout, c=30.0):
    """The plate at −c t³ falls faster than the ball from 6 c t = g on."""
    t = G / (6 * c)
    z = R - c * t**3 - 3 * c * t**2 * (T - t) - G / 2 * (T - t) ** 2
    ok(rollout, (0, 0, z), 2e-5, 1e-6)


def carried(rollout, a=20.0):
    """On a plate at a t² that rises by more than a radius in a step: one impact, to lie down."""
    ok(rollout, (0, 0, R + a * T**2), 1e-5, 1e-9)
    assert rollout.impacts.valid.tolist()[:2] == [True, False]


def flung(rollout, amplitude=0.045, frequency=11.6):
    """From a plate that turns back, and is at its lowest before the step ends."""
    w = 2 * np.pi * frequency
    t = np.arcsin(G / (amplitude * w**2)) / w
    rise = amplitude * (np.sin(w * t) + w * np.cos(w * t) * (T - t)) - G / 2 * (T - t) ** 2
    ok(rollout, (0, 0, R + rise), 1e-3, 1e-3)  # 8 looks at the plate in a step of 0.6 of a turn


def skidded_off(rollout, speed=0.3924, start=0.28, friction=0.2):
    """Over the border before its slip ends, in one step: from there it flies as it came."""
    t = (speed - np.sqrt(speed**2 - 2 * friction * G * (0.3 - start))) / (friction * G)
    assert 0.05 < t < speed / (2.5 * friction * G) < 0.1
    x = 0.3 + (speed - friction * G * t) * (T - t)
    ok(rollout, (x, 0, R - G / 2 * (T - t) ** 2), 5e-4, 5e-4)  # 10 µm beyond the border


def slid(rollout, speed=2.0):
    """Without friction drag alone slows a ball: x = ln(1 + k v t)/k, whatever lift its spin has."""
    k = 0.5 * 1.2 * 0.4 * np.pi * R**2 / 2.7e-3
    ok(rollout, (np.log1p(k * speed * T) / k, 0, R), 1e-6, 1e-8)


def skidded(x_axis, speed, friction=0.2):
    """Friction takes the slip u = v − R w, here of a ball without spin, and then the ball rolls.

    With k = 1 + 1/a: u̇ = g_t ∓ k μ g_n while it lasts, and v̇ = g_t (1 − 1/k) after. On a fixed
    surface the energy never rises.
    """
    k, x_axis = 2.5, np.asarray(x_axis)
    along, across = -G * x_axis[2], G * np.sqrt(1 - x_axis[2] ** 2)
    rub = np.sign(speed) * friction * across
    t = speed / (k * rub - along)
    slow = speed + (along - rub) * t
    x = (speed + slow) / 2 * t + slow * (T - t) + along * (1 - 1 / k) * (T - t) ** 2 / 2

    def check(rollout):
        start = R * np.cross(x_axis, (0, 1, 0))
        ok(rollout, start + x * x_axis, 1e-5, 1e-9)
        v, w, z = rollout.states.velocity, rollout.states.spin, rollout.states.position[:, 2]
        energy = np.sum(v**2, axis=1) / 2 + R**2 * np.sum(w**2, axis=1) / 3 + G * z
        assert np.diff(energy).max() < 1e-5

    return check


def thrown(rollout, speed=2.0, after=0.2):
    """A plate stops at 0.1 s and the ball goes on, in air: v = v_∞ tan(atan(v₀/v_∞) − g t/v_∞)."""
    limit = np.sqrt(G / (0.5 * 1.2 * 0.4 * np.pi * R**2 / 2.7e-3))
    begin = np.arctan(speed / limit)
    rise = limit**2 / G * np.log(np.cos(begin - G * after / limit) / np.cos(begin))
    assert rollout.status == Status.OK
    assert rollout.states.position[6, 2] == pytest.approx(R + 0.1 * speed + rise, abs=2e-5)


def tossed(rollout, speed=0.406):
    """Straight up and down in air: right to 2e-6 m/s, as |v| v is not smooth where it is slow."""
    limit = np.sqrt(G / (0.5 * 1.204 * 0.4 * np.pi * R**2 / 2.7e-3))
    top = limit / G * np.arctan(speed / limit)
    rise = np.log1p((speed / limit) ** 2) / 2 - np.log(np.cosh(G * (T - top) / limit))
    ok(rollout, (0, 0, 5 + limit**2 / G * rise), 5e-6, 2e-6)


def caught(rollout):
    """A plate dips at −50 t² + 1127 t³ and is back where −g t²/2 is within the same step."""
    times = rollout.impacts.time[rollout.impacts.valid]
    assert np.abs(times - 0.1 - (50 - G / 2) / 1127).min() < 1e-5


def at_the_end(speed):
    def check(rollout):
        assert rollout.impacts.valid[0]
        assert rollout.impacts.time[0] == pytest.approx(T, abs=1e-5)
        assert rollout.final.velocity[2] == pytest.approx(0.8 * speed, rel=1e-4)

    return check


def rolled_off(rollout):
    left = T - (0.3 - 0.1) / 0.5
    ok(rollout, (0.1 + 0.5 * T, 0, R - G / 2 * left**2), 2e-4, 1e-5)


V60 = {"a_normal": (0.6, 0, 0.8), "b_normal": (-0.6, 0, 0.8), "b_center": (0.0, 0, 0), "a_e": 0.0}
CORNER = {"a_e": 0.0, "b_normal": (-1.0, 0, 0), "b_center": (0.3, 0, 0)}
SCENES = (
    {f"rest {g} m deep": ({"position": (0, 0, R - g)}, in_contact(R - g))
     for g in (1e-13, 1e-9, 1e-6, 1e-4, 1e-2, 0.019)}
    | {f"falling {g} m deep": (
        {"position": (0, 0, R - g), "velocity": (0, 0, -1.0)}, in_contact(R - g))
       for g in (1e-13, 1e-6, 1e-2)}
    | {f"rising {g} m deep": (
        {"position": (0, 0, R - g), "velocity": (1.0, 0, 0.05)}, in_contact(R - g))
       for g in (1e-13, 1e-4, 1e-2)}
    | {"behind a floor": ({"position": (0, 0, -3.0)}, told(Status.STARTS_INSIDE)),
       "with the centre behind a patch": (
           {"position": (0, 0, -0.01), "a_half": 1.0}, told(Status.STARTS_INSIDE)),
       "below a patch": ({"position": (0, 0, -0.1), "a_half": 1.0}, told(Status.OK))}
    | {f"{h:g} m up": ({"position": (0, 0, h + 0.5 + R), "a_center": (0, 0, h), **FAR}, far(h))
       for h in (1e3, 1e5, 1e6)}
    | {"1 km off every way": (
        {"position": (1e3, 1e3, 1e3 + 0.5 + R), "a_center": (1e3, 1e3, 1e3), **FAR},
        far(1e3, 1e3))}
    | {f"plate at {f} Hz": (
        {"plate": (0.1, 0, 0, 0), "shake": (0.005, f)}, shaken(f))
       for f in (3.0, 20.0, 26.0, 60.0, 100.0, 200.0)}
    | {f"drag at {v} m/s": (
        {"velocity": (v, 0, 0), "gravity": (0, 0, 0), "density": 1.2}, dragged(v))
       for v in (5.0, 15.0, 25.0, 40.0, 80.0, 120.0)}
    | {"groove": ({"position": (0.03, 0, 0.1), **V60}, above((0.6, 0, 0.8), (-0.6, 0, 0.8))),
       "smooth groove": ({"position": (0.03, 0, 0.1), "friction": 0.0, **V60},
                         above((0.6, 0, 0.8), (-0.6, 0, 0.8))),
       "corner": ({"position": (0.1, 0, R), "velocity": (1.0, 0, 0), **CORNER},
                  above((0, 0, 1))),
       "corner with topspin": (
           {"position": (0.1, 0, R), "velocity": (1.0, 0, 0), "spin": (0, 300.0, 0), **CORNER},
           above((0, 0, 1))),
       "wedged": ({"position": (0, 0, R), "plate": (0.2, -0.4, 0, 0), "a_e": 0.0},
                  told(Status.TWO_CONTACTS)),
       "lift-off": ({"position": (0, 0, R), "plate": (0, 0, 0, -30.0),
                     "a_center": (0, 0, -450.0)}, lifted),
       "on a plate that is thrown up": (
           {"position": (0, 0, R), "plate": (0, 0, 20.0, 0), "a_center": (0, 0, -450.0)}, carried),
       "flung by a plate": (
           {"position": (0, 0, R), "velocity": (0, 0, 0.045 * 2 * np.pi * 11.6),
            "shake": (0.045, 11.6), "plate": (0, 0, 0, 0), "a_center": (0, 0, -450.0)}, flung),
       "slides in air": (
           {"position": (0, 0, R), "velocity": (2.0, 0, 0), "spin": (0, 150.0, 0),
            "friction": 0.0, "density": 1.2}, slid),
       "skids": ({"position": (0, 0, R), "velocity": (2.0, 0, 0)}, skidded((1, 0, 0), 2.0)),
       "skids up a slope": (
           {"position": (0.6 * R, 0, 0.8 * R), "velocity": (-0.016, 0, 0.012), "friction": 0.5,
            "a_normal": (0.6, 0, 0.8)}, skidded((0.8, 0, -0.6), -0.02, 0.5)),
       "slip that turns back on a steep slope": (
           {"position": (0.6 * R, 0, 0.8 * R), "velocity": (-0.016, 0, 0.012), "a_e": 0.0,
            "a_normal": (0.6, 0, 0.8)}, told(Status.COARSE_STEP)),
       "touches slowly": (
           {"position": (0, 0, R + 1e-6), "velocity": (0, 0, -3e-6)}, above((0, 0, 1))),
       "tossed in air": (
           {"position": (0, 0, 5.0), "velocity": (0, 0, 0.406), "density": 1.204}, tossed),
       "a plate that stops": (
           {"position": (0, 0, R), "velocity": (0, 0, 2.0), "plate": (0, 2.0, 0, 0),
            "later": (0, -2.0, 0, 0), "density": 1.2, "a_center": (0, 0, -450.0)}, thrown),
       "a plate that dips": (
           {"position": (0, 0, R), "plate": (0, 0, 0, 0), "later": (0, 0, -50.0, 1127.0),
            "a_center": (0, 0, -450.0)}, caught),
       "end of an even fall": ({"position": (0, 0, R + T), "velocity": (0, 0, -1.0),
                                "gravity": (0, 0, 0)}, at_the_end(1.0)),
       "end of a fall": ({"position": (0, 0, R + G / 2 * T**2)}, at_the_end(G * T)),
       "rolls off": ({"position": (0.1, 0, R), "velocity": (0.5, 0, 0), "spin": (0, 25.0, 0),
                      "a_half": 0.3}, rolled_off),
       "skids off": ({"position": (0.28, 0, R), "velocity": (0.3924, 0, 0), "a_half": 0.3},
                     skidded_off),
       "a ball of 1 µm": ({"radius": 1e-6, "position": (0, 0, 1e-6)},
                          lambda rollout: ok(rollout, (0, 0, 1e-6), 1e-8, 1e-12))}
)  # fmt: skip


PRECISIONS = [
    pytest.param(jnp.float32, id="f32"),
    pytest.param(jnp.float64, id="f64", marks=pytest.mark.slow),
]


@pytest.fixture(scope="module", params=PRECISIONS)
def played(request):
    numbers = [DEFAULT | changes for changes, _ in SCENES.values()]
    batch = {key: jnp.asarray([one[key] for one in numbers], request.param) for key in DEFAULT}
    return jax.tree.map(np.asarray, jax.jit(jax.vmap(run))(batch))


@pytest.mark.parametrize("name", SCENES)
def test_right_or_told(played, name):
    SCENES[name][1](jax.tree.map(lambda leaf: leaf[list(SCENES).index(name)], played))


@pytest.mark.slow
def test_slope_through_lift_off():
    """d/dc of the height after a plate at −c t³ fell away."""

    def ours(c):
        numbers = DEFAULT | SCENES["lift-off"][0] | {"plate": jnp.stack([0 * c, 0 * c, 0 * c, -c])}
        return run({k: jnp.asarray(v, c.dtype) for k, v in numbers.items()}).final.position[2]

    def true(c):
        t = G / (6 * c)
        return R - c * t**3 - 3 * c * t**2 * (T - t) - G / 2 * (T - t) ** 2

    np.testing.assert_allclose(jax.grad(ours)(30.0), jax.grad(true)(30.0), rtol=1e-4)
