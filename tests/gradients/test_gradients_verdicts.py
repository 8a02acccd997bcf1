"""Verdicts from numbers: each limit of the checker and of the advice, tried on either side."""

from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest

from diffsim.gradients import (
    CentralDifference,
    EvolutionStrategies,
    Gaussian,
    Haar,
    InverseVariance,
    MeasureValued,
    Pathwise,
    RandomDirections,
    Richardson,
    TotalPropagation,
    taylor,
)
from diffsim.gradients.recommend import _decided
from diffsim.gradients.unrolled import UnrolledLoss

STEPS = 10.0 ** -np.arange(0, 8, 0.5)
H = float(STEPS[1])  # the longest step that has another to compare with
SIDES = pytest.mark.parametrize("share", [0.98, 1.02])


def examined(f, given=1.0, noise=0.0, fine=0.0, least=1.0, steps=STEPS, way=(1.0,), **asked):
    """f along a line through 0 whose tables of differences find those noises."""
    way = np.asarray(way)
    at_last = lambda spacing: fine * spacing / steps[-1]  # noqa: E731
    line = SimpleNamespace(
        at=lambda x: f(x @ way), point=0 * way, direction=way, least=least,
        move=lambda h: h * way * (h > 1e-12),
        noise=lambda spacing=None: (noise if spacing is None else at_last(spacing)) / 2,
    )  # fmt: skip
    settings = {"rounding": 1e-16, "tolerance": 0.01, "biased": False, "random": 0.0}
    error = asked.pop("standard_error", 0.0)
    given = np.broadcast_to(given, way.shape)
    return taylor.examine("x", line, given, error, np.asarray(steps), **settings | asked)


@SIDES
@pytest.mark.parametrize(
    ("within", "beyond", "case"),
    [
        # a mismatch beside tolerance, error, and what f does nearby, within the size of x
        ("correct", "wrong gradient", lambda k: (1, 0, 1 + k / 99, {})),
        ("correct", "wrong gradient", lambda k: (1, 0, 1 - k / 100, {})),
        ("correct", "wrong gradient", lambda k: (1 + k, 0, 1, {"tolerance": 0.5})),
        ("correct", "biased estimator", lambda k: (1, 0, 1 + k / 99, {"biased": True})),
        ("correct", "wrong gradient", lambda k: (0.1 * k, 0, (10, -10), {"way": (0.5**0.5,) * 2})),
        ("correct", "wrong gradient",
         lambda k: (0, 1, k * 1e-4 / 0.999, {"tolerance": 1e-3, "rounding": 1e-5})),
        ("correct", "wrong gradient",
         lambda k: (0, 1, k * 3e-5 / 0.999, {"tolerance": 1e-3, "rounding": 1e-6})),
        ("correct", "wrong gradient",
         lambda k: (0, 1, k * 3e-6 / 0.999,
                    {"tolerance": 1e-3, "rounding": 1e-6, "least": STEPS[2]})),
        ("correct", "wrong gradient",
         lambda k: (0, 1, k * 3e-6 / 0.999, {"tolerance": 1e-3, "rounding": 1e-6, "least": 0.15})),
        ("correct", "wrong gradient",
         lambda k: (1, 0, 1 + k * 0.014 / 0.99, {"standard_error": 0.001})),
        ("correct", "wrong gradient", lambda k: (1, 0, 1 + k * 0.04 / 0.99, {"noise": 0.01 * H})),
        # too much error to call a slope right
        ("correct", "noise", lambda k: (1, 0, 1, {"noise": 0.05 / 3 * H * k})),
        ("correct", "noise", lambda k: (1, 0, 1, {"noise": 0.1 / 3 * H * k, "tolerance": 0.1})),
        ("correct", "noise", lambda k: (1, 0, 1, {"standard_error": 0.05 * k})),
        # a stationary point: slope and errors beside slopes nearby
        ("correct", "noise",
         lambda k: (0.01 * k, 1 - 0.01 * k, 0.01 * k, {"standard_error": 6e-4 * k})),
        ("correct", "noise", lambda k: (1e-3, 1, 1e-3, {"standard_error": 0.0025 * k})),
        ("correct", "noise",
         lambda k: (1e-3, 1, 1e-3, {"standard_error": 0.005 * k, "tolerance": 0.02})),
        ("correct", "noise", lambda k: (0, 1, 0, {"noise": 0.01 / 3 * H * k})),
        ("correct", "noise", lambda k: (0, 1, 0, {"noise": 0.01 * k, "tolerance": 0.2})),
        # where all that f does is noise
        ("correct", "noise", lambda k: (1, 0, 1.28, {"noise": 0.01 * k, "tolerance": 0.2})),
        ("wrong gradient", "noise", lambda k: (1, 0, 9, {"noise": 0.02, "fine": 2e-4 * k})),
    ],
)  # fmt: skip
def test_a_verdict_turns_at_its_limit_alone(share, within, beyond, case):
    """Of a parabola of that slope and curve, for what is given."""
    slope, curve, given, asked = case(share)
    found = examined(lambda t: slope * t + curve * t**2, given, **asked)
    assert found.diagnosis == (within if share < 1 else beyond), found


