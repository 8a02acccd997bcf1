"""Motion whose closed form is known: bounces, impacts, drag, rest, symmetries and the order.

Tolerances: in a vacuum the dense output holds the parabola exactly, so 1e-10 allows for rounding
alone; with air they allow for the truncation of 15 ms steps and say so.
"""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from one_surface import DURATION, STEPS, final, forward_jacobian, play, reverse_jacobian, setup

from diffsim.physics import Pose, Status, scene, simulate

G, R, Y, V = 9.81, 0.02, slice(2, 3), slice(3, 6)
EXACT = {"rtol": 0, "atol": 1e-10}


def moving(**changes):
    return setup(driven=True, two_sided=True, **changes)


def bounce(y0, v0, e, radius, g, duration=DURATION):
    """Height and speed after one bounce on z = 0."""
    hit = (v0 + jnp.sqrt(v0**2 + 2 * g * (y0 - radius))) / g
    left = duration - hit
    up = e * (g * hit - v0)
    return jnp.stack([radius + up * left - g / 2 * left**2, up - g * left])


def test_one_bounce_value_and_slopes():
    point = [jnp.asarray(x) for x in (0.5, 0.3, 0.85, R, G)]
    start = moving(position=(0, 0, 0.5), velocity=(0, 0, 0.3), restitution=0.85)
    np.testing.assert_allclose(final(start)[jnp.array([2, 5])], bounce(*point), **EXACT)
    true = jnp.stack(jax.jacfwd(bounce, argnums=range(5))(*point), axis=-1)
    ours = forward_jacobian(start)
    slopes = [
        ours.position[..., 2], ours.velocity[..., 2], ours.restitution, ours.radius,
        -ours.gravity[..., 2],
    ]  # fmt: skip
    np.testing.assert_allclose(jnp.stack(slopes, axis=-1)[jnp.array([2, 5])], true, **EXACT)


def test_one_elastic_bounce_turns_the_slope_round():
    ours = forward_jacobian(moving(gravity=(0, 0, 0), velocity=(0, 0, -1.5)))
    assert ours.position[2, 2] == pytest.approx(-1, abs=1e-12)
    assert ours.velocity[5, 2] == pytest.approx(-1, abs=1e-12)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (jax.jacrev, jax.jacfwd),
        *(
            pytest.param(f, s, marks=pytest.mark.slow)
            for f, s in (
                (jax.jacfwd, jax.jacfwd),
                (jax.jacfwd, jax.jacrev),
                (jax.jacrev, jax.jacrev),
            )
        ),
    ],
)
def test_curvature_through_a_bounce(first, second):
    def height(y):
        rollout = play(setup(restitution=0.85).replace(position=jnp.zeros(3).at[2].set(y)))
        return rollout.final.position[2]

    ours = jax.jit(second(first(height)))(jnp.asarray(0.5))
    true = jax.hessian(lambda y: bounce(y, 0.0, 0.85, R, G)[0])(0.5)
    assert float(ours) == pytest.approx(float(true), rel=1e-9)


def test_times_of_the_bounces_of_a_drop():
    e, drop = 0.8, np.sqrt(2 * (0.5 - R) / G)
    impacts = play(setup(restitution=e), 2.0).impacts
    count = int(impacts.valid.sum())
    assert count >= 6
    times = drop * (1 + 2 * np.cumsum([0, *(e ** np.arange(1, count))]))
    np.testing.assert_allclose(impacts.time[:count], times, **EXACT)


def test_saltation_matrix_of_a_slope():
    n, e = np.array([0.2, -0.3, 1.0]), 0.7
    n /= np.linalg.norm(n)
    start = moving(normal=n, restitution=e, position=(0.1, 0, 0.4), velocity=(0.3, 0.2, -0.5))
    impacts, g = play(start).impacts, np.asarray(start.gravity)
    assert int(impacts.valid.sum()) == 1
    along = n @ impacts.before.velocity[0]
    flip, zero = np.eye(3) - (1 + e) * np.outer(n, n), np.zeros((3, 3))
    saltation = np.block([[flip, zero], [(1 + e) * (n @ g) * np.outer(n, n) / along, flip]])

    def flight(t):
        return np.block([[np.eye(3), t * np.eye(3)], [zero, np.eye(3)]])

    hit = float(impacts.time[0])
    true = flight(DURATION - hit) @ saltation @ flight(hit)
    ours = forward_jacobian(start)
    np.testing.assert_allclose(jnp.hstack([ours.position, ours.velocity])[:6], true, **EXACT)


