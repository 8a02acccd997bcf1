"""One claimed slope against difference quotients over a sweep of steps."""

from dataclasses import replace

import numpy as np
from flax import struct

from diffsim.gradients.line import Line

CORRECT, WRONG, BIASED = "correct", "wrong gradient", "biased estimator"
KINK, JUMP, NOISE, SMALL = "kink", "jump", "noise", "step too small"
NOT_FINITE = "not finite"
TINY = 1e-300
SEVERITY = (WRONG, BIASED, JUMP, NOT_FINITE, NOISE, SMALL, KINK, CORRECT)


@struct.dataclass
class DirectionCheck:
    """One leaf (or all of x) along one random unit direction v.

    Attributes:
        leaf: its path in x; "x" for all leaves together.
        diagnosis: one of ``SEVERITY``.
        given: g·v.
        measured: the central difference at the step of least estimated error.
        error: that estimate of its error.
        step: that step, the length by which x moves.
        order: slope of log |f(x+hv) − f(x−hv) − 2h g·v| in log h: 3 (or more) for a right
            gradient, 1 for a wrong one, NaN where all there is to see is rounding.
        change: the largest |f(x ± hv) − f(x)| of the sweep.
        steps: the sweep, largest first.
        noise: of one evaluation of f, that the verdict rests on.
    """

    leaf: str
    diagnosis: str
    given: float
    measured: float
    error: float
    step: float
    order: float
    change: float
    steps: tuple[float, ...]
    noise: float

    def __str__(self) -> str:
        return (
            f"along {self.leaf}: given {self.given:.6g}, measured {self.measured:.6g} "
            f"± {self.error:.1g} at h = {self.step:.1g}, remainder order {self.order:.2f}: "
            f"{self.diagnosis}"
        )


@np.errstate(invalid="ignore")  # f may overflow far out, and ∞ − ∞ does not count
def examine(
    leaf: str,
    line: Line,
    given: np.ndarray,
    standard_error: float,
    steps: np.ndarray,
    *,
    rounding: float,
    tolerance: float,
    biased: bool,
    random: float,
) -> DirectionCheck:
    """The verdict along one direction.

    Args:
        leaf: name to report.
        line: f along the direction.
        given: the claimed gradient, flat.
        standard_error: of its slope along the line, 0 if it is not an estimate.
        steps: lengths, largest first.
        rounding: machine epsilon of f.
        tolerance: relative mismatch allowed.
        biased: call a mismatch a biased estimator, not a wrong gradient.
        random: standard deviation of f called twice at one point, 0 if it repeats itself.
    """
    value = line.at(line.point)
    moves = np.array([line.move(h) for h in steps])
    moving = np.any(moves, axis=1)
    steps, moves = steps[moving], moves[moving]
    slope = float(given @ line.direction)
    if len(steps) < 3:  # the rest is below the last digit of x
        nothing = (slope, np.nan, np.inf, np.nan, np.nan, 0.0)
        return DirectionCheck(leaf, SMALL, *nothing, tuple(float(h) for h in steps), 0.0)
    up = np.array([line.at(line.point + move) for move in moves])
    down = np.array([line.at(line.point - move) for move in moves])
    claimed = moves @ given
    near = np.abs([*up[-3:], *down[-3:], value])
    least = max(rounding * np.max(near, initial=0, where=np.isfinite(near)), random, TINY)
    turned = np.linalg.norm(moves / steps[:, None] - line.direction, axis=1)
    moved = np.abs([up - value, down - value])
    change = float(np.max(moved, initial=0, where=np.isfinite(moved)))

    def judged(noise: float) -> DirectionCheck:
        off, error, step = _mismatch((up - down) / 2 - claimed, steps, turned, noise, up - value)
        measured = slope + off
        seen = np.where(np.isfinite(moved) & (moved > 100 * noise), moved, 0)
        nearby = float(np.max(seen / steps))
        # Far beyond the size of x f may be steep beyond measure, which excuses nothing at x.
        close = float(np.max(seen / steps, initial=0, where=steps <= line.least))
        scale = max(abs(slope), abs(measured), float(np.linalg.norm(given * line.direction)))
        least_allowed = min(30 * rounding, 0.1 * tolerance) * close
        allowed = tolerance * scale + least_allowed + 3 * error + 4 * standard_error
        sides = _kink(up, down, value, steps, noise)
        if not np.isfinite(error):
            diagnosis = NOT_FINITE
        elif sides == (-np.inf, np.inf):
            diagnosis = JUMP
        elif sides is not None:
            inside = sides[0] - allowed <= slope <= sides[1] + allowed
            diagnosis = KINK if inside else WRONG
        elif abs(off) > allowed:
            diagnosis = BIASED if biased else WRONG
        elif 3 * error <= max(0.05, tolerance) * scale and standard_error <= 0.05 * scale:
            diagnosis = CORRECT
        elif max(3 * error, 4 * standard_error, scale) <= max(0.01, tolerance) * nearby:
            diagnosis = CORRECT  # a stationary point: no slope to speak of beside those nearby
        else:
            noisy = noise > 100 * least or random or standard_error > error
            diagnosis = NOISE if noisy else SMALL
        order = _order(steps, 2 * np.abs((up - down) / 2 - claimed), noise)
        lengths = tuple(float(h) for h in steps)
        return DirectionCheck(
            leaf, diagnosis, slope, measured, error, step, order, change, lengths, noise
        )

    noise = max(2 * line.noise(), least)  # a table of 9 is rough
    check = judged(noise)
    if noise > max(100 * least, 0.01 * change):
        # All that f does is noise there, or a wave, which finer steps see and noise withstands.
        fine = max(2 * line.noise(steps[-1]), least)
        again = judged(fine)
        if check.diagnosis == CORRECT and again.diagnosis in (WRONG, BIASED):
            return replace(check, diagnosis=NOISE)
        if check.diagnosis in (WRONG, BIASED, JUMP):
            told = again.diagnosis == CORRECT or fine <= 0.01 * noise
            return again if told else replace(check, diagnosis=NOISE)
    return check


