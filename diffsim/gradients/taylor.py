"""One claimed slope against difference quotients over a sweep of steps."""

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from flax import struct

from diffsim.gradients.steps import measured_noise

CORRECT, WRONG, BIASED = "correct", "wrong gradient", "biased estimator"
KINK, JUMP, NOISE, SMALL = "kink", "jump", "noise", "step too small"
SEVERITY = (WRONG, BIASED, JUMP, NOISE, SMALL, KINK, CORRECT)


@struct.dataclass
class DirectionCheck:
    """One leaf (or all of x) along one random unit direction v.

    Attributes:
        leaf: its path in x; "x" for all leaves together.
        diagnosis: one of ``SEVERITY``.
        given: g·v.
        measured: the central difference at the step of least estimated error.
        error: that estimate of its error.
        step: that step.
        order: slope of log |f(x+hv) − f(x−hv) − 2h g·v| in log h: 3 (or more) for a right
            gradient, 1 for a wrong one, NaN where all there is to see is rounding.
    """

    leaf: str
    diagnosis: str
    given: float
    measured: float
    error: float
    step: float
    order: float

    def __str__(self) -> str:
        return (
            f"along {self.leaf}: given {self.given:.6g}, measured {self.measured:.6g} "
            f"± {self.error:.1g} at h = {self.step:.1g}, remainder order {self.order:.2f}: "
            f"{self.diagnosis}"
        )


def sweep(steps, epsilon: float) -> np.ndarray:
    """The given steps, largest first; by default half decades from 0.1 down to ε^0.7.

    Raises:
        ValueError: fewer than 3 steps, or one that is not positive.
    """
    if steps is None:
        return 10.0 ** np.arange(-1.0, 0.7 * np.log10(epsilon), -0.5)
    chosen = np.sort(np.asarray(steps, np.float64))[::-1]
    if chosen.ndim != 1 or chosen.size < 3 or np.any(chosen <= 0):
        raise ValueError(f"steps: expected at least 3 positive numbers, got {steps!r}")
    return chosen


def noise_along(along: Callable[[float], float], epsilon: float) -> float:
    """Noise of one evaluation, from difference tables on either side: a kink at 0 is not noise."""
    tables = []
    for side in (1.0, -1.0):
        line = np.array([along(side * k * epsilon**0.5) for k in range(1, 10)])
        tables.append(float(measured_noise(jnp.asarray(line - line.mean()))))
    return min(tables)


def examine(
    leaf: str,
    along: Callable[[float], float],
    given: float,
    standard_error: float,
    steps: np.ndarray,
    *,
    epsilon: float,
    tolerance: float,
    biased: bool,
    random: float,
) -> DirectionCheck:
    """The verdict along one direction.

    Args:
        leaf: name to report.
        along: h → f(x + hv).
        given: the claimed slope.
        standard_error: of ``given``, 0 if it is not an estimate.
        steps: largest first.
        epsilon: machine epsilon of f.
        tolerance: relative mismatch allowed.
        biased: call a mismatch a biased estimator, not a wrong gradient.
        random: standard deviation of f called twice at one point, 0 if it repeats itself.
    """
    value = along(0.0)
    up = np.array([along(h) for h in steps])
    down = np.array([along(-h) for h in steps])
    rounding = epsilon * max(np.max(np.abs(up[-3:])), np.max(np.abs(down[-3:])), abs(value))
    noise = max(2 * noise_along(along, epsilon), rounding, random)  # a table of 9 is rough
    central = (up - down) / (2 * steps)
    errors = np.abs(np.diff(central)) + noise / steps[1:]
    best = int(np.argmin(np.where(np.isfinite(errors), errors, np.inf)))
    measured, error, step = float(central[best + 1]), float(errors[best]), float(steps[best + 1])

    scale = max(abs(given), abs(measured), 30 * noise ** (2 / 3), 1e-300)
    mismatch = abs(given - measured)
    allowed = tolerance * scale + 3 * error + 4 * standard_error
    sides = _kink(up, down, value, steps, noise)
    if sides == (-np.inf, np.inf):
        diagnosis = JUMP
    elif sides is not None:
        inside = sides[0] - allowed <= given <= sides[1] + allowed
        diagnosis = KINK if inside else WRONG
    elif not mismatch <= allowed:
        diagnosis = BIASED if biased else WRONG
    elif error + standard_error <= 0.05 * scale:
        diagnosis = CORRECT
    else:
        diagnosis = (
            NOISE if max(noise, 1e-300) > 100 * rounding or standard_error > error else SMALL
        )
    order = _order(steps, np.abs(up - down - 2 * steps * given), noise)
    return DirectionCheck(leaf, diagnosis, given, measured, error, step, order)


def _kink(up, down, value, steps, noise) -> tuple[float, float] | None:
    """The slopes on either side where they stay apart as h shrinks (±∞ at a jump), else None."""
    after, before = (up - value) / steps, (value - down) / steps
    apart = np.abs(after - before)
    seen = np.flatnonzero(apart > 20 * noise / steps)
    if seen.size < 3 or seen[-1] - seen[0] < 2:
        return None
    fine, coarse = seen[-1], seen[seen <= seen[-1] - 2][-1]
    large = max(abs(after[fine]), abs(before[fine]))
    if apart[fine] < 0.5 * apart[coarse] or apart[fine] < 1e-3 * large:
        return None
    if apart[fine] > 2 * apart[coarse]:
        return -np.inf, np.inf
    low, high = sorted((float(before[fine]), float(after[fine])))
    return low, high


def _order(steps, remainder, noise) -> float:
    seen = np.flatnonzero(remainder > 20 * noise)[-6:]
    if seen.size < 3:
        return float("nan")
    return float(np.polyfit(np.log(steps[seen]), np.log(remainder[seen]), 1)[0])
