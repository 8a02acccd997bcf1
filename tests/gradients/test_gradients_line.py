"""What the checker sees along one line: steps, moves, noise, kinks and orders, each by itself."""

import numpy as np
import pytest

from diffsim.gradients import taylor
from diffsim.gradients.check import _settled, _slopes
from diffsim.gradients.line import Line

STEPS = 10.0 ** -np.arange(0, 8, 0.5)


def line(dtype, at=lambda x: 0.0, least=1.0, most=1.0, point=(0.3, -7.0, 1e-9)):
    point = np.asarray(point, dtype).astype(float)
    direction = np.array([0.6, -0.8, 0.0])
    info = np.finfo(dtype)
    return Line(at, point, direction, np.full(3, float(info.eps)), np.full(3, float(info.tiny)),
                least, most)  # fmt: skip


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("reach", [1.0, 10.0])
def test_moves_are_exact_in_the_type_of_x(dtype, reach):
    """x ± reach · move are numbers of the type, and moves those wanted to a digit of x."""
    own = line(dtype)
    for length in (0.01, 1e-3, 1e-5):
        move = own.move(length, reach)
        for side in (-1, 1):
            there = (own.point + side * reach * move).astype(dtype).astype(float)
            np.testing.assert_array_equal(there - own.point, side * reach * move)
        digit = np.finfo(dtype).eps * np.maximum(np.abs(own.point), reach * length)
        assert np.all(np.abs(move - length * own.direction) <= digit)
        assert move[2] == 0
    assert own.epsilon == np.finfo(dtype).eps


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_steps_are_half_decades_from_the_size_of_x_to_its_last_digits(dtype):
    eps = float(np.finfo(dtype).eps)
    for least, most in ((1.0, 1.0), (0.02, 2.0)):
        steps = line(dtype, least=least, most=most).steps()
        own = steps[steps <= 1.0001 * least * max(0.1, 2 * eps ** (1 / 3))]
        assert own[0] == pytest.approx(least * max(0.1, 2 * eps ** (1 / 3)))
        assert own[-1] == pytest.approx(least * min(16 * eps, eps ** (2 / 3)))
        assert len(own) >= 9
        assert len(own) == 9 or np.max(own[:-1] / own[1:]) < 10**0.6
        assert len(own) == 9 or np.min(own[:-1] / own[1:]) > 10**0.4
        wider = steps[: len(steps) - len(own)]
        assert len(wider) == round(2 * np.log10(most / least))
        np.testing.assert_allclose(wider / own[0], 10 ** (0.5 * np.arange(len(wider), 0, -1)))


def test_noise_is_that_of_one_evaluation_whatever_the_function_does():
    draw = np.random.default_rng(0)
    for size in (1e-6, 1e-3):
        for smooth in (lambda x: 0.0, lambda x: np.sin(x[0]), lambda x: 1e3 * abs(x[0] - 0.3)):
            noisy = line(np.float64, lambda x, f=smooth, size=size: f(x) + size * draw.normal())
            found = [noisy.noise(1e-6) for _ in range(20)]
            assert 0.5 * size < np.median(found) < 2 * size
    assert line(np.float64, lambda x: np.exp(x[0])).noise() < 1e-15


@pytest.mark.parametrize(
    ("dtype", "spacing"),
    [(np.float64, 2.0**-26), (np.float32, 1e-4), (np.float16, 2.0 ** (-20 / 3))],
)
@pytest.mark.parametrize("asked", [None, 0.02])
def test_noise_is_asked_for_at_nine_points_on_each_side_and_two_spacings(dtype, spacing, asked):
    """Of √ε of the size of x, 1e-4 at most, and ε^(2/3) where that is more, in digits of x."""
    seen = []
    own = line(dtype, lambda x: seen.append(x[0]) or 0.0, least=2.0, point=(0.0, 0.0, 1e-9))
    own.noise(asked)
    length = 0.6 * (2 * spacing if asked is None else asked)
    wanted = [s * k * f * length for f in (1, 1.618) for k in range(1, 10) for s in (1, -1)]
    np.testing.assert_allclose(sorted(seen), sorted(wanted), rtol=0.01)