@SIDES
@pytest.mark.parametrize("sign", [1, -1])
def test_at_a_kink_a_slope_lies_between_those_of_the_sides(share, sign):
    found = examined(abs, sign * (1 + share / 99))
    assert found.diagnosis == ("kink" if share < 1 else "wrong gradient")


def test_what_a_direction_tells_is_what_was_measured():
    found = examined(lambda t: 5 + 2 * t + t**3, given=2.0, noise=1e-9)
    assert (found.noise, found.given) == (1e-9, 2.0)
    assert found.change == pytest.approx(3)
    # Of errors 9 h² + η/h, h the finer of two steps, the least.
    errors = np.diff(-(STEPS**2)) + 1e-9 / STEPS[1:]
    assert found.error == pytest.approx(np.min(errors), rel=1e-4)
    assert found.step == STEPS[1:][np.argmin(errors)]
    assert found.measured == pytest.approx(2 + found.step**2, rel=1e-9)
    assert found.order == pytest.approx(3, abs=1e-3)
    assert found.steps == tuple(STEPS)
    assert examined(lambda t: t**2, given=0, random=0.01).diagnosis == "noise"


@pytest.mark.parametrize("place", [0, STEPS[-1], -STEPS[-3], STEPS[-3], -STEPS[-1]])
def test_rounding_is_of_the_values_that_finest_steps_see(place):
    found = examined(lambda t: 7.0 if t == place else 1e9 if abs(t) > STEPS[-3] else 1.0)
    assert found.noise == pytest.approx(7e-16)
    broken = examined(lambda t: np.inf if t == -STEPS[-2] else 3.0)
    assert broken.noise == pytest.approx(3e-16)
    assert examined(lambda t: t, random=0.25).noise == 0.25


@pytest.mark.parametrize(("count", "told"), [(2, "step too small"), (3, "correct")])
def test_three_steps_that_move_x_are_needed(count, told):
    steps = np.array([*[0.1, 0.01, 0.001][:count], 1e-13, 1e-14])
    found = examined(lambda t: t, steps=steps)
    assert (found.diagnosis, found.steps) == (told, tuple(steps[:count]))
    assert found.given == 1
    if count == 2:
        assert np.isnan([found.measured, found.step, found.order]).all()
        assert (found.error, found.change, found.noise) == (np.inf, 0, 0)


def test_a_wave_that_coarse_steps_take_for_noise_is_seen_by_finer_ones():
    found = examined(lambda t: t * (abs(t) < 2e-4), noise=1e-5)
    assert found.diagnosis == "correct"
    assert found.measured == pytest.approx(1)
    assert found.noise < 1e-15


@SIDES
@pytest.mark.parametrize(
    ("limit", "noise", "rises", "turned"),
    [(1e-3, 0, 1, 0), (2e-3, 0, 1, 0.1), (30e-9 / STEPS[4], 1e-9, 0, 0)],
)
def test_a_step_counts_unless_finer_ones_contradict_it(share, limit, noise, rises, turned):
    """By more than a thousandth of the slopes seen, 30 noises, or what its turning explains."""
    off = np.where(np.arange(16) < 4, share * limit, 0)
    found, _, step = taylor._mismatch(off * STEPS, STEPS, np.full(16, turned), noise, rises * STEPS)
    assert (found == pytest.approx(share * limit)) == (share < 1)
    assert (step > STEPS[4]) == (share < 1)


