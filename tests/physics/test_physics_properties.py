"""What holds for every flight, on drawn ones: conservation, symmetries, reversal, no clock."""

import jax.numpy as jnp
import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from jax.scipy.spatial.transform import Rotation
from one_surface import DURATION, MAX_IMPACTS, STEPS, play, setup

from diffsim.physics import Impulse, Status, simulate

R, G = 0.02, 9.81
UNIT, STILL = st.floats(0, 1), 3 * ((0.0, 0.0, 0.0),)


def vectors(size):
    return st.tuples(*3 * [st.floats(-size, size)])


@st.composite
def starts(draw, restitution=UNIT, friction=UNIT, density=0.0, center=STILL):
    """A spinning ball half a metre over a tilted plane; one kind, so that all share code."""
    tilt = draw(st.tuples(st.floats(-1, 1), st.floats(-1, 1), st.just(1.0)))
    return setup(
        driven=True, two_sided=True, normal=tilt, velocity=draw(vectors(3.0)),
        spin=draw(vectors(100.0)), restitution=draw(restitution), friction=draw(friction),
        density=density, center=center if center is STILL else draw(center),
    )  # fmt: skip


def flown(start, duration=DURATION):
    rollout = play(start, duration)
    assume(rollout.status == Status.OK)
    return rollout


def arrays(state):
    return np.concatenate([state.position, state.velocity, R * state.spin], axis=-1)


def energy(state):
    """Per mass, of a shell."""
    speeds = np.sum(state.velocity**2, -1) + 2 / 3 * R**2 * np.sum(state.spin**2, -1)
    return speeds / 2 + G * state.position[..., 2]


@settings(max_examples=20)
@given(starts(density=1.2))
def test_energy_never_rises_on_a_plane_at_rest(start):
    rollout = flown(start)
    heights = energy(rollout.states)
    # Lift turns the ball without work, but for the truncation of 15 ms steps.
    assert np.diff(heights).max() < 1e-7 * max(1, heights[0])
    valid = np.asarray(rollout.impacts.valid)
    lost = energy(rollout.impacts.before) - energy(rollout.impacts.after)
    assert np.all(lost[valid] >= -1e-10)


MOVING = st.tuples(st.just((0.0, 0.0, 0.0)), vectors(1.0), vectors(2.0))


@settings(max_examples=20)
@given(starts(restitution=st.floats(0, 1.5), center=MOVING))
def test_angular_momentum_about_the_contact_is_kept_whatever_moves(start):
    impacts = flown(start).impacts
    valid, normal = np.asarray(impacts.valid), np.array(start.normal) / np.linalg.norm(start.normal)
    kick = np.asarray(impacts.after.velocity - impacts.before.velocity)[valid]
    arm = R * np.sign(kick @ normal)[:, None] * normal  # of the side that is hit
    turn = np.asarray(impacts.after.spin - impacts.before.spin)[valid]
    np.testing.assert_allclose(np.cross(arm, kick) + 2 / 3 * R**2 * turn, 0, atol=1e-12)


@settings(max_examples=20)
@given(starts(center=MOVING), vectors(2.0))
def test_a_boost_changes_nothing_in_a_vacuum(start, boost):
    boost = np.array(boost)
    seen = start.replace(velocity=start.velocity + boost, center=start.center.at[1].add(boost))
    wanted = arrays(flown(start).final) + np.concatenate([boost * DURATION, boost, np.zeros(3)])
    np.testing.assert_allclose(arrays(flown(seen).final), wanted, atol=1e-8)


@settings(max_examples=20)
@given(starts(density=1.2, center=MOVING), vectors(3.0))
def test_a_turn_turns_everything(start, turn):
    turn = Rotation.from_rotvec(jnp.array(turn)).as_matrix()
    keys = ("position", "velocity", "spin", "gravity", "normal")
    turned = start.replace(**{key: turn @ getattr(start, key) for key in keys})
    turned = turned.replace(center=start.center @ turn.T)
    wanted = (arrays(flown(start).final).reshape(3, 3) @ np.array(turn).T).ravel()
    np.testing.assert_allclose(arrays(flown(turned).final), wanted, atol=1e-8)


@settings(max_examples=20)
@given(starts(restitution=st.just(1.0), friction=st.just(0.0)))
def test_an_elastic_flight_runs_back(start):
    end = flown(start).final
    back = flown(start.replace(position=end.position, velocity=-end.velocity)).final
    found = [back.position, -back.velocity, back.spin * R]
    wanted = [start.position, start.velocity, start.spin * R]
    np.testing.assert_allclose(np.stack(found), np.stack(wanted), atol=1e-8)


@settings(max_examples=20)
@given(starts(restitution=st.floats(0.7, 1)), st.floats(0.1, 0.9))
def test_a_flight_does_not_know_where_its_steps_end(start, share):
    half = flown(start, share * DURATION).final
    parts = flown(start.replace(**vars(half)), (1 - share) * DURATION).final
    np.testing.assert_allclose(arrays(parts), arrays(flown(start).final), atol=1e-8)


@settings(max_examples=20)
@given(
    starts(density=1.2, center=MOVING),
    st.floats(-1, 1),
    st.floats(0, 0.1),
    st.integers(-5, 5),
    st.integers(-5, 5),
)
def test_units_of_length_and_time_change_nothing(start, turn_rate, slope, meters, seconds):
    """Every number in other units, powers of two: so is where it ends."""
    start = start.replace(
        turn_rate=jnp.asarray(turn_rate), restitution_slope=jnp.asarray(slope),
        half_extents=jnp.array([3.0, 3.0]), spin_decay_time=jnp.asarray(2.0),
    )  # fmt: skip
    x, t = 2.0**meters, 2.0**seconds
    powers = {
        "position": x, "velocity": x / t, "spin": 1 / t, "gravity": x / t**2, "radius": x,
        "center": (x / t ** jnp.arange(3.0))[:, None], "turn_rate": 1 / t, "half_extents": x,
        "restitution_slope": t / x, "density": x**-3, "spin_decay_time": t,
    }  # fmt: skip
    other = start.replace(**{name: unit * getattr(start, name) for name, unit in powers.items()})
    rollout = simulate(
        other.world, other.state, other.path, duration=t * DURATION, step=t * DURATION / STEPS,
        max_impacts=MAX_IMPACTS, contact=Impulse(0.01 * x / t),
    )  # fmt: skip
    plain = flown(start)
    assert rollout.status == plain.status
    for states, wanted in (
        (rollout.final, plain.final),
        (rollout.impacts.after, plain.impacts.after),
    ):
        for name in ("position", "velocity", "spin"):
            np.testing.assert_allclose(
                getattr(states, name) / powers[name], getattr(wanted, name), rtol=1e-6, atol=1e-8
            )
