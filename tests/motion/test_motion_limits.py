"""Penalty and effort against closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffsim.motion import MinimumJerk, Polynomial, effort, limit_penalty

LIMITS = ("speed", "acceleration", "angular_speed", "angular_acceleration")


GENERATOR = Polynomial.create(degree=2, duration=2.0, scale=np.ones(6))


@jax.jit
def penalties(weights, limits):
    """Every limit alone (the others infinite), for x = w s² and ρ = w' s², each on one axis."""
    alone = jnp.where(np.eye(4, dtype=bool), limits, jnp.inf)
    path = GENERATOR(weights)
    return jax.vmap(lambda row: limit_penalty(path, points=201, **dict(zip(LIMITS, row))))(alone)


gradients = jax.jit(jax.jacrev(penalties))


def along(displacement, angle):
    return jnp.array([displacement, 0.0, 0.0, 0.0, angle, 0.0])


def test_no_penalty_within_the_limits():
    limits = jnp.array([3.1, 1.6, 2.1, 1.1])  # x = 3 (t/2)²: at most 3 m/s, 1.5 m/s²
    weights = along(3.0, 2.0)
    assert not np.any(penalties(weights, limits))
    assert not np.any(gradients(weights, limits))


def test_penalty_beyond_the_limits():
    limits = jnp.ones(4)
    result = penalties(along(6.0, 4.0), limits)
    # Constant accelerations a of 3 and 2: (a − 1)². Speeds a t from 0 to 2 a: the mean over [0, 2]
    # of max(0, a t − 1)² is (2 a − 1)³ / (6 a), and 201 points miss it by 1/400 of the last one.
    np.testing.assert_allclose(result[1::2], [4.0, 1.0], rtol=1e-12)
    np.testing.assert_allclose(result[::2], [5**3 / 18, 3**3 / 12], rtol=0.02)


def test_penalty_gradient():
    limits = jnp.ones(4)
    weights, direction = along(6.0, 4.0), jnp.arange(1.0, 7.0)
    forward = jax.jvp(lambda w: penalties(w, limits), (weights,), (direction,))[1]
    reverse = gradients(weights, limits) @ direction
    late, early = (penalties(weights + by * direction, limits) for by in (1e-6, -1e-6))
    np.testing.assert_allclose(forward, reverse, rtol=1e-12)
    np.testing.assert_allclose(forward, (late - early) / 2e-6, rtol=1e-6)


def test_at_rest_everything_is_zero():
    limits = jnp.ones(4)
    assert not np.any(penalties(jnp.zeros(6), limits))
    assert not np.any(gradients(jnp.zeros(6), limits))


def test_effort_of_a_minimum_jerk_motion():
    # ẍ = D/T² (60 s − 180 s² + 120 s³), so the mean of ẍ² is 120/7 D²/T⁴; the same for one axis.
    generator = MinimumJerk.create(via_times=[], duration=0.5, scale=np.ones(6))
    run = jax.jit(lambda w: effort(generator(w), lever=0.3, points=400))
    exact = 120 / 7 * (0.4**2 + 0.3**2 * 0.7**2) / 0.5**4
    np.testing.assert_allclose(run(along(0.4, 0.7)), exact, rtol=1e-4)  # midpoint rule, O(1/n²)


def test_points_are_checked():
    path = Polynomial.create()(jnp.zeros(24))
    with pytest.raises(ValueError, match="points: expected an integer of at least 2, got 1"):
        limit_penalty(path, points=1)
