"""What every contact model and force law that is listed must do."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffsim.physics import Air, Ball, BallState, Surface, World, floor, paddle, simulate
from diffsim.physics.contact.base import impulse_law
from diffsim.physics.contact.table import CONTACTS, make
from diffsim.physics.flight import AERODYNAMICS, SpinRatioLift
from diffsim.physics.presets import PRESETS, rubber_paddle
from diffsim.physics.vector import Vector

R, A, G = 0.02, 2 / 3, 9.81
SETTINGS = {"compliant": {"stiffness": 1e5}, "smoothed": {"sharpness": 1e5, "stiffness": 1e5}}
STEP = 1e-3
PLAYS = np.array([[0.8, 0.3], [0.8 + STEP, 0.3], [0.8 - STEP, 0.3], [0.0, 0.3], [0.8, 0.0]])


def played(contact):
    """Oblique bounces at each restitution and friction, and the slope of the end in the first."""
    ball = Ball.create()  # outside of the trace, so that a penalty model knows its mass

    def run(restitution, friction):
        world = World.create([floor(restitution, friction)], ball=ball, air=Air.create(0.0))
        state = BallState.create([0.0, 0.0, R + 0.05], [1.0, 0.3, -1.0], [10.0, 40.0, 5.0])
        return simulate(world, state, duration=0.1, contact=contact)

    def both(restitution, friction):
        way = (jnp.ones_like(restitution), jnp.zeros_like(friction))
        rollout, slope = jax.jvp(run, (restitution, friction), way)
        return rollout, slope.final

    return jax.tree.map(np.asarray, jax.jit(jax.vmap(both))(*PLAYS.T))


@pytest.mark.parametrize("name", CONTACTS)
def test_a_contact_model_keeps_the_contract(name):
    rollout, slope = played(make(name, **SETTINGS.get(name, {})))
    before, after = (
        jax.tree.map(lambda x: x[:, 0], state)
        for state in (rollout.impacts.before, rollout.impacts.after)
    )
    assert np.all(rollout.status == 0)
    assert np.all(rollout.impacts.valid.sum(1) >= 1)

    def energy(state):
        turning = A * R**2 * np.sum(state.spin**2, -1)
        return (np.sum(state.velocity**2, -1) + turning) / 2 + G * state.position[..., 2]

    soft = name != "impulse"
    energies = energy(rollout.states)  # without that of a spring which is still pressed
    assert np.diff(energies).max() < (1e-3 if soft else 1e-9) * energies.max()
    assert energies[:, -1].max() < energies[:, 0].min() - 0.01

    def momentum(state):  # about the point of contact
        arm = np.array([0, 0, R])
        return np.cross(arm, state.velocity) + A * R**2 * state.spin

    # The arm is shorter by the depth, up to 4 % of the radius.
    np.testing.assert_allclose(momentum(after), momentum(before), atol=5e-4 if soft else 1e-13)

    # Limits: the given restitution, none, and no friction.
    ratio = -after.velocity[:, 2] / before.velocity[:, 2]
    error = np.where(PLAYS[:, 0] > 0, 0.03, 0.12)  # a step does not resolve a dashpot for e = 0
    assert np.all(np.abs(ratio - PLAYS[:, 0]) < (error if soft else 1e-9))
    for at in ("velocity", "spin"):
        start, end = getattr(before, at)[-1], getattr(after, at)[-1]
        np.testing.assert_allclose(end[:2], start[:2], rtol=1e-12)

    ends = np.concatenate([rollout.final.position, rollout.final.velocity], axis=1)
    slopes = np.concatenate([slope.position, slope.velocity], axis=1)
    error = 2e-2 if soft else 1e-5
    np.testing.assert_allclose(slopes[0], (ends[1] - ends[2]) / (2 * STEP), rtol=error, atol=error)


BAD = {
    "negative damping": ("compliant", {"stiffness": 1e4, "damping": -5.0}, "damping"),
    "no stiffness": ("compliant", {"stiffness": 0.0}, "stiffness"),
    "no slip speed": ("smoothed", {"sharpness": 1e4, "slip_speed": 0.0}, "slip_speed"),
    "infinite sharpness": ("smoothed", {"sharpness": np.inf}, "sharpness"),
    "half a step": ("compliant", {"stiffness": 1e4, "substeps": 0.5}, "substeps"),
    "rest speed": ("impulse", {"rest_speed": np.nan}, "rest_speed"),
    "no name": ("glue", {}, "contact"),
}


@pytest.mark.parametrize("case", BAD)
def test_settings_out_of_range_are_refused(case):
    name, settings, what = BAD[case]
    with pytest.raises(ValueError, match=f"^{what}: expected"):
        make(name, **settings)
    if name in CONTACTS:  # nor do they pass without create
        with pytest.raises(ValueError, match=f"^{what}: expected"):
            CONTACTS[name](**settings).prepared(World.create(), 0.01)


def test_settings_are_checked_inside_a_trace():
    state = BallState.create([0.0, 0.0, 1.0])

    def end(rest_speed):
        return simulate(
            World.create(), state, duration=0.1, contact=CONTACTS["impulse"](rest_speed)
        )

    with pytest.raises(ValueError, match=r"^rest_speed: expected"):
        jax.jit(lambda: end(float("nan")))()


def test_too_few_substeps_are_refused():
    with pytest.raises(ValueError, match=r"^substeps: expected at least"):
        make("compliant", stiffness=1e4, substeps=1).prepared(World.create(), 0.05)
    strong = make("compliant", stiffness=1e4, damping=1e4).prepared(World.create(), 0.05)
    assert strong.substeps >= 0.05 * 1e4 / 2.7e-3


def test_a_penalty_model_has_no_tangential_restitution():
    world = World.create([Surface.create(tangential_restitution=0.5)])
    with pytest.raises(ValueError, match=r"^tangential_restitution: expected 0"):
        make("compliant", stiffness=1e4).prepared(world, 0.01)


@pytest.mark.parametrize("name", AERODYNAMICS)
def test_a_force_law_keeps_the_contract(name):
    law = AERODYNAMICS[name].create()
    rng = np.random.default_rng(0)
    velocity, spin = (Vector.of(jnp.asarray(rng.normal(size=(3, 50)) * s)) for s in (9.0, 200.0))
    ball, air = Ball.create(), Air.create()
    acceleration = law(ball, air, velocity, spin)
    assert np.all(acceleration.dot(velocity) < 0)  # the air never speeds a ball up
    turned = law(ball, air, velocity, -spin)
    lift = (acceleration - turned) * 0.5
    np.testing.assert_allclose(lift.dot(velocity), 0, atol=1e-10)
    np.testing.assert_allclose(lift.dot(spin), 0, atol=1e-8)
    still = law(ball, air, velocity * 0, spin).array
    np.testing.assert_array_equal(still, 0)


@pytest.mark.parametrize("settings", [{"slope": 0.0}, {"saturation": -1.0}, {"slope": np.nan}])
def test_force_laws_out_of_range_are_refused(settings):
    (what,) = settings
    for make_one in (
        SpinRatioLift.create,
        lambda **s: World.create(aerodynamics=SpinRatioLift(**s)),
    ):
        with pytest.raises(ValueError, match=f"^{what}: expected"):
            make_one(**settings)


def test_two_surfaces_of_one_name_are_refused():
    with pytest.raises(ValueError, match=r"^surfaces: expected each its own name, got two 'floor'"):
        World.create([floor(), floor(height=1.0)])


@pytest.mark.parametrize("turn", [0.0, 0.3, 0.76, 1.0])
@pytest.mark.parametrize("friction", [0.05, 5.0])
def test_rubber_turns_the_slip_round(turn, friction):
    """u_t⁺ = −e_t u_t where it grips; energy falls, and not at all where e = e_t = 1."""
    up, zero = Vector(0.0, 0.0, 1.0), Vector(0.0, 0.0, 0.0)
    velocity, spin = Vector(1.0, -2.0, -3.0), Vector(50.0, 80.0, 20.0)
    after, spun, *_ = impulse_law(Ball.create(), up, zero, velocity, spin, 1.0, friction, turn)

    def slip(v, w):
        return (v - R * w.cross(up)).array[:2]

    def energy(v, w):
        return float(v.dot(v) + A * R**2 * w.dot(w)) / 2

    def momentum(v, w):
        return (Vector(0.0, 0.0, R).cross(v) + A * R**2 * w).array

    if friction == 5.0:
        np.testing.assert_allclose(slip(after, spun), -turn * slip(velocity, spin), atol=1e-12)
    loss = energy(velocity, spin) - energy(after, spun)
    assert loss == pytest.approx(0, abs=1e-12) if turn == 1 and friction == 5 else loss > 0.01
    np.testing.assert_allclose(momentum(after, spun), momentum(velocity, spin), atol=1e-13)
    tangential = np.linalg.norm((after - velocity).array[:2])
    assert tangential <= friction * 2 * 3.0 + 1e-12


def test_a_rubber_paddle_turns_the_spin_in_a_rollout():
    """Ball of pure spin on a paddle at rest: w⁺ = w (1 − (1 + e_t)/(1 + a))."""
    still = jnp.zeros(3)
    ends = []
    for bat in (paddle(0.5, 0.8, 5.0), rubber_paddle(0.5)):
        world = World.create([bat.replace(driven=False)], air=Air.create(0.0))
        state = BallState.create([0.0, 0.0, R + 0.1], still, [0.0, 40.0, 0.0])
        rollout = simulate(world, state, duration=0.2)
        turn = float(bat.tangential_restitution)
        assert float(rollout.final.spin[1]) == pytest.approx(40 * (1 - (1 + turn) / (1 + A)))
        ends.append(float(rollout.final.spin[1]))
    assert ends[0] > 0 > ends[1]


NAMED = {  # C_D, density, e and its slope, friction of the table; e and radius of the paddle
    "ittf": (0.4, 1.204, None, 0.0, 0.25, 0.78, 0.08),
    "robot-table-tennis": (0.472, 1.225, 0.974, 0.0, 0.1, 0.78, 0.08),
    "ace": (0.55, 1.204, 0.98, 0.02, 0.25, 0.78, 0.08),
    "koc": (0.1414 * 2 * 2.7e-3 / (1.204 * np.pi * R**2), 1.204, 0.88, 0.0, 0.25, 0.78, 0.076),
    "nakashima": (0.4, 1.204, 0.93, 0.0, 0.25, 0.78, 0.08),
}


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_bounces_as_its_source_says(name):
    """A ball dropped 30 cm in its own air: the speed after, and friction on a ball with spin."""
    drag, density, e, slope, friction, bat_e, bat_radius = NAMED[name]
    world = PRESETS[name]()
    assert float(world.surfaces[-1].restitution) == pytest.approx(bat_e)
    assert float(world.surfaces[-1].disk_radius) == pytest.approx(bat_radius)
    ball = world.ball.replace(magnus_coefficient=jnp.asarray(0.0))
    alone = World.create(world.surfaces[:1], ball=ball, air=world.air)
    state = BallState.create([0.0, 0.0, 0.76 + R + 0.3], [0.0, 0.0, 0.0], [0.0, 400.0, 0.0])
    rollout = simulate(alone, state, duration=0.4, step=0.01)
    hit = jax.tree.map(lambda x: x[0], rollout.impacts)
    k = 0.5 * density * drag * np.pi * R**2 / 2.7e-3
    fall = -float(hit.before.velocity[2])
    assert fall == pytest.approx(np.sqrt(G / k * -np.expm1(-2 * k * 0.3)), rel=1e-6)
    if e is None:
        e = np.sqrt(np.expm1(2 * k * 0.23) / -np.expm1(-2 * k * 0.3))
    e -= slope * fall
    assert float(hit.after.velocity[2]) == pytest.approx(e * fall, rel=1e-6)
    gained = float(hit.after.velocity[0] - hit.before.velocity[0])  # it slips
    assert gained == pytest.approx(friction * (1 + e) * fall, rel=1e-6)


def test_the_handbook_drop_holds_in_its_own_air():
    world = PRESETS["ittf"]()
    world = World.create(world.surfaces[:1], ball=world.ball, air=world.air)
    rollout = simulate(
        world, BallState.create([0.0, 0.0, 0.76 + R + 0.3]), duration=0.6, step=0.001
    )
    after = np.asarray(rollout.times) > float(rollout.impacts.time[0])
    top = np.asarray(rollout.states.position[:, 2])[after].max() - 0.76 - R
    assert top == pytest.approx(0.23, abs=2e-6)
