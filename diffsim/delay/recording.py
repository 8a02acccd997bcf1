"""Recorded echoes from files: tables of oscilloscopes, NumPy arrays, Touchstone, gprMax."""

import csv
import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from diffsim import _extra
from diffsim._files import read_array
from diffsim._text import short

PREFIXES = {
    "": 1.0, "m": 1e-3, "u": 1e-6, "µ": 1e-6, "μ": 1e-6, "n": 1e-9, "p": 1e-12,
    "milli": 1e-3, "micro": 1e-6, "nano": 1e-9, "pico": 1e-12,
}  # fmt: skip
NAMES = ("s", "sec", "second", "seconds")
UNITS = {prefix + name: size for prefix, size in PREFIXES.items() for name in NAMES}
EVEN = 0.05  # of a step, by which an evenly sampled clock may be rounded
_NUMBER = r"([-+]?[\d.]+(?:e[-+]?\d+)?)"
_ROW = re.compile(r"""[\s",;]*[-+.(]*\s*(\d|(nan|inf|infinity)\b)""", re.I)  # one of numbers

_BESIDE = re.compile(r"[^,]*,[^,]*,,\s*(?=[-+.\d])")
_LONE = re.compile(r"[-+]?\d+,\d+(e[-+]?\d+)?", re.I)  # a number with a decimal comma
_TIME = re.compile(r"(time|zeit|t)(?![a-z])", re.I)
_UNIT = re.compile(r"(?:^(?:time)?|^time\b.*\s|[(\[/_,.:;=|-])\s*([a-zµμ]+)\s*[)\]]?$", re.I)
_FREQUENCY = re.compile(r"freq|f(?![a-z])|(.*[^a-z])?[kmg]?hz\b", re.I)


@dataclass(frozen=True)
class Recording:
    """One record.

    Attributes:
        values: (N,) real or complex.
        sample_rate: Hz, None where the file does not say.
        start: time of the first sample on the file's clock, s.
        step: frequency step, Hz, where the values are frequency samples; else None.
        first: the first frequency, Hz.
        ricker_delay: of a Ricker pulse of unit peak frequency, periods.
        name: what was read, where the file has more than one record.
    """

    values: np.ndarray
    sample_rate: float | None = None
    start: float = 0.0
    step: float | None = None
    first: float = 0.0
    ricker_delay: float = 0.0
    name: str = ""


