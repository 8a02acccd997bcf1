"""What advice, checks and steps rest on, each number against its formula."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import fast_jit

from diffsim.gradients import check_gradient, measured_step, recommend
from diffsim.gradients.check import _leaves, _lines
from diffsim.gradients.compare import _figures
from diffsim.gradients.laws import Gaussian
from diffsim.gradients.mixtures import both_terms
from diffsim.gradients.problem import Problem
from diffsim.gradients.recommend import _largest_jump, _probe_lines, _turns
from diffsim.gradients.steps import default_step, scaled

KEYS = jax.random.split(jax.random.key(3))
SIGMA = 0.25
GRID = SIGMA * (np.linspace(-2, 2, 65) + 0.02 * np.sin(37 * np.arange(65.0)))


def probed(loss, x, key=None):
    keys = (None, key, None)
    problem = Problem(loss, x, has_aux=False, keys=keys, stochastic=key is not None)
    return _probe_lines(problem, *KEYS, SIGMA)


def test_probes_of_a_wave_are_those_of_its_values():
    """An even one, alike on all lines whichever way they point."""
    rate, height, fine = 30.0, 5.0, 1e-4 * SIGMA
    found = probed(lambda x: height * jnp.cos(rate * (x[0] - 0.3)), jnp.array([0.3]))
    values, places = height * np.cos(rate * GRID), GRID[4::8]
    slopes = -height * rate * np.sin(rate * places)
    residue = values - np.polynomial.Legendre.fit(GRID, values, 5)(GRID)
    rise = np.diff(values)
    assert found.pop("span") == pytest.approx(np.ptp(values), rel=1e-12)
    assert found == pytest.approx(
        {
            "differentiable": 1,
            "residue": (np.sum(residue**2) / 59) ** 0.5 / np.ptp(values),
            "turns": np.sum(rise[1:] * rise[:-1] < 0),
            "explained": 1 - np.sum(residue**2) * 65 / 59 / np.sum((values - values.mean()) ** 2),
            "jump": 0, "fine_noise": 0, "repeat": 0, "noise": 0, "failed_slopes": 0,
            # of s and s (1 − (ωh)²/6) for a slope and a central difference over 2h
            "mismatch": (rate * fine) ** 2 / 12,
            "slope_turns": np.sum(slopes[1:] * slopes[:-1] < 0),
        },
        rel=1e-4, abs=1e-9,
    )  # fmt: skip


def test_lines_have_the_length_asked_for_in_any_dimension():
    found = probed(lambda x: jnp.sum(x**2), jnp.zeros(50))
    assert found["span"] == pytest.approx(np.ptp(GRID**2), rel=1e-9)
    assert found["turns"] == found["slope_turns"] == 1
    assert found["mismatch"] < 1e-9


def test_noise_is_that_of_the_keys_of_the_lines_over_the_span():
    def loss(x, key):
        return 3 * (x[0] - 0.3) ** 2 + jax.random.normal(key, dtype=x.dtype)

    found = probed(loss, jnp.array([0.3]), jax.random.key(7))
    drawn = [jax.random.normal(key, dtype=jnp.float64) for key in jax.random.split(KEYS[1], 8)]
    span = 3 * np.ptp(GRID**2)  # a key a line: none within it
    assert found["span"] == pytest.approx(span)
    assert found["noise"] == pytest.approx(np.std(drawn) / span)
    assert found["fine_noise"] == 0


def test_what_one_point_asked_twice_differs_by_counts_by_its_share_of_the_span():
    """A simulator that adds ½ to every second batch."""
    batches = []

    def values(a):
        batches.append(len(a))
        return 3 * (a[..., 0] - 0.3) ** 2 + 0.5 * (len(batches) % 2)

    def loss(x):
        scalar = jax.ShapeDtypeStruct((), x.dtype)
        return jax.pure_callback(values, scalar, x, vmap_method="expand_dims")

    found = probed(loss, jnp.array([0.3]))
    assert found["repeat"] == pytest.approx(0.5 / (3 * np.ptp(GRID**2)))
    assert found["differentiable"] == found["fine_noise"] == 0
    assert "mismatch" not in found


@pytest.mark.parametrize(("digits", "seen"), [(1.2, True), (0.8, False)])
def test_noise_counts_beyond_a_hundred_roundings_and_a_wrong_slope_by_its_share(digits, seen):
    """± a from point to point has sixth differences of 64 a, and γ₆ is 1/924."""
    step, eps = 1e-4 * SIGMA, float(np.finfo(float).eps)
    amplitude = digits * 100 * eps * 924**0.5 / 64

    @jax.custom_jvp
    def rising(x):
        return 1 + amplitude * jnp.cos(jnp.pi * x[0] / step) + 0 * x[0]

    rising.defjvps(lambda way, value, x: way[0])
    found = probed(rising, jnp.zeros(1))
    wanted = amplitude * 64 / 924**0.5 / found["span"]
    assert found["fine_noise"] == (pytest.approx(wanted, rel=0.02) if seen else 0)
    assert found["mismatch"] == pytest.approx(1, abs=1e-6)  # its slope is far above what it does


FOLD = np.ptp(np.abs(GRID))


@pytest.mark.parametrize(
    ("height", "slope", "share"),
    [(3 * 2.0**-52, 0.0, 0), (5 * 2.0**-52, 0.0, 1), (0.25, 1.0, 0.25 / (0.25 + FOLD))],
)
def test_a_jump_counts_beyond_four_roundings_by_its_share_of_the_span(height, slope, share):
    """Of losses of 1, on either side of x alike."""
    found = probed(
        lambda x: 1 + slope * jnp.abs(x[0]) + jnp.where(jnp.abs(x[0]) > 0.1, height, 0.0),
        jnp.zeros(1),
    )
    assert found["jump"] == pytest.approx(share, rel=1e-6)


def jump_of(along, low=0.5, width=0.25, able=True):
    """On one line, whose largest step lies between two points."""
    grid = np.array([low - width, low, low + width, low + 2 * width])
    line = (jnp.ones((1, 1)), None)
    values = np.array([[float(along((jnp.ones(1), None), jnp.asarray(t))) for t in grid]])
    return _largest_jump(along, line, grid, values, jnp.float64, able)


def test_a_jump_is_what_halving_does_not_shrink():
    halved = 0.25 * 2.0 ** -int(0.7 * 52)
    assert jump_of(lambda line, t: 3 * t, able=False) == pytest.approx(3 * halved, rel=1e-3)
    for edge, height in ((0.51, -2.0), (0.66, 2.0), (0.74, 2.0)):
        found = jump_of(
            lambda line, t, e=edge, h=height: 0.1 * t + jnp.where(t > e, h, 0.0)  # its own
        )
        assert found == pytest.approx(2, abs=1e-9)


@pytest.mark.parametrize(("rise", "seen"), [(99.0, True), (101.0, False)])
def test_a_step_that_slopes_on_both_sides_excel_a_hundredfold_is_none(rise, seen):
    def along(line, t):
        return rise / 0.25 * t + jnp.where(t > 0.6, 1.0, 0.0)

    assert jump_of(along) == (pytest.approx(1, rel=1e-6) if seen else 0)


@pytest.mark.parametrize("sign", [1, -1])
def test_a_step_that_slopes_on_one_side_alone_is_a_jump(sign):
    """Of 1e4 within 1e-4 before it, or after it."""
    edge = 0.5 + 1e-9 if sign > 0 else 0.75 - 1e-9

    def along(line, t):
        return 1e4 * jnp.clip(sign * (t - edge), -1e-4, 0) + jnp.where(t > edge, 3.0, 0.0) * sign

    assert jump_of(along) == pytest.approx(3, rel=1e-3)


def test_turns_are_changes_of_sign_and_flat_stretches_none():
    for line, turns in (([1, 0, 0, 2], 0), ([1, 0, -1, -2], 1), ([-1, 2, -3], 2), ([0, 0], 0)):
        assert _turns(np.array([line])) == turns
    assert _turns(np.array([[1, -1, 1], [1, 1, 1], [1, 1, -1]])) == 1


def test_variances_and_what_is_unseen_are_those_of_its_draws():
    """Of a step on a slope; the mean slope's own score terms are taken off."""
    x, key = jnp.array([0.1, -0.2]), jax.random.key(5)

    def loss(x):
        return 2 * x[0] + x[1] + jnp.where(x[0] > 0.2, 1.0, 0.0)

    found = recommend(loss, x, key=key, sigma=SIGMA).probes
    keys = (jax.random.split(key, 4)[2], None, None)
    problem = Problem(loss, x, has_aux=False, keys=keys, stochastic=False)
    _, smooth, rough, scores = map(np.asarray, both_terms(problem, Gaussian(SIGMA), 256, 1, None))
    assert found["pathwise_variance"] == pytest.approx(smooth.var(axis=0, ddof=1).sum(), abs=1e-9)
    assert found["score_variance"] == pytest.approx(rough.var(axis=0, ddof=1).sum())
    mean = smooth.mean(axis=0)
    rough = rough - SIGMA**2 * (scores @ mean)[:, None] * scores + mean
    off = smooth - rough
    pairs = (np.sum(off.sum(axis=0) ** 2) - np.sum(off**2)) / (256 * 255)
    assert found["unseen"] == pytest.approx(pairs**0.5 / np.linalg.norm(rough.mean(axis=0)))
    # N(0.4; 0, 1)/σ is the slope of the smoothed step
    step = np.exp(-(0.4**2) / 2) / (2 * np.pi) ** 0.5 / SIGMA
    assert found["unseen"] == pytest.approx(step / np.hypot(2 + step, 1), rel=0.15)
    assert found["unseen_z"] > 8


