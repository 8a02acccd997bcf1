"""Lebedev's rules, symmetric under the octahedral group, from scipy's tables.

V. I. Lebedev and D. N. Laikov, Doklady Mathematics 59 (1999) 477.
"""

from functools import lru_cache

import numpy as np

from diffsim.quadrature.base import PointRule

DEGREES = (*range(3, 32, 2), *range(35, 132, 6))


@lru_cache(maxsize=32)
def _table(degree: int) -> tuple[np.ndarray, np.ndarray]:
    try:
        from scipy.integrate import lebedev_rule
    except ImportError as error:
        raise ImportError("lebedev: expected scipy 1.15 or newer, which has the tables") from error
    return lebedev_rule(degree)


class Lebedev(PointRule):
    """The rule of degree n."""

    name = "lebedev"
    why = "free to choose the points: the fewest samples for a degree, in scattered points"

    @classmethod
    def exists(cls, n: int) -> bool:
        return n in DEGREES

    @property
    def degree(self) -> int:
        return self.n

    @property
    def points(self) -> tuple[np.ndarray, np.ndarray]:
        x, y, z = _table(self.n)[0]
        return np.arctan2(np.hypot(x, y), z), np.arctan2(y, x) % (2 * np.pi)

    def weights(self) -> np.ndarray:
        return _table(self.n)[1]
