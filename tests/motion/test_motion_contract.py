"""What every generator in the table promises; a new one inherits these tests."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from diffsim.motion import GENERATORS

# Inside, at a quarter where segments meet, and on both sides of the ends.
TIMES = np.array([0.07, 0.2, 0.33, 0.511, 0.58, 0.77, -0.3, 0.0, 0.8, 1.1])
INSIDE, BEFORE, START, END, AFTER = slice(0, 6), 6, 7, 8, 9
SMOOTH_TIMES = jnp.asarray(np.delete(TIMES, [START, END]))  # at the very ends there is a kink
SETTINGS = {
    "duration": 0.8,
    "home": [0.1, -0.2, 0.3, 0.4, -0.1, 0.2],
    "normal": [0.6, 0.0, -0.8],
    "scale": [0.2, 0.3, 0.4, 0.5, 0.6, 0.7],
}


@jax.jit
def look(generator, weights, times):
    """Poses and their time derivatives, one a time."""
    return jax.vmap(generator(weights).rates)(times)


def score(generator, weights, times):
    """A smooth number that depends on every entry of every pose."""
    pose = jax.vmap(generator(weights))(times)
    return sum(jnp.sum(jnp.sin(3 * leaf)) for leaf in jax.tree.leaves(pose))


@jax.jit
def slopes(arguments, direction):
    """The score, its gradient, and its derivative along a direction by forward mode."""
    score_of = lambda a: score(*a)  # noqa: E731
    value, forward = jax.jvp(score_of, (arguments,), (direction,))
    return value, jax.grad(score_of)(arguments), forward


def skew(vectors):
    return np.cross(vectors[:, None, :], np.eye(3)[None], axisa=2, axisb=2).swapaxes(1, 2)


class Case:
    def __init__(self, name):
        self.generator = GENERATORS[name].create(**SETTINGS)
        self.weights = jax.random.normal(jax.random.key(3), (self.generator.weight_count,))
        self.pose, self.rate = self.look(TIMES)

    def look(self, times, weights=None):
        weights = self.weights if weights is None else weights
        return look(self.generator, weights.astype(float), jnp.asarray(times, float))

    def difference(self, times, step=1e-6):
        """Central differences of the pose in time."""
        late, early = self.look(times + step)[0], self.look(times - step)[0]
        return jax.tree.map(lambda a, b: (a - b) / (2 * step), late, early)


@pytest.fixture(scope="module", params=GENERATORS)
def case(request):
    return Case(request.param)


def test_velocity_is_the_derivative_of_position(case):
    np.testing.assert_allclose(case.pose.velocity, case.rate.position, atol=1e-14)
    # Differences over 1e-6 s: truncation 1e-12 q''' and rounding 1e-16/1e-6.
    slope = case.difference(TIMES).position
    np.testing.assert_allclose(case.pose.velocity[INSIDE], slope[INSIDE], atol=1e-8)


def test_angular_velocity_is_the_rate_of_the_rotation(case):
    turning = np.einsum(
        "tij,tjk->tik", skew(np.asarray(case.pose.angular_velocity)), case.pose.rotation
    )
    np.testing.assert_allclose(case.rate.rotation, turning, atol=1e-13)
    slope = case.difference(TIMES).rotation
    np.testing.assert_allclose(slope[INSIDE], turning[INSIDE], atol=1e-8)


def test_acceleration_is_the_derivative_of_velocity(case):
    slope = case.difference(TIMES)
    for kind in ("velocity", "angular_velocity"):
        exact, difference = getattr(case.rate, kind), getattr(slope, kind)
        np.testing.assert_allclose(exact[INSIDE], difference[INSIDE], atol=1e-6)


def test_rotation_stays_a_rotation(case):
    gram = np.einsum("tij,tik->tjk", case.pose.rotation, case.pose.rotation)
    np.testing.assert_allclose(gram, np.broadcast_to(np.eye(3), gram.shape), atol=1e-14)
    np.testing.assert_allclose(np.linalg.det(case.pose.rotation), 1, atol=1e-14)


def test_the_paddle_stands_still_before_and_after(case):
    for outside, edge in ((BEFORE, START), (AFTER, END)):
        for kept in ("position", "rotation"):
            values = getattr(case.pose, kept)
            np.testing.assert_array_equal(values[outside], values[edge])
        for leaf in jax.tree.leaves((case.pose.velocity, case.pose.angular_velocity, case.rate)):
            assert not np.any(leaf[outside])


def test_the_ends_belong_to_the_motion(case):
    # Exactly at 0 and at the duration the velocity is the one-sided derivative, not a half of it.
    near = case.look(np.r_[TIMES[:START], 1e-9, 0.8 - 1e-9, 1.1])[0].velocity
    ends = np.array([START, END])
    np.testing.assert_allclose(case.pose.velocity[ends], near[ends], atol=1e-5)


def test_starts_at_home_at_rest(case):
    if not case.generator.starts_at_rest:
        pytest.skip("this generator does not promise it")
    np.testing.assert_allclose(case.pose.position[START], SETTINGS["home"][:3], atol=1e-15)
    np.testing.assert_allclose(case.pose.velocity[START], 0, atol=1e-13)
    np.testing.assert_allclose(case.pose.angular_velocity[START], 0, atol=1e-13)


def test_zero_weights_stay_at_home(case):
    pose, _ = case.look(TIMES, weights=0 * case.weights)
    home = np.broadcast_to(SETTINGS["home"][:3], (len(TIMES), 3))
    np.testing.assert_allclose(pose.position, home, atol=1e-14)
    np.testing.assert_allclose(pose.velocity, 0, atol=1e-13)
    home = Rotation.from_rotvec(SETTINGS["home"][3:]).apply(SETTINGS["normal"])
    np.testing.assert_allclose(pose.rotation[:, :, 2], np.tile(home, (10, 1)), atol=1e-14)


def test_every_weight_counts(case):
    def coordinates(weights):
        times = jnp.linspace(0.0, 0.8, 40)
        return jax.vmap(case.generator(weights).coordinates)(times).ravel()

    assert case.weights.shape == (case.generator.weight_count,)
    sensitivity = jax.jit(jax.jacfwd(coordinates))(case.weights)
    assert np.linalg.matrix_rank(sensitivity, tol=1e-6) == case.generator.weight_count


def test_derivatives_agree(case):
    """In weights, in time and in every setting at once: forward, reverse and differences."""
    arguments = (case.generator, case.weights, SMOOTH_TIMES)
    leaves, tree = jax.tree.flatten(arguments)
    random = np.random.default_rng(5)
    direction = [jnp.asarray(random.normal(size=leaf.shape)) for leaf in leaves]
    check_derivatives(arguments, jax.tree.unflatten(tree, direction))


def test_derivatives_agree_at_rotation_zero(case):
    generator = case.generator.replace(home=jnp.zeros(6))
    arguments = (generator, jnp.zeros_like(case.weights), SMOOTH_TIMES)
    still = jax.tree.map(jnp.zeros_like, arguments)
    check_derivatives(arguments, (still[0], case.weights, still[2]))


def check_derivatives(arguments, direction, step=1e-6):
    _, gradient, forward = slopes(arguments, direction)
    pairs = zip(jax.tree.leaves(gradient), jax.tree.leaves(direction))
    reverse = sum(jnp.vdot(a, b) for a, b in pairs)
    late = slopes(jax.tree.map(lambda a, d: a + step * d, arguments, direction), direction)[0]
    early = slopes(jax.tree.map(lambda a, d: a - step * d, arguments, direction), direction)[0]
    np.testing.assert_allclose(forward, reverse, rtol=1e-11, atol=1e-11)
    # Truncation 1e-12 of third derivatives of up to 1e5, rounding 1e-15/1e-6.
    np.testing.assert_allclose(forward, (late - early) / (2 * step), rtol=1e-6, atol=1e-6)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(gradient))


def test_batches_have_the_precision_of_the_weights(case):
    weights = jnp.stack([case.weights, -case.weights]).astype(jnp.float32)
    times = jnp.asarray([TIMES, 0.6 * TIMES], jnp.float32)
    batch = jax.jit(jax.vmap(lambda w, t: jax.vmap(case.generator(w))(t)))(weights, times)
    assert {leaf.dtype for leaf in jax.tree.leaves(batch)} == {np.dtype(np.float32)}
    assert {leaf.dtype for leaf in jax.tree.leaves(case.pose)} == {np.dtype(np.float64)}
    for i in range(2):
        alone, _ = case.look(times[i], weights=weights[i])
        for low, high in zip(jax.tree.leaves(batch), jax.tree.leaves(alone)):
            # Rounding of 1e-7, times the velocity's derivative in phase of up to 1e3.
            np.testing.assert_allclose(low[i, INSIDE], high[INSIDE], rtol=1e-4, atol=1e-4)


def test_wrong_weights_are_named(case):
    count = case.generator.weight_count
    message = rf"weights: expected shape \({count},\), got \({count + 1},\)"
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(case.generator, jax.ShapeDtypeStruct((count + 1,), jnp.float32))
    with pytest.raises(TypeError, match="weights: expected a floating dtype, got complex128"):
        case.generator(jnp.zeros(count, complex))


def test_wrong_times_are_named(case):
    path = jax.eval_shape(case.generator, jax.ShapeDtypeStruct(case.weights.shape, jnp.float64))
    with pytest.raises(ValueError, match=r"time: expected shape \(\), got \(2,\)"):
        jax.eval_shape(lambda p: p(jnp.zeros(2)), path)
    with pytest.raises(TypeError, match=r"time: expected float64, .* got float32"):
        jax.eval_shape(lambda p: p(jnp.zeros((), jnp.float32)), path)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"duration": 0.0}, r"duration: expected in \(0, inf\], got 0.0"),
        ({"duration": [1.0]}, r"duration: expected shape \(\), got \(1,\)"),
        ({"home": [0.0] * 3}, r"home: expected shape \(6,\), got \(3,\)"),
        ({"normal": [0.0] * 3}, "normal: expected a vector other than zero"),
        ({"scale": [np.nan] * 6}, "scale: expected finite numbers"),
    ],
)
def test_wrong_settings_are_named(case, settings, message):
    with pytest.raises(ValueError, match=message):
        type(case.generator).create(**settings)