def test_an_interval_of_a_bias_is_about_the_bias():
    """Where sampling adds as much: a resampled mean strays twice, and both are taken off."""
    rng, count, p = np.random.default_rng(2), 64, 2_000
    rows = rng.normal(size=(count, p))
    truth = np.full(p, 1 / count**0.5)
    found = _figures(rows, truth, np.random.default_rng(0), 0.9)
    assert found["bias"].value == pytest.approx((p / count) ** 0.5, rel=0.1)
    for name in ("bias", "mse", "cosine"):
        assert found[name].low < found[name].value < found[name].high, name
    assert found["bias"].high - found["bias"].low < 0.4 * found["bias"].value


def test_what_has_no_length_has_no_cosine():
    rows = np.array([[0.0, 0.0], [3.0, 0.0], [0.0, 2.0], [1.0, 1.0]])
    found = _figures(rows, np.array([2.0, 0.0]), np.random.default_rng(0), 0.9)["cosine"]
    assert found.value == pytest.approx((1 + 0.5**0.5) / 4)
    assert _figures(rows, np.zeros(2), np.random.default_rng(0), 0.9)["cosine"] == (0, 0, 0)


SLOPE = jnp.array([1.0, -2.0, 0.5])


@pytest.mark.parametrize("cubic", [1e-9, 1.0])
def test_a_measured_step_is_the_best_for_rounding_and_a_cubic(cubic):
    """h* = (3 η/|f‴|)^{1/3}, η of 1,000's last digit and f‴ along the line that the key draws."""

    def loss(x):
        return 1000 + cubic * jnp.sum(SLOPE * x**3)

    key = jax.random.key(1)
    way = np.asarray(jax.random.normal(key, (3,), jnp.float64))
    third = 6 * cubic * abs(np.sum(np.asarray(SLOPE) * (way / np.linalg.norm(way)) ** 3))
    noise = np.finfo(float).eps * 1000
    found = fast_jit(lambda x: measured_step(loss, x, key, 1e-4))(jnp.zeros(3))
    assert found == pytest.approx(min(1.0, (3 * noise / third) ** (1 / 3)), rel=0.01)