def load(path: Path, trace: int = 0) -> Recording:
    """Read one record from a file; its ending says how.

    Args:
        path: ``.npy``; ``.csv``, ``.txt``, ``.tsv``, ``.dat``, ``.asc`` for tables in text;
            ``.s1p``, ``.s2p``, … for Touchstone; ``.out``, ``.h5``, ``.hdf5`` for gprMax.
        trace: row of a 2-D array, value column of a table, S-parameter in row order, or gprMax
            trace, from 0 on.

    Raises:
        ValueError: the file is of another kind or malformed; the message is one line.
        ImportError: a reader is not installed.
        OSError: the file cannot be read.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    read = _READERS.get("s" if re.fullmatch(r"\.s\d+p", suffix) else suffix)
    if read is None:
        raise ValueError(f"{path}: expected a {', '.join(_READERS)} file".replace(" s,", " .sNp,"))
    try:
        return read(path, trace)
    except (OSError, ImportError):
        raise
    except Exception as error:  # what libraries make of a damaged file may be anything
        text = short(error.args[0] if error.args else error, 300)
        raise ValueError(f"{path}: {text or type(error).__name__}") from error


def _array(path: Path, trace: int) -> Recording:
    array = read_array(path, "iufc")
    if array.ndim not in (1, 2):
        raise ValueError(f"expected 1 or 2 dimensions, got {array.shape}")
    return Recording(array if array.ndim == 1 else _chosen(array, trace))


def _chosen(rows, trace: int):
    if not 0 <= trace < len(rows):
        raise ValueError(f"trace: expected 0 to {len(rows) - 1}, got {trace}")
    return rows[trace]


def _decoded(data: bytes) -> str:
    """Text by its byte-order mark, by the zeros of UTF-16, as UTF-8, or as Latin-1."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16")
    if data[1:200:2].count(0) > 20 or data[:200:2].count(0) > 20:
        return data.decode("utf-16-le" if data[1:2] == b"\0" else "utf-16-be")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def _table(path: Path, trace: int) -> Recording:
    """Columns of numbers below any header; of several, the first counts samples, or one is time."""
    text = _decoded(path.read_bytes()).lstrip("\ufeff").replace("\N{MINUS SIGN}", "-")
    lines = [line.strip() for line in text.splitlines()]
    notes = [line for line in lines if line[:1] in ("#", "%")]
    body = [(n, re.split("[#%]", line)[0].strip()) for n, line in enumerate(lines, 1)]
    body = [(n, line) for n, line in body if line]
    if body and all(map(_BESIDE.match, (line for _, line in body))):  # Tektronix: notes at the left
        notes += [line for _, line in body]
        body = [(n, _BESIDE.sub("", line)) for n, line in body]
    start = next((i for i, (_, line) in enumerate(body) if _ROW.match(line)), None)
    if start is None:
        raise ValueError("expected rows of numbers, got none")
    header, rows = [line for _, line in body[:start]], body[start:]
    mark = next((mark for mark in "\t;" if mark in rows[0][1]), None)
    if mark is None:
        lone = header and "," not in header[-1] and all(_LONE.fullmatch(row) for _, row in rows)
        spaced = re.search(r"\d,\d+\s+\S|\d\s+[-+]?\d+,\d", rows[0][1])
        mark = "," if "," in rows[0][1] and not (lone or spaced) else None
    table = np.array(_numbers(rows, mark))
    table = table if table.imag.any() else table.real
    names = [
        [cell.strip(' "') for cell in re.split(mark or r"\s+(?![\s(\[])", line)]
        for line in [*header, *(n[1:].strip() for n in notes)]
    ]
    said = " ".join([*header, *notes])
    columns = list(range(table.shape[1]))
    first, step = _stated(names, said)
    if step is None and len(columns) > 1:
        titles = [cells[: len(columns)] for cells in names[: len(header)][-2:]]
        clock = columns.pop(_clock(titles))
        titled = [cells for cells in names[len(header) :] if len(cells) == table.shape[1]]
        times, unit = table[:, clock].real, _unit([*names[: len(header)], *titled], clock)
        called = any(_TIME.match(cell) for cells in titles for cell in cells)
        first, step = _even(times * (unit or 1.0))
        if not (unit or called) and np.all(np.diff(times) == 1):
            first = step = None  # they count samples
    if columns[0] == 0 and len(columns) > 1 and _rises(table[:, 0].real, (1.0, step)):
        columns.pop(0)
    place = _chosen(columns, trace)
    label = next((cells[place] for cells in names if len(cells) > place), "")
    return Recording(
        table[:, place], step and 1 / step, first or 0.0, name=label if len(columns) > 1 else ""
    )


def _numbers(rows: list[tuple[int, str]], mark: str | None) -> list[list[complex]]:
    table: list[list[complex]] = []
    for line, text in rows:
        [cells] = csv.reader([text.rstrip(mark)], delimiter=mark) if mark else [text.split()]
        cells = [cell.strip(' "').replace(" ", "").replace(",", ".") for cell in cells]
        try:
            table.append([complex(cell) for cell in cells])
        except ValueError:
            raise ValueError(f"line {line}: could not convert {text!r} to numbers") from None
        if len(table[-1]) != len(table[0]):
            raise ValueError(f"line {line}: expected {len(table[0])} columns, got {len(table[-1])}")
    return table


def _stated(names: list[list[str]], said: str) -> tuple[float | None, float | None]:
    """Start and step in s that a header states, as those of Rigol and Hantek do."""
    for above, below in pairwise(names):
        lower = [cell.lower() for cell in above]
        if "increment" in lower:  # Rigol: X,CH1,Start,Increment over Sequence,Volt,-6e-4,1e-6
            first = float(below[lower.index("start")]) if "start" in lower else None
            return first, _positive(float(below[lower.index("increment")]))
    if found := re.search(rf"tinc\s*=\s*{_NUMBER}", said, re.I):
        zero = re.search(rf"\bt0\s*=\s*{_NUMBER}", said, re.I)
        return float(zero[1]) if zero else None, _positive(float(found[1]))
    if found := re.search(rf"\bclock\s*[=:]\s*{_NUMBER}\s*([munpµμ]?s)\b", said, re.I):  # Hantek
        return None, _positive(float(found[1]) * UNITS[found[2].lower()])
    return None, None