@pytest.mark.parametrize(("first", "last"), [(0, 20), (15, 20), (0, 15)])
def test_scatter_of_the_finest_steps_is_noise(first, last):
    """Of ± 1 at steps of 2⁻ᵏ: successive slopes differ by 1.5/h."""
    steps, index = 2.0 ** -np.arange(20), np.arange(20)
    wobble = np.where((index >= first) & (index < last), (-1.0) ** index, 0)
    off, error, step = taylor._mismatch(wobble, steps, np.zeros(20), 1e-3, 0 * steps)
    if last == 20:
        assert error == (3 if first == 0 else 1.5) / steps[1]
        assert (off, step) == (-2.0 if first == 0 else 0.0, steps[1])
    else:
        assert step < steps[14]


@SIDES
def test_sides_are_told_apart_at_three_limits(share):
    kink = lambda after, before, steps, noise=0.0: taylor._kink(  # noqa: E731
        after * steps, -before * steps, 0.0, steps, noise
    )
    one = np.ones(3)
    seen = kink(one, 0 * one, STEPS[:3], 0.1 / 20 * share)  # twenty noises, over three steps
    assert (seen is not None) == (share < 1)
    apart = kink(one, 0 * one, np.array([1, 0.5, share / 9]))  # over ninefold steps
    assert (apart is not None) == (share < 1)
    slight = kink((1 + 1e-3 * share) * one, one, STEPS[:3])  # by a thousandth of a slope
    assert (slight is None) == (share < 1)
    grows = kink(np.array([1, 1.5, 2 * share]), 0 * one, STEPS[:3])  # doubled, it jumps
    assert grows == (None if share < 1 else (-np.inf, np.inf))
    bend = kink(np.array([1 - 0.3 * share, 1, 1]), 0 * one, STEPS[:3])  # sides that settle
    assert (bend is not None) == (share < 1)
    if bend:
        assert bend == pytest.approx((-0.3 * share, 1))


def test_the_longest_run_of_steps_that_see_two_sides_is_asked():
    after = np.where(np.isin(np.arange(16), [0, 1, 2, 3, 6]), 1.0, 0)
    assert taylor._kink(after * STEPS, 0 * STEPS, 0.0, STEPS, 1e-9) == (0, 1)
    gap = np.where(np.isin(np.arange(16), [0, 1, 3, 4]), 1.0, 0)
    assert taylor._kink(gap * STEPS, 0 * STEPS, 0.0, STEPS, 1e-9) is None


PROBES = {
    "span": 1.0, "differentiable": 1.0, "residue": 0.0, "turns": 0.0, "explained": 1.0,
    "jump": 0.0, "fine_noise": 0.0, "repeat": 0.0, "noise": 0.0, "mismatch": 0.0,
    "slope_turns": 0.0, "failed_slopes": 0.0, "pathwise_variance": 0.5, "score_variance": 1.0,
    "unseen": 0.0, "unseen_z": 0.0,
}  # fmt: skip
S = 0.3
SMOOTHED, CENTRAL = EvolutionStrategies(S, samples=64), CentralDifference(S)
MEASURED = MeasureValued(S, samples=21)
BLIND = {"fine_noise": 0.01, "mismatch": 0.31}
UNSEEN = {"unseen": 0.11, "unseen_z": 4.1}
WIGGLY = {"turns": 9, "residue": 0.011}
EDGED = {"jump": 0.021, "slope_turns": 1}


