"""A number with its confidence interval, and the intervals of rates and means."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

NORMAL = 1.959964  # standard errors to either side, 95 %


class Interval(NamedTuple):
    """A number and the ends of its confidence interval."""

    value: float
    low: float
    high: float

    @classmethod
    def normal(cls, value: float, error: float, z: float = NORMAL) -> "Interval":
        """value ∓ z error, 95 % by default.

        >>> print(Interval.normal(1.0, 0.1))
        1 [0.804, 1.2]
        """
        return cls(value, value - z * error, value + z * error)

    def __str__(self) -> str:
        if math.isnan(self.value):
            return "–"
        return f"{self.value:.3g} [{self.low:.3g}, {self.high:.3g}]"


def wilson(successes: int, count: int, z: float = NORMAL) -> Interval:
    """A rate and its Wilson score interval.

    Source: E. B. Wilson, J. Am. Stat. Assoc. 22 (1927) 209.

    >>> tuple(round(x, 3) for x in wilson(95, 100))
    (0.95, 0.888, 0.978)
    """
    rate = successes / count
    middle = (rate + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z / (1 + z**2 / count) * math.sqrt(rate * (1 - rate) / count + z**2 / (4 * count**2))
    return Interval(rate, max(middle - half, 0.0), min(middle + half, 1.0))


def mean_interval(values: np.ndarray) -> Interval:
    """A mean and its 95 % normal interval; NaN without values, and without ends from one.

    >>> mean_interval(np.array([1.0, 1.0]))
    Interval(value=1.0, low=1.0, high=1.0)
    """
    count = len(values)
    if count < 2:
        return Interval(float(values[0]) if count else math.nan, math.nan, math.nan)
    return Interval.normal(float(np.mean(values)), float(np.std(values, ddof=1)) / count**0.5)


def student_interval(values: Sequence[float] | np.ndarray) -> Interval:
    """A mean and its 95 % interval by Student's t, for few values; NaN from a single one.

    >>> [round(x, 2) for x in student_interval([1.0, 2.0, 3.0])]
    [2.0, -0.48, 4.48]
    """
    from scipy.stats import t

    mean, count = float(np.mean(values)), len(values)
    if count < 2:
        return Interval(mean, math.nan, math.nan)
    error = float(np.std(values, ddof=1)) / count**0.5
    return Interval.normal(mean, error, float(t.ppf(0.975, count - 1)))
