"""A rollout between its grid points, and how it shows itself."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from one_surface import DURATION, play, setup

from diffsim.physics.interpolate import hermite, states_at

G, E = 9.81, 0.8


def test_a_cubic_is_met_exactly():
    """x = 2 − 3t + 5t² − 7t³ between t = 0.5 and 2, with its slope."""
    motion = np.polynomial.Polynomial([2.0, -3.0, 5.0, -7.0])
    begin, end, u = 0.5, 2.0, np.linspace(0, 1, 7)
    ends = [f(t) for t in (begin, end) for f in (motion, motion.deriv())]
    x, v = hermite(u, end - begin, *ends)
    times = begin + u * (end - begin)
    np.testing.assert_allclose(x, motion(times), rtol=1e-13)
    np.testing.assert_allclose(v, motion.deriv()(times), rtol=1e-13)


@pytest.fixture(scope="module")
def drop():
    """From 0.5 m, with spin about z, on the floor at 0.02 m."""
    return play(setup(restitution=E, spin=(0.0, 0.0, 3.0)))


def test_a_drop_is_its_parabolas_before_and_after_the_bounce(drop):
    """Parabolas are cubics, so exact; outside the rollout it stays where it began or ended."""
    hit = np.sqrt(2 * 0.48 / G)
    asked = jnp.array([-1.0, 0.0, 0.1037, hit - 1e-6, hit + 1e-6, 0.4011, DURATION, 9.0])
    states = jax.jit(states_at)(drop, asked)
    times = np.clip(asked, 0, DURATION)
    after = times > hit
    since = times - hit
    up = E * G * hit
    height = np.where(after, 0.02 + up * since - G * since**2 / 2, 0.5 - G * times**2 / 2)
    speed = np.where(after, up - G * since, -G * times)
    np.testing.assert_allclose(states.position[:, 2], height, atol=1e-10)
    np.testing.assert_allclose(states.velocity[:, 2], speed, atol=1e-9)
    np.testing.assert_allclose(states.spin, [[0, 0, 3.0]] * 8, atol=1e-12)
    with pytest.raises(ValueError, match=r"times: expected shape \(k,\), got \(1, 2\)"):
        states_at(drop, jnp.zeros((1, 2)))


def test_room_for_no_more_impacts_changes_nothing(drop):
    """After the last of as many as there is room for, in its own step and later."""
    hit = np.sqrt(2 * 0.48 / G)
    full = dataclasses.replace(drop, impacts=jax.tree.map(lambda leaf: leaf[:1], drop.impacts))
    asked = jnp.array([0.1, hit - 1e-3, hit, hit + 1e-3, hit + 0.1])
    for found, wanted in zip(*(jax.tree.leaves(states_at(r, asked)) for r in (full, drop))):
        np.testing.assert_array_equal(found, wanted)


def test_a_rollout_tells_its_impacts_and_while_it_is_traced_its_shape(drop):
    hit = np.sqrt(2 * 0.48 / G)
    assert repr(drop).startswith(f"Rollout(states=(41,) to 0.6 s, impacts=[{hit:.4g}], final=[")
    told = []
    jax.eval_shape(lambda rollout: told.append(repr(rollout)), drop)
    assert told == ["Rollout(times=float64[41], status=int64[])"]
