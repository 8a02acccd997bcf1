"""Penalty and effort against closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffsim.motion import BSpline, Limits, MinimumJerk, Polynomial, effort, limit_penalty, load

LIMITS = ("speed", "acceleration", "angular_speed", "angular_acceleration")


GENERATOR = Polynomial.create(degree=2, duration=2.0, scale=np.ones(6))


@jax.jit
def penalties(weights, limits):
    """Every limit alone (the others infinite), for x = w s² and ρ = w' s², each on one axis."""
    alone = jnp.where(np.eye(4, dtype=bool), limits, jnp.inf)
    path, free = GENERATOR(weights), Limits.create()
    return jax.vmap(
        lambda row: limit_penalty(path, free.replace(**dict(zip(LIMITS, row))), points=400)
    )(alone)


gradients = jax.jit(jax.jacrev(penalties))
penalty = jax.jit(limit_penalty, static_argnames="points")
loads = jax.jit(load, static_argnames="points")


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
    # of max(0, a t − 1)² is (2 a − 1)³ / (6 a); the midpoint rule misses it by O(1/n²).
    np.testing.assert_allclose(result[1::2], [4.0, 1.0], rtol=1e-12)
    np.testing.assert_allclose(result[::2], [5**3 / 18, 3**3 / 12], rtol=1e-4)


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


def test_a_box_is_left_in_shares_of_its_half_extents():
    # x = 3 s² against the box |x − 1| ≤ 1: up to 2 half extents from its middle, and beyond 1 by
    # 3 s² − 2 for s² > 2/3, the square of which has the integral 9 s⁵/5 − 4 s³ + 4 s.
    limits = Limits.create(box=((0.0, -1.0, -1.0), (2.0, 1.0, 1.0)))
    path = GENERATOR(along(3.0, 0.0))
    assert float(loads(path, limits)) == pytest.approx(2.0)
    s = np.sqrt(2 / 3)
    exact = 9 / 5 - (9 / 5 * s**5 - 4 * s**3 + 4 * s)
    found = [float(penalty(path, limits, share=share, points=2000)) for share in (1.0, 0.0)]
    # From a share of 0 on it is the mean of (x − 1)²: 9/5 − 2 + 1.
    np.testing.assert_allclose(found, [exact, 0.8], rtol=1e-4)


def test_the_load_of_closed_forms_and_of_a_motion_that_does_not_stop():
    # Minimum jerk over 1 m in 1 s: 15/8 m/s and 10/√3 m/s² at the most.
    free, much = Limits.create(), jnp.asarray(1e9)
    path = MinimumJerk.create(via_times=[])(jnp.array([5.0, 0, 0, 0, 0, 0]))
    for limits in ({"speed": 15 / 8}, {"acceleration": 10 / np.sqrt(3)}):
        found = loads(path, free.replace(**jax.tree.map(jnp.asarray, limits)), points=4001)
        assert float(found) == pytest.approx(1.0, abs=1e-6)
    moving, turning = GENERATOR(along(1.0, 0.0)), GENERATOR(along(0.0, 1.0))
    assert np.isinf(loads(moving, free.replace(acceleration=much)))
    assert float(loads(moving, free.replace(speed=jnp.asarray(2.0)))) == pytest.approx(0.5)
    assert float(loads(turning, free.replace(acceleration=much))) == 0
    assert np.isinf(loads(turning, free.replace(angular_acceleration=much)))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
@pytest.mark.parametrize(
    "generator",
    [
        BSpline.create(control_points=4, degree=7, returns=True),
        BSpline.create(control_points=4, returns=True),
        MinimumJerk.create(via_times=[0.3], returns=True),
    ],
    ids=["bezier", "bspline", "minimum-jerk"],
)
def test_a_path_that_returns_ends_at_rest_at_home(generator, dtype):
    generator = generator.replace(home=jnp.arange(6.0))
    weights = jax.random.normal(jax.random.key(0), (generator.weight_count,), dtype)
    path, times = generator(weights), jnp.asarray([0.0, 0.4, 1.0], dtype)

    @jax.jit
    @jax.vmap
    def look(time):
        return jax.jvp(path.coordinates, (time,), (jnp.ones_like(time),))

    place, rate = map(np.asarray, look(times))
    small = 1e4 * float(jnp.finfo(dtype).eps)  # powers of the phase have factors of some hundreds
    np.testing.assert_allclose(place[::2], np.tile(np.arange(6.0), (2, 1)), atol=small)
    np.testing.assert_allclose(rate[::2], 0, atol=small)
    assert np.abs(place[1] - np.arange(6.0)).max() > 0.05  # it does go somewhere
    assert jax.eval_shape(load, path, Limits.create(acceleration=1e3)).dtype == dtype


def test_bad_limits_are_named():
    path = Polynomial.create()(jnp.zeros(24))
    with pytest.raises(ValueError, match="points: expected an integer of at least 2, got 1"):
        limit_penalty(path, Limits.create(), points=1)
    with pytest.raises(TypeError, match=r"limits: expected some of speed, .* got \['jerk'\]"):
        Limits.create(jerk=1.0)
    with pytest.raises(ValueError, match="box: expected the lower end first"):
        Limits.create(box=np.zeros((2, 3)))
    message = "via_times: expected at least one for a path that returns"
    with pytest.raises(ValueError, match=message):
        MinimumJerk.create(via_times=[], returns=True)
    with pytest.raises(ValueError, match=r"control_points: .* of at least 3, got 2"):
        BSpline.create(control_points=2, degree=6, returns=True)