def _mismatch(differences, steps, turned, noise, rises) -> tuple[float, float, float]:
    """Measured less given slope where its error is estimated least, that error, and the step.

    A step counts only where finer ones do not contradict it by more than their noise and a
    thousandth of the slopes they see: far out, a bump or a wave looks flat.
    """
    off = differences / steps
    scatter = np.median(np.abs(np.diff(off))[-4:] * steps[1:][-4:])
    noise = max(noise, scatter) if np.isfinite(scatter) else noise
    errors = np.abs(np.diff(off)) + noise / steps[1:]
    slack = 30 * noise / steps + 1e-3 * np.abs(rises) / steps
    for k in range(1, len(errors)):
        against = np.abs(off[k + 1 :] - off[k]) - 5 * turned[k + 1 :] * np.abs(off[k])
        if np.any(against > slack[k + 1 :]):
            errors[k - 1] = np.inf
    errors = np.where(np.isfinite(errors), errors, np.inf)
    best = int(np.argmin(errors))
    return float(off[best + 1]), float(errors[best]), float(steps[best + 1])


def _kink(up, down, value, steps, noise) -> tuple[float, float] | None:
    """The slopes on either side where they stay apart as h shrinks (±∞ at a jump), else None."""
    after, before = (up - value) / steps, (value - down) / steps
    apart = np.abs(after - before)
    seen = np.flatnonzero(apart > 20 * noise / steps)
    # A step alone beyond others that see nothing sees noise.
    seen = max(np.split(seen, np.flatnonzero(np.diff(seen) > 1) + 1), key=len)
    coarser = seen[steps[seen] > 9 * steps[seen[-1]]] if seen.size else seen
    if coarser.size == 0:
        return None
    fine, coarse = seen[-1], coarser[-1]
    large = max(abs(after[fine]), abs(before[fine]))
    if apart[fine] < 1e-3 * large:
        return None
    if apart[fine] > 2 * apart[coarse]:
        return -np.inf, np.inf
    moved = max(abs(after[fine] - after[coarse]), abs(before[fine] - before[coarse]))
    if moved > 0.3 * apart[fine]:
        return None  # a bend seen from afar: the slopes of either side do not settle
    low, high = sorted((before[coarse], after[coarse]))
    return float(low - moved), float(high + moved)


def _order(steps, remainder, noise) -> float:
    seen = np.flatnonzero(remainder > 20 * noise)[-6:]
    if seen.size < 3:
        return float("nan")
    return float(np.polyfit(np.log(steps[seen]), np.log(remainder[seen]), 1)[0])
