"""The contract of a published case: what the source reports, and ours beside it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import jax
import numpy as np


@dataclass(frozen=True)
class Published:
    """A figure as the source gives it.

    Attributes:
        low, high: the figure, or its range over the source's seeds.
        margin: how far ours may lie outside.
        one_draw: the source measured it once, on few samples: it agrees if it lies where 95 % of
            such measurements of ours do.
    """

    low: float
    high: float
    margin: float = 0.0
    one_draw: bool = False

    def __str__(self) -> str:
        return shown(self.low) if self.low == self.high else f"{self.low:g}–{self.high:g}"


@dataclass(frozen=True)
class Measured:
    """Ours: a figure and where 95 % of its repetitions lie (or the range over our seeds)."""

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, repetitions, *, middle: float | None = None) -> "Measured":
        """From repetitions: all of them if they are few, else 2.5 % to 97.5 %.

        >>> Measured.of([1.0, 3.0])
        Measured(value=2.0, low=1.0, high=3.0)
        """
        values = np.asarray(repetitions, float)
        tails = (0, 100) if values.size < 40 else (2.5, 97.5)
        low, high = np.percentile(values, tails)
        value = float(values.mean()) if middle is None else middle
        return cls(value, float(low), float(high))

    def __str__(self) -> str:
        if self.low == self.high:
            return shown(self.value)
        return f"{shown(self.value)} [{shown(self.low)}, {shown(self.high)}]"


@dataclass(frozen=True)
class Row:
    """One line of a case; ``agrees`` is None where the source gives no figure."""

    what: str
    published: Published | None
    ours: Measured

    @property
    def agrees(self) -> bool | None:
        """Whether ours and the published figure are the same within the margin."""
        told, ours = self.published, self.ours
        if told is None:
            return None
        if told.one_draw:
            return ours.low <= told.high and told.low <= ours.high
        return told.low - told.margin <= ours.value <= told.high + told.margin

    @property
    def verdict(self) -> str:
        """agrees, disagrees, or that there is nothing to agree with."""
        return {True: "agrees", False: "DISAGREES", None: "no figure published"}[self.agrees]


@dataclass(frozen=True)
class Case:
    """An experiment of the literature; to add one, write a file and one line in the table.

    Attributes:
        name: on the command line.
        about: what it shows, one sentence.
        source: paper and the settings it was run with.
        run: (key, samples) → figure by name; ``samples`` scales the effort, see the case.
        samples: what the source used, or what it takes to be exact.
        published: figure by name; names that are missing here are ours only.
        note: what to know when reading the rows.
    """

    name: str
    about: str
    source: str
    run: Callable[[jax.Array, int], Mapping[str, Measured | float]]
    samples: int
    published: Mapping[str, Published] = field(default_factory=dict)
    note: str = ""

    def rows(self, key: jax.Array, samples: int | None = None) -> list[Row]:
        """Run it, and set every figure beside the published one.

        Raises:
            ValueError: fewer than two samples.
        """
        samples = self.samples if samples is None else samples
        if samples < 2:
            raise ValueError(f"samples: expected at least 2, got {samples}")
        found = self.run(key, samples)
        return [
            Row(what, self.published.get(what), v if isinstance(v, Measured) else Measured(v, v, v))
            for what, v in found.items()
        ]


def shown(value: float) -> str:
    """Five digits."""
    return f"{value:.5g}"