def test_a_kink_has_the_slopes_of_its_sides_and_a_jump_none():
    for after, before in ((2.0, -1.0), (-3.0, 5.0), (1e6, 0.0)):
        sides = taylor._kink(1 + after * STEPS, 1 - before * STEPS, 1.0, STEPS, 1e-12)
        assert sides == pytest.approx((min(after, before), max(after, before)), abs=1e-6 * after**2)
    one = np.ones_like(STEPS)
    assert taylor._kink(1 + one, one, 1.0, STEPS, 1e-12) == (-np.inf, np.inf)
    smooth = np.sin(STEPS), np.sin(-STEPS)
    assert taylor._kink(*smooth, 0.0, STEPS, 1e-12) is None
    assert taylor._kink(STEPS**2, STEPS**2, 0.0, STEPS, 1e-12) is None
    for share, settles in (
        (0.27, True),
        (0.35, False),
    ):  # of the last tenfold step, of a slope of 1
        slopes = 1 - np.minimum(share / 9 * STEPS / STEPS[-1], 0.45)
        found = taylor._kink(slopes * STEPS, 0 * STEPS, 0.0, STEPS, 1e-20)
        assert (found is not None) == settles
    bend = np.maximum(STEPS - 3e-3, 0)  # seen from afar alone
    assert taylor._kink(bend, 0 * bend, 0.0, STEPS, 1e-12) is None
    unseen = 1e-9 * STEPS
    assert taylor._kink(unseen, 0 * unseen, 0.0, STEPS, 1e-9) is None
    assert taylor._kink(STEPS + 5e-4 * STEPS, -STEPS, 0.0, STEPS, 1e-12) is None, (
        "no kink to speak of"
    )


@pytest.mark.parametrize("power", [1, 2, 3, 5])
def test_the_order_is_the_power_of_what_is_seen_above_the_noise(power):
    noise = 1e-9
    remainder = 7 * STEPS**power + np.where(STEPS**power < 10 * noise, noise, 0)
    found = taylor._order(STEPS, remainder, noise)
    assert found == pytest.approx(power, abs=1e-6)
    coarse = remainder.copy()
    coarse[: max(0, np.sum(remainder > 20 * noise) - 6)] *= 100  # of six steps, the finest seen
    assert taylor._order(STEPS, coarse, noise) == pytest.approx(power, abs=1e-6)
    assert np.isnan(taylor._order(STEPS[:2], remainder[:2], noise))
    assert np.isnan(taylor._order(STEPS, 19 * noise + 0 * STEPS, noise))


def test_slopes_of_coordinates_are_exact_to_the_fourth_power_and_say_what_they_corrected():
    quartic = np.polynomial.Polynomial([1.0, -2.0, 0.5, 3.0, -1.5])
    quintic = np.polynomial.Polynomial([0.0, 0.0, 0.0, 0.0, 0.0, 1.0])
    for curve in (quartic, quintic):
        own = line(np.float64, lambda x, f=curve: f(x[0]) - 2 * f(x[1]), point=(0.3, -0.7, 0.0))
        found, error = _slopes(own, 0.05, np.array([1, 0]), 0.0)
        exact = np.array([-2 * curve.deriv()(-0.7), curve.deriv()(0.3)])
        moves = own.move(0.05)[[1, 0]]
        # D(h) = f' + f''' h²/6 + f⁗′ h⁴/120: the rest is −4 h⁴ of the last.
        fifth = curve.deriv(5)(0.0) * np.array([-2, 1]) if curve is quintic else 0
        np.testing.assert_allclose(found - exact, -4 * moves**4 * fifth / 120, atol=1e-12)
        third = np.array([-2 * curve.deriv(3)(-0.7), curve.deriv(3)(0.3)])
        corrected = -(moves**2) * third / 6 - 5 * moves**4 * fifth / 120
        assert error == pytest.approx(0.1 * np.linalg.norm(corrected), rel=1e-6)
        noisy = _slopes(own, 0.05, np.array([1, 0]), 1e-3)[1]
        assert noisy - error == pytest.approx(1e-3 * np.linalg.norm(1 / moves), rel=1e-6)


def told(leaf, diagnosis, change=1.0, noise=1e-9):
    return taylor.DirectionCheck(leaf, diagnosis, 1.0, 1.0, 0.1, 0.1, 3.0, change, (0.1,), noise)


