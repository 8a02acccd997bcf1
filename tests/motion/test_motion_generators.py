"""Each generator against its closed form or an independent library."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp
from scipy.interpolate import BSpline as ReferenceSpline
from scipy.interpolate import make_interp_spline

from diffsim.motion import DMP, BSpline, MinimumJerk, Polynomial, ProMP, WeightGaussian
from diffsim.motion.bspline import span_matrices
from diffsim.motion.promp import basis

HOME = np.array([0.1, -0.2, 0.3, 0.4, -0.1, 0.2])
SCALE = np.array([0.2, 0.3, 0.4, 0.5, 0.6, 0.7])
COMMON = {"duration": 0.8, "home": HOME, "scale": SCALE}
TIMES = np.linspace(0.0, 0.8, 41)


def rows(count, seed=0):
    return np.random.default_rng(seed).normal(size=(count, 6))


@functools.partial(jax.jit, static_argnames="derivatives")
def trace(generator, weights, times, derivatives=1):
    """Coordinates and their time derivatives, (derivatives + 1, times, 6)."""
    function = generator(weights).coordinates
    functions = [function]
    for _ in range(derivatives):
        function = jax.jacfwd(function)
        functions.append(function)
    return jnp.stack([jax.vmap(function)(times) for function in functions])


def test_polynomial_against_numpy():
    weights = rows(4)
    place, rate = trace(Polynomial.create(degree=5, **COMMON), weights.ravel(), TIMES)
    for i in range(6):
        powers = np.r_[weights[::-1, i] * SCALE[i], 0.0, HOME[i]]
        np.testing.assert_allclose(place[:, i], np.polyval(powers, TIMES / 0.8), atol=1e-14)
        slope = np.polyval(np.polyder(powers), TIMES / 0.8) / 0.8
        np.testing.assert_allclose(rate[:, i], slope, atol=1e-13)


def test_polynomial_with_a_running_start():
    _, rate = trace(Polynomial.create(degree=1, at_rest=False, **COMMON), jnp.ones(6), TIMES)
    np.testing.assert_allclose(rate, np.tile(SCALE / 0.8, (41, 1)), rtol=1e-13)


def test_minimum_jerk_to_a_point():
    """Flash & Hogan: 10 s³ − 15 s⁴ + 6 s⁵; half the way at mid-time, at 15/8 of the mean speed."""
    weights = rows(1)
    generator = MinimumJerk.create(via_times=[], **COMMON)
    place, rate = trace(generator, weights.ravel(), TIMES)
    s = TIMES[:, None] / 0.8
    way = weights * SCALE
    np.testing.assert_allclose(place, HOME + way * (10 * s**3 - 15 * s**4 + 6 * s**5), atol=1e-14)
    np.testing.assert_allclose(place[20], HOME + way[0] / 2, atol=1e-14)
    np.testing.assert_allclose(rate[20], 15 / 8 * way[0] / 0.8, rtol=1e-13)


def test_minimum_jerk_hits_and_follows_through():
    hit, speed, end = weights = rows(3)
    generator = MinimumJerk.create(via_times=[0.3], **COMMON)
    edges = np.array([0.0, 0.3 - 1e-10, 0.3, 0.8])
    motion = np.asarray(trace(generator, weights.ravel(), edges, derivatives=3))
    place, rate, bend, jerk = motion
    np.testing.assert_allclose(place[2], HOME + SCALE * hit, atol=1e-13)
    np.testing.assert_allclose(rate[2], SCALE * speed / 0.8, atol=1e-12)
    np.testing.assert_allclose(place[3], HOME + SCALE * end, atol=1e-13)
    np.testing.assert_allclose(motion[1:3, [0, 3]], 0, atol=1e-11)
    # The accelerations are free, so the least jerk has them and itself continuous: if it jumped,
    # changing the acceleration there would lower its integral.
    np.testing.assert_allclose(bend[1], bend[2], atol=1e-6)
    np.testing.assert_allclose(jerk[1], jerk[2], rtol=1e-6)


def test_minimum_jerk_through_points_is_the_quintic_spline():
    vias = np.array([0.2, 0.35, 0.6])
    weights = rows(4)
    generator = MinimumJerk.create(via_times=vias, via_velocity=False, **COMMON)
    points = np.vstack([HOME, HOME + SCALE * weights])
    still = [(1, np.zeros(6)), (2, np.zeros(6))]
    spline = make_interp_spline(np.r_[0.0, vias, 0.8], points, 5, bc_type=(still, still))
    place, rate, bend = trace(generator, weights.ravel(), TIMES, derivatives=2)
    np.testing.assert_allclose(place, spline(TIMES), atol=1e-12)
    np.testing.assert_allclose(rate, spline(TIMES, 1), atol=1e-11)
    np.testing.assert_allclose(bend, spline(TIMES, 2), atol=1e-10)


def test_minimum_jerk_refuses_bad_times():
    with pytest.raises(ValueError, match="via_times: expected rising between 0 and duration"):
        MinimumJerk.create(via_times=[0.5, 0.4])
    with pytest.raises(ValueError, match="via_times: expected rising between 0 and duration"):
        MinimumJerk.create(via_times=[0.9], duration=0.8)


@pytest.mark.parametrize(("points", "degree"), [(6, 3), (1, 2), (5, 5)])
def test_bspline_against_scipy(points, degree):
    weights = rows(points)
    generator = BSpline.create(control_points=points, degree=degree, **COMMON)
    place, rate = trace(generator, weights.ravel(), TIMES)
    spans = points + 2 - degree
    knots = np.r_[[0.0] * degree, np.linspace(0.0, 0.8, spans + 1), [0.8] * degree]
    control = HOME + np.vstack([np.zeros((2, 6)), SCALE * weights])
    spline = ReferenceSpline(knots, control, degree)
    np.testing.assert_allclose(place, spline(TIMES), atol=1e-14)
    np.testing.assert_allclose(rate, spline(TIMES, 1), atol=1e-12)


@pytest.mark.parametrize(
    ("generator", "share"),
    [
        (BSpline.create(control_points=4, degree=7, returns=True, **COMMON), 3e-6),
        (BSpline.create(control_points=6, degree=4, **COMMON), 3e-6),
        (MinimumJerk.create(returns=True, **COMMON), 3e-5),  # its linear system loses the rest
    ],
    ids=["degree 7", "degree 4", "minimum-jerk"],
)
def test_single_precision_is_not_lost(generator, share):
    """Powers of a phase from 0 on cost degree 7 a hundred times that."""
    weights = 3 * rows(generator.weight_count // 6).ravel()
    exact = trace(generator, weights, TIMES)
    single = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), (generator, weights, TIMES))
    rounded = trace(*single)
    for mine, true in zip(rounded, exact, strict=True):
        assert mine.dtype == jnp.float32
        np.testing.assert_allclose(mine, true, atol=share * np.abs(true).max())


@pytest.mark.parametrize(("points", "degree"), [(4, 3), (9, 3), (9, 4), (7, 2)])
def test_bspline_basis_sums_to_one(points, degree):
    total = span_matrices(points, degree).sum(axis=2)
    np.testing.assert_allclose(total, np.eye(degree + 1)[:1].repeat(len(total), 0), atol=1e-14)


def test_promp_basis_sums_to_one_and_is_gaussian():
    phases = np.linspace(0.0, 1.0, 11)
    values = jax.vmap(lambda s: basis(s, 5, jnp.asarray(0.3)))(phases)
    bumps = np.exp(-((phases[:, None] - np.linspace(0, 1, 5)) ** 2) / (2 * 0.3**2))
    np.testing.assert_allclose(values, bumps / bumps.sum(axis=1, keepdims=True), rtol=1e-13)
    np.testing.assert_allclose(values.sum(axis=1), 1, rtol=1e-14)


@pytest.fixture(scope="module")
def promp():
    return ProMP.create(basis_count=5, **COMMON)


@pytest.fixture(scope="module")
def prior():
    factor = np.random.default_rng(1).normal(size=(30, 40)) / 6
    return WeightGaussian.create(rows(5, 2).ravel(), factor @ factor.T)


condition = jax.jit(ProMP.condition)


def observation(promp, time):
    """Ψ of the coordinates and, below, of their rates, from the Gaussians themselves."""
    centres, width = np.linspace(0, 1, 5), float(promp.width)
    phase = time / 0.8
    bumps = np.exp(-((phase - centres) ** 2) / (2 * width**2))
    slopes = -(phase - centres) / width**2 * bumps
    share = bumps / bumps.sum()
    change = (slopes - share * slopes.sum()) / bumps.sum() / 0.8
    return np.vstack([np.kron(row, np.diag(SCALE)) for row in (share, change)])


@pytest.mark.parametrize("size", [6, 12])
def test_promp_conditioning_is_the_gaussian_conditional(promp, prior, size):
    seen = observation(promp, 0.3)[:size]
    value = np.random.default_rng(4).normal(size=size)
    noise = np.diag(np.linspace(0.0, 0.02, size))  # the first coordinate exactly
    result = condition(promp, prior, 0.3, value, noise)
    mean, cov = np.asarray(prior.mean), np.asarray(prior.covariance)
    gain = cov @ seen.T @ np.linalg.inv(seen @ cov @ seen.T + noise)
    offset = value - np.r_[HOME, np.zeros(6)][:size]
    np.testing.assert_allclose(result.mean, mean + gain @ (offset - seen @ mean), atol=1e-11)
    np.testing.assert_allclose(result.covariance, cov - gain @ seen @ cov, atol=1e-12)


def test_promp_goes_exactly_through_certain_points(promp, prior):
    start, hit = HOME, np.arange(6) / 10
    motion = np.r_[hit, np.ones(6)]
    certain = condition(promp, prior, 0.0, start, np.zeros((6, 6)))
    certain = condition(promp, certain, 0.3, motion, np.zeros((12, 12)))
    for key in jax.random.split(jax.random.key(0), 3):
        place, rate = trace(promp, certain.sample(key), np.array([0.0, 0.3]))
        np.testing.assert_allclose(place, [start, hit], atol=1e-12)
        np.testing.assert_allclose(rate[1], np.ones(6), atol=1e-11)


def test_promp_samples_differentiate_through_a_singular_covariance(promp, prior):
    @jax.jit
    def spread(value, noise):
        given = promp.condition(prior, 0.3, value, noise * jnp.eye(6))
        return jnp.sum(given.sample(jax.random.key(7)) ** 2)

    value = jnp.asarray(HOME)
    gradient = jax.jit(jax.grad(spread, (0, 1)))
    for noise in (0.0, 1e-2):
        slopes = gradient(value, noise)
        assert all(np.all(np.isfinite(slope)) for slope in slopes)
        late, early = (spread(value.at[2].add(by), noise) for by in (1e-5, -1e-5))
        # Quadratic in the value: the difference has rounding error only.
        np.testing.assert_allclose(slopes[0][2], (late - early) / 2e-5, rtol=1e-7)


def check_moments(prior, draws):
    samples = jax.vmap(prior.sample)(jax.random.split(jax.random.key(11), draws))
    deviation = np.sqrt(np.diagonal(prior.covariance))
    # Five standard errors for 30 means and 900 covariances: fails by chance once in 2000 seeds.
    error = np.abs(samples.mean(axis=0) - prior.mean) / deviation
    assert error.max() < 5 / np.sqrt(draws)
    whitened = np.abs(np.cov(samples.T) - prior.covariance) / np.outer(deviation, deviation)
    assert whitened.max() < 5 * np.sqrt(2 / draws)


def test_promp_samples_have_the_right_moments(prior):
    check_moments(prior, 2000)


@pytest.mark.slow
def test_promp_samples_have_the_right_moments_closely(prior):
    check_moments(prior, 500_000)


def test_promp_refuses_wrong_values(promp, prior):
    with pytest.raises(ValueError, match=r"value: expected shape \(6,\) or \(12,\), got \(3,\)"):
        promp.condition(prior, 0.3, np.zeros(3), np.eye(3))
    with pytest.raises(ValueError, match=r"covariance: expected shape \(6, 6\), got \(12, 12\)"):
        promp.condition(prior, 0.3, np.zeros(6), np.eye(12))


def spring_error(segments):
    """Largest error against the critically damped step response 1 − (1 + α s/2) exp(−α s/2)."""
    goal = HOME + SCALE
    generator = DMP.create(goal=goal, segments=segments, **COMMON)
    decay = 12.5 * TIMES[:, None] / 0.8
    exact = HOME + SCALE * (1 - (1 + decay) * np.exp(-decay))
    return np.abs(trace(generator, jnp.zeros(48), TIMES)[0] - exact).max()


def test_dmp_without_forcing_is_a_critically_damped_spring():
    coarse, fine = spring_error(16), spring_error(32)
    assert coarse < 2e-5  # of a way of 0.7
    assert 13 < coarse / fine < 40  # fourth order or better, see the interpolation's sixth


def test_dmp_against_an_adaptive_integrator():
    weights = rows(9)
    generator = DMP.create(segments=64, **COMMON)
    centres = np.exp(-4 * np.linspace(0, 1, 8))
    gaps = -np.diff(centres)
    widths = np.r_[gaps, gaps[-1]]
    goal = HOME + SCALE * weights[-1]

    def rates(time, state):
        place, scaled = state[:6], state[6:12]
        bumps = np.exp(-((state[12] - centres) ** 2) / (2 * widths**2))
        force = 156.25 * SCALE * state[12] * (bumps @ weights[:8]) / bumps.sum()
        change = 25 * (6.25 * (goal - place) - scaled) + force
        return np.r_[scaled, change, -4 * state[12]] / 0.8

    start = np.r_[HOME, np.zeros(6), 1.0]
    exact = solve_ivp(rates, (0, 0.8), start, t_eval=TIMES, rtol=1e-10, atol=1e-12).y
    place, rate = trace(generator, weights.ravel(), TIMES)
    np.testing.assert_allclose(place.T, exact[:6], atol=3e-7)  # fourth order at h = 1/256
    np.testing.assert_allclose(0.8 * rate.T, exact[6:12], atol=1e-5)


def test_dmp_reaches_its_goal():
    # What is left of a way of 1 after a duration is (1 + 25/2) exp(-25/2) = 5e-5.
    place, _ = trace(DMP.create(**COMMON), jnp.zeros(54).at[-6:].set(1.0), TIMES)
    np.testing.assert_allclose(place[-1], HOME + SCALE, atol=1e-4)


def test_dmp_duration_as_a_weight():
    weights = rows(9).ravel()
    slow = DMP.create(duration_scale=np.log(2.0), **COMMON)
    assert slow.weight_count == 55
    before = trace(DMP.create(**COMMON), weights, TIMES)
    after = trace(slow, np.r_[weights, 1.0], 2 * TIMES)
    np.testing.assert_allclose(before[0], after[0], atol=1e-13)
    np.testing.assert_allclose(before[1], 2 * after[1], atol=1e-12)