def _positive(step: float) -> float:
    if not step > 0:
        raise ValueError(f"header: expected a positive time step, got {step:g} s")
    return step


def _clock(titles: list[list[str]]) -> int:
    """Which column is time: the one called so, or the first."""
    for cells in titles:
        for place, cell in enumerate(cells):
            if _TIME.match(cell):
                return place
            if _FREQUENCY.match(cell):
                raise ValueError(f"time: expected a column of times, got {short(cell)!r}")
    return 0


def _unit(names: list[list[str]], clock: int) -> float | None:
    """Of a column, in s: (ns), [ns], time_ns, time:ns, timeNs, time in ns, or the bare unit; None
    if unsaid.
    """
    for cells in names:
        cell = cells[clock] if len(cells) > clock else ""
        found = _UNIT.search(cell)
        word = found[1].lower() if found else ""
        if word in UNITS:
            return UNITS[word]
        if found and found[0][0] in "([":
            raise ValueError(f"time: expected a unit among s, ms, us, ns, ps, got {word!r}")
    return None


def _rises(column: np.ndarray, steps: tuple[float | None, ...]) -> bool:
    """Whether a column beside a stated step is none of values, but counts samples or tells time."""
    return any(step and np.allclose(np.diff(column) / step, 1, rtol=EVEN) for step in steps)


def _even(clock: np.ndarray) -> tuple[float, float]:
    """Start and step of a clock."""
    if len(clock) < 2:
        raise ValueError(f"time: expected at least 2 samples, got {len(clock)}")
    if not np.all(np.isfinite(clock)):
        raise ValueError(f"time: expected finite numbers, got {np.sum(~np.isfinite(clock))} not")
    step = float(clock[-1] - clock[0]) / (len(clock) - 1)
    off = np.abs(clock - clock[0] - step * np.arange(len(clock)))
    if not off.max() < EVEN * step:
        steps = np.diff(clock)
        raise ValueError(
            "time: expected a first column of evenly rising times, got steps from "
            f"{steps.min():g} to {steps.max():g} s"
        )
    return float(clock[0]), step


def _touchstone(path: Path, trace: int) -> Recording:
    try:
        import skrf
    except ImportError as error:
        raise _extra.missing(f"{path}: a Touchstone file", "scikit-rf", "rf") from error
    text, network = io.StringIO(_decoded(path.read_bytes())), skrf.Network()
    text.name = path.name  # type: ignore[attr-defined]
    network.read_touchstone(text)  # Network(path) would first run the file as a pickle
    ports = network.nports
    values = _chosen(network.s.reshape(len(network.f), -1).T, trace)
    steps = np.diff(network.f)
    if len(steps) < 1 or not np.allclose(steps, steps.mean(), rtol=1e-3) or steps.mean() <= 0:
        raise ValueError(
            "expected equal frequency steps, got "
            + (f"{steps.min():g} to {steps.max():g} Hz" if len(steps) else "one frequency")
        )
    step = float(network.f[-1] - network.f[0]) / len(steps)
    name = f"S{trace // ports + 1}{trace % ports + 1}"
    return Recording(values, step=step, first=float(network.f[0]), name=name)


def _gprmax(path: Path, trace: int) -> Recording:
    try:
        import h5py
    except ImportError as error:
        raise _extra.missing(f"{path}: a gprMax file", "h5py", "hdf5") from error
    with h5py.File(path) as file:
        if "dt" not in file.attrs or not file.get("rxs"):
            raise ValueError(
                "expected a gprMax output with attribute dt and group rxs, got neither"
            )
        traces = [
            (f"{receiver}/{component}", column)
            for receiver, group in file["rxs"].items()
            for component, data in group.items()
            if component[0] == "E"
            for column in np.atleast_2d(np.asarray(data).T)
        ]
        traces = [(name, column) for name, column in traces if np.any(column)]
        name, values = _chosen(traces, trace)
        # Its Ricker pulse is centred on sqrt(2)/f, not on zero.
        return Recording(values, 1 / float(file.attrs["dt"]), ricker_delay=2**0.5, name=name)


_READERS: dict[str, Callable[[Path, int], Recording]] = {
    ".npy": _array,
    **dict.fromkeys((".csv", ".txt", ".tsv", ".dat", ".asc"), _table),
    "s": _touchstone,
    **dict.fromkeys((".out", ".h5", ".hdf5"), _gprmax),
}