@pytest.mark.parametrize(("size", "width"), [(1.05, 4), (30.0, 4), (34.0, 8), (1e9, 16), (1e-3, 1)])
def test_a_third_derivative_is_taken_where_it_stands_a_hundred_times_above_noise(size, width):
    """x⁵ has third differences of 30 h⁵: at h = 1/4, of ``size`` hundred times the noise."""
    noise = np.finfo(float).eps * 1000
    factor = size * 100 * noise / (30 * 4.0**-5)
    found = fast_jit(
        lambda x: measured_step(lambda x: 1000 + factor * x[0] ** 5, x, jax.random.key(0), 1e-4)
    )(jnp.zeros(1))
    third = max(30 * factor * width**-5.0, noise) * width**3
    assert found == pytest.approx(min(1.0, (3 * noise / third) ** (1 / 3)), rel=0.01)


def test_noise_is_probed_at_the_root_of_the_last_digit():
    own, asked, far = (
        measured_step(lambda x: jnp.exp(3 * x[0]), jnp.zeros(1), KEYS[0], spacing)
        for spacing in (None, 2.0**-26, 0.5)
    )
    assert own == asked < far


def test_steps_follow_x_and_its_type():
    x = jnp.array([-3.0, 0.5, 0.0, 7.0])
    np.testing.assert_allclose(scaled(0.1, x), [0.3, 0.1, 0.1, 0.7])
    table = {"float64": 4.0}
    assert default_step(table, jnp.float64) == 4.0
    for dtype, power in ((jnp.float32, 1 / 3), (jnp.bfloat16, 0.2)):
        wanted = float(jnp.finfo(dtype).eps) ** power
        assert default_step(table, dtype, power) == pytest.approx(wanted)