def test_moving_paddle():
    n, e, v, paddle = np.array([0.6, 0, 0.8]), 0.75, np.array([0.5, 0.2, -1.0]), [-0.4, 0.3, 0.9]
    center = [[0, 0, 0], paddle, [0, 0, 0]]
    start = moving(normal=n, restitution=e, velocity=v, center=center, gravity=(0, 0, 0))
    kick = (1 + e) * np.outer(n, n)
    np.testing.assert_allclose(final(start)[V], v + kick @ (paddle - v), **EXACT)
    ours = forward_jacobian(start)
    np.testing.assert_allclose(ours.center[V, 1], kick, **EXACT)
    np.testing.assert_allclose(ours.velocity[V], np.eye(3) - kick, **EXACT)
    np.testing.assert_allclose(ours.center[V, 0], 0, **EXACT)
    np.testing.assert_allclose(ours.center[:3, 0], kick, **EXACT)


def test_restitution_that_falls_with_speed():
    start = setup(gravity=(0, 0, 0), velocity=(0, 0, -2.0), restitution=0.95)
    speed = final(start.replace(restitution_slope=jnp.asarray(0.1)))[5]
    assert speed == pytest.approx((0.95 - 0.1 * 2) * 2, abs=1e-12)


@pytest.mark.parametrize("restitution", [0.9, 1.0, 1.2])
def test_only_a_ball_that_loses_speed_is_caught_when_slow(restitution):
    """At 5 mm/s, under the speed of rest: an elastic surface throws it back all the same."""
    slow = {"position": (0, 0, R + 1e-3), "velocity": (0, 0, -5e-3), "gravity": (0, 0, 0)}
    after = final(setup(restitution=restitution, **slow))[5]
    assert after == pytest.approx(5e-3 * restitution if restitution >= 1 else 0, abs=1e-12)


def skim(friction, **changes):
    """v_n = 2, v_t = 1 on a shell: stick needs μ (1 + e) 2 ≥ 1/(1 + 3/2), e = 0.5, so μ ≥ 2/15."""
    start = {"gravity": (0, 0, 0), "velocity": (1.0, 0, -2.0), "restitution": 0.5} | changes
    return moving(friction=friction, **start)


def test_stick_and_slip_meet_at_their_boundary():
    boundary = 0.4 / 3
    stick, slip = final(skim(2 * boundary)), final(skim(boundary / 2))
    assert stick[3] - R * stick[7] == pytest.approx(0, abs=1e-12)  # contact point at rest
    assert slip[3] == pytest.approx(1 - 3 * boundary / 2, abs=1e-12)
    assert slip[3] - R * slip[7] > 0.1
    above, below = final(skim(boundary + 1e-9)), final(skim(boundary - 1e-9))
    np.testing.assert_allclose(above[V], below[V], rtol=0, atol=1e-8)
    assert forward_jacobian(skim(2 * boundary)).friction[3] == pytest.approx(0, abs=1e-12)
    assert forward_jacobian(skim(boundary / 2)).friction[3] == pytest.approx(-3, abs=1e-10)


@pytest.mark.parametrize("friction", [0.05, 0.9])
def test_angular_momentum_about_the_contact_point_is_kept(friction):
    impacts = play(skim(friction, spin=(30.0, -80.0, 20.0))).impacts
    arm = np.array([0, 0, R])

    def momentum(state):
        return np.cross(arm, state.velocity[0]) + 2 / 3 * R**2 * np.asarray(state.spin[0])

    assert bool(impacts.valid[0])
    np.testing.assert_allclose(momentum(impacts.after), momentum(impacts.before), atol=1e-13)
    assert np.abs(impacts.after.spin[0] - impacts.before.spin[0]).max() > 1


def energy(state):
    """Per mass, of a shell."""
    spin = 2 / 3 * R**2 * np.sum(state.spin**2, -1)
    return np.sum(state.velocity**2, -1) / 2 + spin / 2 + G * state.position[..., 2]


def test_energy_never_rises():
    spin, velocity = (0.0, 60.0, 10.0), (0.5, 0.2, 0.0)
    rollout = play(
        setup(restitution=0.8, friction=0.3, density=1.2, velocity=velocity, spin=spin), 2.0
    )
    assert np.diff(energy(rollout.states)).max() < 1e-9  # the step's truncation
    valid = np.asarray(rollout.impacts.valid)
    loss = energy(rollout.impacts.before) - energy(rollout.impacts.after)
    assert loss[valid].min() >= -1e-12


