"""Observed flights: where the ball was seen, when, and how it spun, read from CSV."""

import csv
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from diffsim._text import short

_POSITION, _SPIN = ("x", "y", "z"), ("spin_x", "spin_y", "spin_z")
COLUMNS = ("trajectory", "time", *_POSITION)
HEADER = (*COLUMNS, *_SPIN)
LEAST = 5  # whole positions of a flight


@dataclass(frozen=True)
class Observations:
    """Samples of several flights, padded to one length; what was not seen is NaN.

    Attributes:
        names: of the flights, (n,).
        times: s after the first sample of each flight, (n, k), ascending; NaN past the last.
        positions: (n, k, 3), m, world frame.
        spins: (n, k, 3), rad/s.
    """

    names: tuple[str, ...]
    times: np.ndarray
    positions: np.ndarray
    spins: np.ndarray

    @classmethod
    def create(cls, times, positions, spins=None, names=None) -> "Observations":
        """Checked observations; a flight's first time becomes 0.

        Raises:
            ValueError: shapes that do not fit; times not ascending; a flight with fewer than
                five samples that hold a whole position.

        >>> seen = Observations.create([[1.0, 1.1, 1.2, 1.3, 1.4]], np.zeros((1, 5, 3)))
        >>> seen.times.round(1).tolist(), seen.count
        ([[0.0, 0.1, 0.2, 0.3, 0.4]], 15)
        """
        times, positions = np.asarray(times, float), np.asarray(positions, float)
        if times.ndim != 2 or 0 in times.shape:
            raise ValueError(f"times: expected shape (n, k), got {times.shape}")
        spins = np.full_like(positions, np.nan) if spins is None else np.asarray(spins, float)
        for key, value in (("positions", positions), ("spins", spins)):
            if value.shape != (*times.shape, 3):
                raise ValueError(f"{key}: expected shape {(*times.shape, 3)}, got {value.shape}")
        names = tuple(map(str, range(len(times)))) if names is None else tuple(names)
        if len(names) != len(times):
            raise ValueError(f"names: expected {len(times)}, got {len(names)}")
        real = np.isfinite(times)
        for name, row, seen in zip(names, times, real & np.isfinite(positions).all(-1)):
            if not np.isfinite(row[0]):
                raise ValueError(f"trajectory {short(name)}: expected a first time, got {row[0]}")
            stays = np.flatnonzero(np.diff(row[np.isfinite(row)]) <= 0)
            if stays.size:
                at = stays[0] + 1
                raise ValueError(
                    f"trajectory {short(name)}: expected ascending times, got {row[at]:g} s after "
                    f"{row[at - 1]:g} s at sample {at + 1}, the first of {stays.size}"
                )
            if seen.sum() < LEAST:
                raise ValueError(
                    f"trajectory {short(name)}: expected at least {LEAST} whole positions, "
                    f"got {seen.sum()}"
                )
        known = np.where(real[..., None], 1.0, np.nan)
        return cls(names, times - times[:, :1], positions * known, spins * known)

    def take(self, rows: np.ndarray) -> "Observations":
        """Some of the flights, by a mask (n,) bool."""
        names = tuple(name for name, kept in zip(self.names, rows) if kept)
        return Observations(names, self.times[rows], self.positions[rows], self.spins[rows])

    @property
    def count(self) -> int:
        """How many numbers were observed."""
        return int(np.isfinite(self.positions).sum() + np.isfinite(self.spins).sum())

    @property
    def duration(self) -> float:
        """Of the longest flight, s."""
        return float(np.nanmax(self.times))


def read(path: str | Path) -> Observations:
    """Observations from a CSV file.

    Columns trajectory, time (s), x, y, z (m) and, where the spin was measured, spin_x, spin_y,
    spin_z (rad/s). An empty cell or ``nan`` is a sample that was missed; rows need no order.

    Raises:
        ValueError: a column is missing or unknown; a cell is not a number; a flight is too short,
            or has two samples at one time.
        OSError: the file cannot be read.
    """
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            return _read(csv.DictReader(file))
    except (ValueError, csv.Error) as error:
        raise ValueError(f"{path}: {short(error, 300)}") from error


def write(path: Path, observations: Observations) -> None:
    """Write a CSV file that :func:`read` takes, every sample a row."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(HEADER)
        for flight in zip(
            observations.names, observations.times, observations.positions, observations.spins
        ):
            name, rows = flight[0], np.column_stack(flight[1:])
            for row in rows[np.isfinite(rows[:, 0])]:
                writer.writerow([name, *("" if math.isnan(v) else f"{v:.6g}" for v in row)])


def _read(reader: csv.DictReader) -> Observations:
    columns = tuple(reader.fieldnames or ())
    missing = [key for key in COLUMNS if key not in columns]
    unknown = [key for key in columns if key not in HEADER]
    if missing or unknown:
        raise ValueError(
            f"expected columns {','.join(COLUMNS)}[,{','.join(_SPIN)}], got {','.join(columns)}"
        )
    flights: dict[str, list[list[float]]] = {}
    lines: dict[tuple[str, float], int] = {}
    for row in reader:
        line, name = reader.line_num, row["trajectory"]
        cells = [_number(line, key, row.get(key) or "") for key in HEADER[1:]]
        if (first := lines.setdefault((name, cells[0]), line)) != line:
            raise ValueError(
                f"lines {first} and {line}: expected each time of trajectory {short(name)} once, "
                f"got {cells[0]:g} s twice"
            )
        flights.setdefault(name, []).append(cells)
    if not flights:
        raise ValueError("expected rows of samples, got none")
    length = max(map(len, flights.values()))
    table = np.full((len(flights), length, 7), np.nan)
    for padded, samples in zip(table, flights.values()):
        padded[: len(samples)] = sorted(samples, key=lambda cells: cells[0])
    return Observations.create(table[..., 0], table[..., 1:4], table[..., 4:], names=tuple(flights))


def _number(line: int, key: str, text: str) -> float:
    try:
        value = float(text) if text.strip() else math.nan
    except ValueError:
        value = math.inf
    if math.isinf(value) or (key == "time" and math.isnan(value)):
        raise ValueError(f"line {line}, {key}: expected a number, got {text!r}")
    return value