def lines_of(point, given=None):
    leaves = _leaves(point)
    flat = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(point)]).astype(float)
    given = np.ones(flat.size) if given is None else given
    found = _lines(lambda x: 0.0, flat, leaves, given, np.random.default_rng(0))
    return list(found), leaves


def test_a_line_moves_each_leaf_by_its_size():
    point = {
        "big": np.array([30.0, -40.0], np.float32), "none": np.zeros((0, 2)),
        "wide": np.array([2.0, 1e-3, 0.0]), "zero": np.zeros(2),
    }  # fmt: skip
    found, leaves = lines_of(point)
    assert {name for name, _ in found} == {*leaves, "x"} - {"x['none']"}
    straight = {}
    for name, line in found:
        straight.setdefault(name, []).append(line)
        assert np.linalg.norm(line.direction) == pytest.approx(1)
    sizes = {"big": (40, 40), "wide": (2, 2), "zero": (1, 40)}
    for leaf, (least, most) in sizes.items():
        line, span = straight[f"x['{leaf}']"][0], leaves[f"x['{leaf}']"].span
        moved = np.abs(line.direction * line.least)
        assert np.all((moved[span] >= 0.5 * least) & (moved[span] <= 1.5 * least)), leaf
        assert np.sum(moved) == pytest.approx(np.sum(moved[span]))
        assert line.most / line.least == pytest.approx(most / least)
    own = straight["x['wide']"][-1]
    moved = np.abs(own.direction * own.least)[leaves["x['wide']"].span] / [2.0, 1e-3, 2.0]
    assert np.all((moved >= 0.5) & (moved <= 1.5))
    assert own.most == own.least
    whole = straight["x"][0]
    scales = np.array([40, 40, 2, 2, 2, 21, 21])  # zeros as the median of the others
    moved = np.abs(whole.direction * whole.least) / scales
    assert np.all((moved >= 0.5) & (moved <= 1.5))
    assert whole.most == whole.least
    epsilons = {"big": 2.0**-23, "wide": 2.0**-52, "zero": 2.0**-52}
    for leaf, epsilon in epsilons.items():
        assert straight[f"x['{leaf}']"][0].epsilon == epsilon
    assert whole.epsilon == 2.0**-23