def test_ten_seconds_of_bouncing_come_to_rest():
    rollout = play(setup(restitution=0.8), 10.0)
    assert rollout.status == Status.OK
    states = rollout.states
    assert np.min(states.position[:, 2]) - R >= -1e-6
    assert np.diff(energy(states)).max() < 1e-9
    assert np.abs(states.velocity[-1]).max() < 1e-9
    assert states.position[-1, 2] == pytest.approx(R, abs=1e-6)


def test_sliding_becomes_rolling_at_three_fifths():
    start = setup(position=(0, 0, R), velocity=(1.0, 0, 0), friction=0.3, restitution=0.8)
    rollout = play(start)
    np.testing.assert_allclose(rollout.final.velocity, [0.6, 0, 0], atol=1e-9)
    np.testing.assert_allclose(rollout.final.spin, [0, 0.6 / R, 0], atol=1e-7)
    sliding = int(0.4 / (0.3 * G) / (DURATION / STEPS))  # v falls by μg until it is 3/5
    times = rollout.times[:sliding]
    np.testing.assert_allclose(rollout.states.velocity[:sliding, 0], 1 - 0.3 * G * times, atol=1e-9)


def test_ball_laid_down_stays():
    start = moving(position=(0.1, 0.2, R), friction=0.3, restitution=0.8)
    rollout = play(start)
    np.testing.assert_allclose(rollout.states.position, [start.position] * (STEPS + 1), atol=1e-9)
    ours = forward_jacobian(start)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(ours))
    np.testing.assert_allclose(ours.radius[2], 1, atol=1e-9)  # it stands one radius high


def test_ball_rolls_off_the_edge():
    start = setup(
        position=(0, 0, R), velocity=(1.0, 0, 0), spin=(0, 1 / R, 0), friction=0.3,
        restitution=0.8, half_extents=(0.3, 0.3),
    )  # fmt: skip
    rollout = play(start)
    assert rollout.status == Status.OK
    step = DURATION / STEPS  # the edge is noticed at the end of a step
    off = DURATION - 0.3
    assert rollout.final.velocity[0] == pytest.approx(1, abs=1e-9)
    assert G / 2 * (off - 2 * step) ** 2 <= R - rollout.final.position[2] <= G / 2 * off**2 + 1e-9


def test_ball_stays_on_a_gently_swinging_paddle():
    amplitude, rate = 0.05, 8.0  # largest acceleration 3.2 m/s², less than g

    def path(t):
        zero = jnp.zeros_like(t)
        height, speed = amplitude * jnp.sin(rate * t), amplitude * rate * jnp.cos(rate * t)
        place, motion = (jnp.stack([zero, zero, z]) for z in (height, speed))
        return Pose(place, jnp.eye(3, dtype=t.dtype), motion, jnp.zeros(3, t.dtype))

    start = moving(position=(0, 0, R), velocity=(0, 0, amplitude * rate), restitution=0.5)
    rollout = simulate(
        start.world, start.state, path, duration=2.0, step=2.0 / STEPS, max_impacts=STEPS
    )
    gap = rollout.states.position[:, 2] - R - amplitude * jnp.sin(rate * rollout.times)
    np.testing.assert_allclose(gap, 0, atol=1e-6)


def test_fall_with_drag():
    start = setup(position=(0, 0, 5.0), density=1.2)
    drag = 0.5 * 1.2 * np.pi * R**2 * 0.4 / 2.7e-3
    limit = np.sqrt(G / drag)
    states, times = play(start).states, np.linspace(0, DURATION, STEPS + 1)
    np.testing.assert_allclose(
        states.velocity[:, 2], -limit * np.tanh(G * times / limit), atol=1e-9
    )
    fall = limit**2 / G * np.log(np.cosh(G * times / limit))
    np.testing.assert_allclose(states.position[:, 2], 5 - fall, atol=1e-9)


def test_rise_with_drag():
    drag, up = 0.5 * 1.2 * np.pi * R**2 * 0.4 / 2.7e-3, 8.0
    limit = np.sqrt(G / drag)
    phase = np.arctan(up / limit) - G * np.linspace(0, DURATION, STEPS + 1) / limit
    assert phase[-1] > 0
    states = play(setup(velocity=(0, 0, up), density=1.2)).states
    np.testing.assert_allclose(states.velocity[:, 2], limit * np.tan(phase), atol=1e-8)


def test_spin_decays_exponentially():
    start = setup(position=(0, 0, 5.0), spin=(3.0, -50.0, 100.0), spin_decay_time=0.8)
    rollout = play(start)
    decay = np.exp(-rollout.times / 0.8)[:, None]
    np.testing.assert_allclose(rollout.states.spin, decay * start.spin, rtol=1e-12)


