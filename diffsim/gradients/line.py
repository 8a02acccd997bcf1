"""A loss along a line through x: steps that follow the size of x, points its types hold exactly."""

from collections.abc import Callable
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np

from diffsim.gradients.steps import measured_noise


@dataclass(frozen=True)
class Line:
    """f along a unit direction v.

    Attributes:
        at: flat point → f.
        point: x, flat, (p,), float64.
        direction: v, (p,).
        epsilons: machine epsilon of each entry's type, (p,).
        tiny: smallest normal number of each entry's type, (p,).
        least, most: length of a move by the size of x, the least that this may be and the most.
    """

    at: Callable[[np.ndarray], float]
    point: np.ndarray
    direction: np.ndarray
    epsilons: np.ndarray
    tiny: np.ndarray
    least: float
    most: float

    @property
    def epsilon(self) -> float:
        """Of the coarsest type that moves."""
        return float(np.max(self.epsilons, initial=0, where=self.direction != 0))

    def move(self, length: float, reach: float = 1.0) -> np.ndarray:
        """length · v, rounded so that x ± reach · move are exact: rounding x is no noise of f."""
        wanted = length * self.direction
        far = np.maximum(np.abs(self.point) + reach * np.abs(wanted), self.tiny)
        grid = self.epsilons * 2.0 ** np.floor(np.log2(far))
        return grid * np.round(wanted / grid)

    def steps(self) -> np.ndarray:
        """Half decades, nine at least within the size of x, down to where its digits end."""
        epsilon = self.epsilon
        high = max(0.1, 2 * epsilon ** (1 / 3))
        low = min(16 * epsilon, epsilon ** (2 / 3))
        fine = self.least * np.geomspace(high, low, max(9, 1 + round(2 * np.log10(high / low))))
        wider = round(2 * np.log10(self.most / self.least))
        return np.concatenate([fine[0] * 10.0 ** (0.5 * np.arange(wider, 0, -1)), fine])

    def noise(self, spacing: float | None = None) -> float:
        """Noise of one evaluation, by difference tables of two spacings, lest one is in step with
        it, on either side of x, since a kink there is none.
        """
        epsilon = self.epsilon
        if spacing is None:
            spacing = self.least * max(min(epsilon**0.5, 1e-4), epsilon ** (2 / 3))

        def table(move):
            values = np.array([self.at(self.point + k * move) for k in range(1, 10)])
            values = values - values.mean()
            unit = np.max(np.abs(values)) or 1.0  # worked out in float32 it stays in range
            return unit * float(measured_noise(jnp.asarray(values / unit)))

        moves = [self.move(spacing * factor, 10.0) for factor in (1.0, 1.618)]
        return max(min(table(move), table(-move)) for move in moves)


def checked_steps(steps) -> np.ndarray | None:
    """The steps asked for, largest first; None for :meth:`Line.steps`.

    Raises:
        ValueError: fewer than 3 steps, or one that is not positive.
    """
    if steps is None:
        return None
    chosen = np.sort(np.asarray(steps, np.float64))[::-1]
    if chosen.ndim != 1 or chosen.size < 3 or not np.all(chosen > 0):
        raise ValueError(f"steps: expected at least 3 positive numbers, got {steps!r}")
    return chosen
