"""Every reader of files, on files damaged at random: read, or told in one short line."""

import io
import json
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import _entry
from diffsim.delay import recording
from diffsim.identification import observations
from diffsim.physics import scene
from diffsim.training import LoopSettings, Settings, metrics
from reports import sphere
from studies.gradients import sweep
from studies.training import plan

DATA = Path(__file__).parent / "physics" / "scenes"
WAVE = [0.0, 1.0, -2.0, 0.5, 3.0, 0.25]
# What a file has too much of, or of the wrong kind; and for text, what its grammar knows.
ANY = [b"\0", b"\xff\xfe", b"\xef\xbb\xbf", b"\xe9", b"\n", b"\r", b" ", b"-", b".", b"9" * 400]
TEXT = [
    *ANY, b"nan", b"-inf", b"1e999", b"-1e-999", b"1_0", b"1j", b",", b",,", b";", b"\t", b'"',
    b"'", b"#", b"%", b"=", b"(", b"x" * 5000, b"time", b"\xc2\xb5s", b"increment,start\n",
]  # fmt: skip
NESTED = [
    *TEXT, b"[", b"]", b"[[", b"]]", b"{", b"}", b":", b"[" * 600, b"[]", b"{}", b"null", b"true",
    b"1979-05-27", b"'''", b"0x", b"\\u0000", b"1e300", b"[0, 0, 0]", b"[[1, 2, 3]]", b"kind",
    b"[[surface]]\n", b"[ball]\n", b"kind = 'disk'\n", b"radius = 0\n", b"u = [1, 0, 0]\n",
]  # fmt: skip


def array(values, **options) -> bytes:
    file = io.BytesIO()
    np.save(file, values, **options)
    return file.getvalue()


def table(*rows, header="") -> bytes:
    return "\n".join([header, *(",".join(map(str, row)) for row in rows)]).lstrip().encode()


def gprmax() -> bytes:
    file = io.BytesIO()
    with h5py.File(file, "w") as made:
        made.attrs["dt"] = 5e-12
        made["rxs/rx1/Ez"] = np.array(WAVE)
    return file.getvalue()


def stored(kind) -> bytes:
    return json.dumps(json.loads(json.dumps(kind().__dict__, default=str))).encode()


def seen() -> bytes:
    rows = [("a", k / 10, 0.1 * k, 0, 1 - 0.05 * k, 0, 3.5, "") for k in range(7)]
    return table(*rows, header=",".join(observations.HEADER))


def swept() -> bytes:
    names = ("bias", "bias_low", "bias_high", "variance", "evaluations", "seconds", "samples")
    record = {"objective": "plain"} | dict.fromkeys(names, 2.0)
    reference = {"gradient": [3.0, 4.0], "error": 0.1, "evaluations": 2}
    return json.dumps({"reference a": reference, "b": record}).encode()


def judged(path):
    """As a sweep that finds all it wants in its file."""
    done = sweep.Store(path).done
    if done.keys() == {"reference a", "b"}:
        sweep.judged(done["b"], done["reference a"])


class Reader(NamedTuple):
    read: Callable[[Path], object]
    suffix: str
    whole: list[bytes]
    pieces: list[bytes]


NUMBERS = [array(np.array(WAVE)), array(np.ones((3, 4), np.complex64)), array(np.eye(3, dtype=int))]
CLOCKED = table(*((k / 4, v) for k, v in enumerate(WAVE)), header="time (ns),volt")
TOUCHSTONE = "# GHZ S RI R 50\n" + "".join(f"{1 + k / 4} {v} 0\n" for k, v in enumerate(WAVE))
READERS = {
    "scene": Reader(scene.load, ".toml", [f.read_bytes() for f in DATA.glob("*.toml")], NESTED),
    "table": Reader(
        recording.load, ".csv",
        [CLOCKED, table(*zip(WAVE), header="#CHANNEL:CH1\n#CLOCK=500nS\n"), CLOCKED.decode()
         .encode("utf-16")], TEXT,
    ),
    "array": Reader(recording.load, ".npy", NUMBERS, NESTED),
    "touchstone": Reader(recording.load, ".s1p", [TOUCHSTONE.encode()], [*TEXT, b"!", b"DB", b"Y"]),
    "gprmax": Reader(recording.load, ".out", [gprmax()], ANY),
    "samples": Reader(sphere.load, ".npy", NUMBERS, NESTED),
    "observations": Reader(observations.read, ".csv", [seen()], TEXT),
    "metrics": Reader(
        metrics.read, ".csv", [table((0, 1.5), (5, "nan"), (10, 0.25), header="step,loss\n")], TEXT
    ),
    "settings": Reader(Settings.load, ".json", [stored(Settings)], NESTED),
    "loop settings": Reader(LoopSettings.load, ".json", [stored(LoopSettings)], NESTED),
    "comparison": Reader(
        plan.finished, ".json",
        [b'{"compile_seconds": 1.5, "final": {"hit_rate": [0.5, 0.4, 0.6]}}'], NESTED,
    ),
    "sweep": Reader(judged, ".json", [swept()], NESTED),
    "flags": Reader(_entry._values, ".json", [stored(Settings)], NESTED),
    "flags in TOML": Reader(_entry._values, ".toml", [b"steps = 3\nhidden = [4, 5]\n"], NESTED),
}  # fmt: skip


@st.composite
def damaged(draw, reader: Reader):
    """A whole file with up to four cuts, pieces put in, or bytes of any kind."""
    data = draw(st.sampled_from(reader.whole))
    for _ in range(draw(st.integers(0, 4))):
        at, cut = draw(st.integers(0, len(data))), draw(st.sampled_from([0, 0, 1, 2, 9, 99, 9999]))
        put = draw(st.one_of(st.just(b""), st.sampled_from(reader.pieces), st.binary(max_size=8)))
        data = data[:at] + put + data[at + cut :]
    return data


@pytest.mark.parametrize("count", [50, pytest.param(10_000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", READERS)
def test_damaged_files_are_read_or_told_in_one_line(name, count, tmp_path):
    reader, told = READERS[name], []
    path = tmp_path / f"file{reader.suffix}"

    @settings(max_examples=count, derandomize=count < 100, suppress_health_check=[*HealthCheck])
    @given(damaged(reader))
    def check(data):
        path.write_bytes(data)
        begun = time.process_time()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # a warning tells as well
                reader.read(path)
        except (ValueError, OSError, FloatingPointError) as error:
            line = str(error)
            told.append(line)
            assert line.isprintable(), line
            assert 5 < len(line) < 500 + len(str(path)), line
        else:
            told.append("")
        assert time.process_time() - begun < 2

    check()
    assert any(told), "no damage was told"
    assert not all(told), "no file was read"
