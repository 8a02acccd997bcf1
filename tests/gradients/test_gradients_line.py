"""What the checker sees along one line: steps, moves, noise, kinks and orders, each by itself."""

import numpy as np
import pytest

from diffsim.gradients import taylor
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


def test_a_kink_has_the_slopes_of_its_sides_and_a_jump_none():
    for after, before in ((2.0, -1.0), (-3.0, 5.0), (1e6, 0.0)):
        sides = taylor._kink(1 + after * STEPS, 1 - before * STEPS, 1.0, STEPS, 1e-12)
        assert sides == pytest.approx((min(after, before), max(after, before)), abs=1e-6 * after**2)
    one = np.ones_like(STEPS)
    assert taylor._kink(1 + one, one, 1.0, STEPS, 1e-12) == (-np.inf, np.inf)
    smooth = np.sin(STEPS), np.sin(-STEPS)
    assert taylor._kink(*smooth, 0.0, STEPS, 1e-12) is None
    assert taylor._kink(STEPS**2, STEPS**2, 0.0, STEPS, 1e-12) is None
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
