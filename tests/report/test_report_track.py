"""The ball between grid times and at impacts, against closed forms."""

import jax
import numpy as np
import pytest

from diffsim.physics import Status
from diffsim.report.track import Track, tracks

G, DROP, E = 9.81, 0.3, 0.8
HIT = float(np.sqrt(2 * DROP / G))


@pytest.fixture
def drop(vacuum_rollout):
    """Make rollouts of a ball dropped 0.3 m that rebounds with e = 0.8, on a given grid."""
    bounce = (HIT, 0, [1.0, 0.0, E * G * HIT])

    def make(step=0.1, duration=0.6):
        return vacuum_rollout([0.0, 0.0, DROP], [1.0, 0.0, 0.0], [bounce], duration, step)

    return make


def height(t):
    """z of the ball, m."""
    after = t - HIT
    return np.where(after < 0, DROP - G * t**2 / 2, E * G * HIT * after - G * after**2 / 2)


@pytest.mark.parametrize("step", [0.1, HIT / 2, 0.3])
def test_parabolas_are_reproduced_through_the_impact(drop, step):
    # Cubics hold a parabola exactly, so only rounding is left. At step = HIT/2 a grid point falls
    # on the impact; its state, the one after, must not bend the piece before.
    t = np.linspace(0, 2 * step, 200)
    position, velocity = Track.of(drop(step, 2 * step))(t)
    np.testing.assert_allclose(position[:, 2], height(t), atol=1e-12)
    np.testing.assert_allclose(position[:, 0], t, atol=1e-12)
    np.testing.assert_allclose(velocity[t < HIT, 2], -G * t[t < HIT], atol=1e-12)


def test_height_at_the_impact_is_the_impact_states_height(drop):
    rollout = drop()
    track = Track.of(rollout)
    position, velocity = track(np.array([HIT - 1e-9, HIT]))
    np.testing.assert_allclose(position[1], rollout.impacts.before.position[0], atol=1e-12)
    np.testing.assert_allclose(velocity[0], rollout.impacts.before.velocity[0], atol=2e-8)  # G·1e-9
    np.testing.assert_allclose(velocity[1], rollout.impacts.after.velocity[0], atol=1e-12)
    # The lowest point drawn is the impact; the grid alone never comes so low.
    assert track.curve()[1][:, 2].min() == pytest.approx(0, abs=1e-12)
    assert rollout.states.position[:, 2].min() > 0.05


def test_velocity_is_the_derivative_of_position(drop):
    rollout = drop()
    states = rollout.states.replace(velocity=rollout.states.velocity * [1.3, 1, 0.8])  # no parabola
    track, t, h = Track.of(rollout.replace(states=states)), np.array([0.03, 0.17, 0.55]), 1e-6
    slope = (track(t + h)[0] - track(t - h)[0]) / (2 * h)
    np.testing.assert_allclose(track(t)[1], slope, atol=1e-8)  # rounding over h: 1e-10


def test_a_track_ends_where_the_rollout_broke_down(drop):
    rollout = drop()
    lost = rollout.states.position.copy()
    lost[4:] = np.nan
    broken = rollout.replace(states=rollout.states.replace(position=lost))
    assert Track.of(broken).end == pytest.approx(0.3)
    full = rollout.replace(status=np.array(Status.IMPACTS_EXHAUSTED))
    assert Track.of(full).end == pytest.approx(HIT)
    lost[:] = np.nan
    with pytest.raises(ValueError, match="expected a finite state to start from"):
        Track.of(broken)


def test_single_batched_and_listed_rollouts_give_the_same_tracks(drop):
    one = drop()
    batch = jax.tree.map(lambda leaf: np.stack([leaf, leaf])[None], one)
    found = tracks([one, batch])
    assert len(found) == 3
    for track in found:
        np.testing.assert_array_equal(track.positions, found[0].positions)
    with pytest.raises(ValueError, match="expected one, got a batch"):
        Track.of(batch)
    with pytest.raises(ValueError, match="at least one"):
        tracks([])
    with pytest.raises(TypeError, match="expected Rollout"):
        tracks(one.states)