def test_of_two_lines_in_a_leaf_one_that_passed_speaks_for_one_that_could_not_tell():
    good, bad = told("a", taylor.CORRECT), told("a", taylor.WRONG)
    for unsure in (taylor.NOISE, taylor.SMALL, taylor.NOT_FINITE):
        blind = told("a", unsure)
        assert _settled([good, blind], [], 0.0) == [good]
        assert _settled([told("b", taylor.CORRECT), blind], [], 0.0)[1] is blind
    assert _settled([good, bad], [], 0.0) == [good, bad]
    assert _settled([told("a", taylor.KINK), told("a", taylor.NOISE)], [], 0.0)[0].leaf == "a"
    loud = told("a", taylor.WRONG, noise=1.01e-7)  # took for noise what is none on the other
    assert _settled([good, loud], [], 0.0) == [good]
    assert len(_settled([good, told("a", taylor.WRONG, noise=0.99e-7)], [], 0.0)) == 2
    still = told("b", taylor.SMALL, change=0.0)
    for silent, least, right in ((["b"], 0.0, True), ([], 0.0, False), (["b"], 0.011, False)):
        settled = _settled([good, still], silent, least)[1]
        assert (settled.diagnosis == taylor.CORRECT) == right
    moves = told("b", taylor.SMALL, change=1e-9)
    assert _settled([good, moves], ["b"], 0.0)[1] is moves


@pytest.mark.parametrize(
    ("off", "settings", "wanted"),
    [
        (0.009, {}, taylor.CORRECT),
        (-0.009, {}, taylor.CORRECT),
        (0.0115, {}, taylor.WRONG),
        (-0.0115, {}, taylor.WRONG),
        (0.0115, {"biased": True}, taylor.BIASED),
        (0.0115, {"tolerance": 0.02}, taylor.CORRECT),
        (0.0115, {"standard_error": 0.001}, taylor.CORRECT),
        (0.0115, {"standard_error": 0.0002}, taylor.WRONG),
        (0.0, {"standard_error": 0.049}, taylor.CORRECT),
        (0.0, {"standard_error": 0.051}, taylor.NOISE),
    ],
)
def test_a_slope_is_wrong_beyond_its_tolerance_and_four_of_its_standard_errors(
    off, settings, wanted
):
    """Of a line of slope 1, of which differences know every digit."""
    own = line(np.float64, lambda x: 0.6 * x[0] - 0.8 * x[1])
    asked = {"standard_error": 0.0, "rounding": 2.2e-16, "tolerance": 0.01, "biased": False,
             "random": 0.0}  # fmt: skip
    given = (1 + off) * np.array([0.6, -0.8, 0.0])
    found = taylor.examine("x", own, given, steps=own.steps(), **asked | settings)
    assert found.diagnosis == wanted, found
    assert found.measured == pytest.approx(1.0, rel=1e-9)
    assert found.given == pytest.approx(1 + off)


@pytest.mark.parametrize("unit", [2.0**-30, 2.0**30])
@pytest.mark.parametrize("length", [2.0**-20, 2.0**20])
def test_units_of_f_and_of_x_change_no_verdict(unit, length):
    """Kinks, orders and the best step of the same numbers in other units."""
    shapes = {
        "kink": (2 * STEPS, -STEPS),
        "curve": (STEPS + 3 * STEPS**2, -STEPS + 3 * STEPS**2),
        "cubic": (np.sin(STEPS), np.sin(-STEPS)),
        "jump": (1 + STEPS, -STEPS),
        "bend": (np.maximum(STEPS - 3e-3, 0), 0 * STEPS),
    }
    slope = unit / length
    for name, (up, down) in shapes.items():
        plain, noise = taylor._kink(up, down, 0.0, STEPS, 1e-12), 1e-12
        other = taylor._kink(unit * up, unit * down, 0.0, length * STEPS, unit * noise)
        assert (other is None) == (plain is None), name
        if plain is not None:
            assert other == pytest.approx((slope * plain[0], slope * plain[1]), rel=1e-9), name
        off, turned = (up - down) / 2 - STEPS, np.zeros_like(STEPS)
        plain = taylor._mismatch(off, STEPS, turned, noise, up)
        other = taylor._mismatch(unit * off, length * STEPS, turned, unit * noise, unit * up)
        wanted = (slope * plain[0], slope * plain[1], length * plain[2])
        assert other == pytest.approx(wanted, rel=1e-9), name
        plain = taylor._order(STEPS, np.abs(off), noise)
        other = taylor._order(length * STEPS, np.abs(unit * off), unit * noise)
        assert other == pytest.approx(plain, rel=1e-6, abs=1e-9, nan_ok=True), name