def test_boost_changes_nothing():
    """In a vacuum: a drop on a paddle, seen from a frame that moves."""
    boost = np.array([0.7, -0.4, 0.3])
    start = moving(friction=0.3, spin=(10.0, 20.0, 30.0), restitution=0.8, velocity=(0.3, 0, -1.0))
    seen = final(
        start.replace(velocity=start.velocity + boost, center=start.center.at[1].set(boost))
    )
    true = final(start) + jnp.concatenate([boost * DURATION, boost, np.zeros(3)])
    np.testing.assert_allclose(seen, true, rtol=0, atol=1e-9)


def test_rotation_turns_everything():
    """With air and friction; the turn carries spin as it carries vectors."""
    turn, _ = np.linalg.qr(np.array([[1, 0.3, -0.2], [-0.4, 1, 0.5], [0.1, -0.6, 1]]))
    turn *= np.sign(np.linalg.det(turn))
    start = setup(
        friction=0.2, density=1.2, restitution=0.8, velocity=(1.0, 0.5, -1.0), spin=(10.0, 90, 30)
    )
    keys = ("position", "velocity", "spin", "gravity", "normal")
    turned = start.replace(**{key: turn @ getattr(start, key) for key in keys})
    assert play(start).impacts.valid[0]
    true = (turn @ final(start).reshape(3, 3).T).T.ravel()
    np.testing.assert_allclose(final(turned), true, rtol=1e-9, atol=1e-10)


def test_height_sweep_has_no_phase_of_the_steps():
    heights = np.linspace(0.3, 0.7, 41)  # the impact wanders over five steps
    ours = [final(setup(position=(0, 0, y), restitution=0.9))[2] for y in heights]
    true = [bounce(y, 0.0, 0.9, R, G)[0] for y in heights]
    np.testing.assert_allclose(ours, true, **EXACT)


MIXED = {
    "friction": 0.2,
    "density": 1.2,
    "restitution": 0.8,
    "restitution_slope": 0.02,
    "velocity": (1.0, 0.2, -1.0),
    "spin": (10.0, 60.0, 30.0),
    "spin_decay_time": 2.0,
    "turn_rate": 0.3,
    "half_extents": (3.0, 3.0),
    "center": ((0.0, 0.1, 0.0), (0.1, 0.0, 0.3), (0.0, 0.2, -0.4)),
}


def test_forward_reverse_and_differences_agree():
    """In the state, gravity, air, ball, surface and path, with everything switched on."""
    start = moving(**MIXED)
    assert play(start).impacts.valid[0]
    forward, reverse = forward_jacobian(start), reverse_jacobian(start)
    for name, leaf in vars(forward).items():
        if isinstance(leaf, jax.Array):
            np.testing.assert_allclose(leaf, getattr(reverse, name), atol=1e-10, err_msg=name)
    names = ("friction", "radius", "density", "restitution", "restitution_slope", "turn_rate")
    for name in (*names, "inertia_factor", "spin_decay_time", "gravity", "center", "velocity"):
        value = getattr(start, name)
        along = jnp.asarray(np.random.default_rng(0).normal(size=value.shape))
        h = 1e-4 * min(1.0, float(jnp.max(jnp.abs(value))))

        def at(k, name=name, value=value, along=along, h=h):
            return final(start.replace(**{name: value + k * h * along}))

        slope = (8 * (at(1) - at(-1)) - (at(2) - at(-2))) / (12 * h)
        ours = jnp.tensordot(getattr(forward, name), along, axes=along.ndim)
        # Five-point difference: rounding 1e-15/h of values up to 60.
        scale = 1e-7 * max(1.0, float(jnp.max(jnp.abs(slope))))
        np.testing.assert_allclose(ours, slope, rtol=0, atol=scale, err_msg=name)


def test_order_through_impacts():
    """Error at the end of ten bounces with drag and spin falls by 2^3.8 or more for each halving.

    One step is one rollout, so the duration, which may vary within compiled code, is the step.
    """
    loaded = scene.load(Path(__file__).parent / "scenes" / "many_bounces.toml")

    def end(step):
        state, hits = loaded.state, 0
        for _ in range(round(1.5 / step)):
            rollout = simulate(loaded.world, state, duration=step, step=step, max_impacts=4)
            state, hits = rollout.final, hits + int(rollout.impacts.valid.sum())
        assert hits >= 3
        return np.concatenate(jax.tree.leaves(state))

    truth = end(0.00625)
    errors = [np.abs(end(step) - truth)[:6].max() for step in (0.1, 0.05, 0.025)]
    orders = np.log2(np.divide(errors[:-1], errors[1:]))
    assert orders.min() >= 3.8, (errors, orders)