def test_small_leaves_may_move_up_to_one():
    found, _ = lines_of({"a": np.array([0.02, -0.01]), "b": np.array([0.0])})
    ratios = {name: line.most / line.least for name, line in found}
    assert ratios == pytest.approx({"x['a']": 50, "x['b']": 50, "x": 50})


@pytest.mark.parametrize(("smallest", "count"), [(0.011, 1), (0.009, 2)])
def test_entries_a_hundredfold_apart_have_a_line_of_their_own(smallest, count):
    assert len(lines_of(np.array([1.0, smallest, 0.0]))[0]) == count


def test_where_what_is_given_cancels_a_line_follows_it():
    given = np.array([1.0, -1.0, 1.0, -1.0])
    assert len(lines_of(np.ones(4), np.zeros(4))[0]) == len(lines_of(np.ones(1))[0]) == 1
    for sign in (1.0, -1.0):
        straight, _ = lines_of(np.ones(4))
        signs = np.sign(straight[0][1].direction)
        assert len(lines_of(np.ones(4), sign * signs)[0]) == 1  # it adds up
        mixed, _ = lines_of(np.ones(4), sign * signs * given)
        assert len(mixed) == 2
        slopes = mixed[1][1].direction * sign * signs * given
        assert np.all(slopes > 0)
        np.testing.assert_array_equal(*(np.abs(line.direction) for _, line in mixed))


def paraboloid(x):
    """With a gradient of x itself, but for every third entry, of 3 x."""
    curve = np.where(np.arange(np.size(x)) % 3 == 2, 1.5, 0.5)
    return float(np.sum(curve * np.asarray(x, float) ** 2))


def test_every_option_of_the_check_is_used():
    x = jnp.linspace(0.5, 1.5, 10)
    exact = x * jnp.where(jnp.arange(10) % 3 == 2, 3, 1)

    def check(factor, **options):
        return check_gradient(paraboloid, x, lambda _: factor * exact, **options)

    assert check(1.001).slips == ("x: scaled by 1.001",)
    assert check(1.001, tolerance=0.002).passed
    assert not check(1.001, tolerance=0.0002).passed
    few = check(1.5, max_coordinates=2)
    assert sorted(index for _, index, *_ in few.coordinates) == [(0,), (1,)]
    assert few.slips == ()
    worst = check(1.5).coordinates
    assert [index for _, index, *_ in worst] == [(8,), (5,), (2,)]
    for _, (index,), given, measured in worst:
        assert given == pytest.approx(1.5 * float(exact[index]))
        assert measured == pytest.approx(float(exact[index]), rel=1e-6)
    asked = (0.3, 0.1, 0.03, 0.01)
    assert check(1, steps=asked[::-1]).steps == asked
    first, other = (check(1, seed=seed).directions for seed in (0, 1))
    assert first[0].given != other[0].given


@pytest.mark.parametrize("samples", [16, 64])
def test_an_estimator_is_judged_by_the_error_of_its_mean(samples):
    """Off by 3 of its standard errors it passes, by 6 not; the key is split into ``samples``."""
    x, key = jnp.array([1.0, 2.0]), jax.random.key(2)
    draw = jax.vmap(lambda k: jax.random.normal(k, (), jnp.float64))
    drawn = draw(jax.random.split(key, samples))
    unit = samples**0.5 / drawn.std(ddof=1)  # a mean's error of 1

    def estimator(shift):
        def gradient(x, key):
            own = jax.random.normal(key, (), jnp.float64)
            return x * (1 + 0.01 * (unit * (own - drawn.mean()) + shift))

        return gradient

    for shift, wanted in ((3.0, "correct"), (-3.0, "correct"), (6.0, "biased estimator")):
        found = check_gradient(
            paraboloid, x, estimator(shift), key=key, samples=samples, tolerance=1e-6
        )
        assert found.diagnosis == wanted, found
        one = found.directions[0]
        assert one.given == pytest.approx(one.measured * (1 + 0.01 * shift), rel=1e-5)