@pytest.mark.parametrize(
    ("probes", "condition", "method"),
    [
        ({}, "smooth", Pathwise()),
        ({"mismatch": 0.31}, "smooth", Pathwise()),
        (BLIND, "noisy", CENTRAL),
        (BLIND | {"dimension": 16}, "noisy", CENTRAL),
        (BLIND | {"dimension": 17}, "noisy", SMOOTHED),
        (BLIND | {"mismatch": 0.3}, "smooth", Pathwise()),
        (BLIND | {"mismatch": np.nan}, "noisy", CENTRAL),
        (BLIND | {"mismatch": None}, "noisy", CENTRAL),
        (BLIND | {"explained": 0.49}, "chaotic", SMOOTHED),
        (BLIND | {"explained": 0.5}, "noisy", CENTRAL),
        (BLIND | {"explained": 0.49, "repeat": 0.1}, "noisy", CENTRAL),
        ({"mismatch": 0.31, "explained": 0.49}, "smooth", Pathwise()),
        ({"fine_noise": 0.01, "explained": 0.49}, "smooth", Pathwise()),
        (BLIND | UNSEEN, "discontinuous", MEASURED),
        (BLIND | UNSEEN | {"pathwise_variance": 1.0}, "discontinuous", MEASURED),
        (BLIND | UNSEEN | {"pathwise_variance": 1.01}, "noisy", CENTRAL),
        (UNSEEN, "discontinuous", MEASURED),
        (UNSEEN | {"unseen": 0.1}, "smooth", Pathwise()),
        (UNSEEN | {"unseen_z": 4.0}, "smooth", Pathwise()),
        (UNSEEN | {"pathwise_variance": 1.01, "slope_turns": 2, "jump": 0.02}, "chaotic", SMOOTHED),
        (UNSEEN | {"pathwise_variance": 1.01, "slope_turns": 1}, "discontinuous", MEASURED),
        (UNSEEN | {"pathwise_variance": 1.01, "slope_turns": 2, "jump": 0.021},
         "discontinuous", MEASURED),
        (UNSEEN | {"pathwise_variance": 1.0, "slope_turns": 2}, "discontinuous", MEASURED),
        (WIGGLY, "chaotic", SMOOTHED),
        (WIGGLY | {"turns": 8}, "smooth", Pathwise()),
        (WIGGLY | {"residue": 0.01}, "smooth", Pathwise()),
        (WIGGLY | EDGED, "discontinuous", MEASURED),
        (WIGGLY | EDGED | {"slope_turns": 2}, "chaotic", SMOOTHED),
        (WIGGLY | EDGED | {"jump": 0.02}, "chaotic", SMOOTHED),
        (WIGGLY | EDGED | {"mismatch": 0.31}, "chaotic", SMOOTHED),
        (WIGGLY | UNSEEN, "discontinuous", MEASURED),
        (WIGGLY | {"unrolled": True}, "chaotic", TotalPropagation(Gaussian(S), samples=64)),
        (WIGGLY | {"unrolled": True, "failed_slopes": 0.01}, "chaotic", SMOOTHED),
        (EDGED, "discontinuous", MEASURED),
        (EDGED | {"jump": 0.02}, "smooth", Pathwise()),
        (EDGED | {"dimension": 8}, "discontinuous", MeasureValued(S, samples=8)),
        (EDGED | {"dimension": 9}, "discontinuous", SMOOTHED),
        (EDGED | {"samples": 2}, "discontinuous", MeasureValued(S, samples=1)),
        ({"noise": 0.11}, "noisy", Pathwise(samples=64)),
        ({"noise": 0.11, "pathwise_variance": 1.0}, "noisy", SMOOTHED),
        ({"noise": 0.11, "failed_slopes": 0.01}, "noisy", SMOOTHED),
        ({"noise": 0.1}, "smooth", Pathwise()),
        ({"pathwise_variance": 1.0}, "smooth", Pathwise()),
        *(
            ({"pathwise_variance": 1.01, "samples": n}, "stiff",
             InverseVariance(Gaussian(S), samples=used))
            for n, used in ((64, 64), (66, 64), (13, 12), (7, 8))
        ),
        ({"score_variance": 0.0}, "stiff", InverseVariance(Gaussian(S), samples=64)),
        ({"differentiable": 0.0, "pathwise_variance": None, "score_variance": None},
         "smooth", Richardson()),
        ({"pathwise_variance": None, "score_variance": None}, "smooth", Pathwise()),
        ({"failed_slopes": 0.01, "dimension": 64}, "smooth", Richardson()),
        ({"failed_slopes": 0.01, "dimension": 65}, "smooth", RandomDirections(Haar(64), samples=1)),
        ({"failed_slopes": 0.01, "dimension": 65, "samples": 99}, "smooth",
         RandomDirections(Haar(65), samples=1)),
    ],
)  # fmt: skip
def test_advice_turns_at_its_limits_alone(probes, condition, method):
    changed = {"dimension": 3, "samples": 64, "unrolled": False} | PROBES | probes
    dimension, samples, unrolled = (changed.pop(k) for k in ("dimension", "samples", "unrolled"))
    loss = UnrolledLoss(*[jnp.sum] * 4) if unrolled else jnp.sum
    problem = SimpleNamespace(dimension=dimension, loss=loss)
    known = {name: value for name, value in changed.items() if value is not None}
    found = _decided(problem, known, S, samples)
    assert (found.condition, found.method) == (condition, method), found
    assert found.probes is known
    assert ("1% of its derivatives are not finite" in found.reason) == (
        known["failed_slopes"] == 0.01
    )
