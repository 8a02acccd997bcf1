"""The command line: a table for a good file, one line and exit code 2 for a bad one."""

import json
from pathlib import Path

import numpy as np
import pytest
import script

from diffsim.delay.recording import load

ROOT = Path(__file__).parents[2]
ASCAN = str(ROOT / "data" / "gpr_ascan.npy")


def run(*arguments):
    return script.run("delay", *arguments)


def test_delays_of_the_synthetic_scan(tmp_path, capsys):
    picture = tmp_path / "spectrum.png"
    code = run(
        ASCAN, "--sample-rate", "8e9", "--pulse", "ricker:8e8", "--echoes", "3",
        "--plot", str(picture),
    )  # fmt: skip
    lines = capsys.readouterr().out.splitlines()
    assert code == 0
    assert lines[0].startswith("3 echoes")
    told = [line for line in lines[1:] if "±" in line]
    found = [float(line.split()[0]) for line in told]
    np.testing.assert_allclose(found, [6.004154e-9, 7.063187e-9, 16.307186e-9], atol=0.01e-9)
    assert all("resolved" in line for line in told)
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert [path.name for path in tmp_path.iterdir()] == ["spectrum.png"]
    common = [ASCAN, "--sample-rate", "8e9", "--pulse", "ricker:8e8", "--echoes", "3"]
    assert run(*common, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    np.testing.assert_allclose([echo["delay"] for echo in told["echoes"]], found, rtol=1e-6)
    assert told["warnings"] == []
    assert not told["saturated"]
    assert 0 < told["residual"] < 0.01


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([ASCAN, "--sample-rate", "8e9", "--echoes", "200"], "echoes: expected 1 to 63"),
        ([ASCAN, "--sample-rate", "8e9", "--echoes", "two"], "echoes: expected a number or auto"),
        ([ASCAN, "--sample-rate", "-8e9"], "sample_rate: expected a positive"),
        ([ASCAN, "--sample-rate", "8e9", "--pulse", "ricker:9e9"], "pulse: expected ricker:HZ"),
        (["nan.csv", "--sample-rate", "1"], "signal: expected finite numbers, got 1 that are not"),
        (["short.csv", "--sample-rate", "1"], "signal: expected at least 4 samples"),
        (["absent.csv"], "No such file"),
        ([ASCAN], "sample_rate: expected Hz, as the file has no clock"),
        (["timed.csv", "--plot", "x.foo"], "path: expected a name ending in"),
        (["timed.csv", "--sample-rate", "2"], "expected times 0.5 s apart"),
        (["text.csv", "--sample-rate", "1"], "expected rows of numbers, got none"),
        (["words.csv", "--sample-rate", "1"], "could not convert"),
        (["absent.npy", "--sample-rate", "1"], "No such file"),
        (["signal.wav", "--sample-rate", "1"], "expected a .npy, .csv"),
    ],
)
def test_bad_input_is_one_line_and_code_two(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("nan.csv").write_text("1\n2\nnan\n4\n5\n")
    Path("short.csv").write_text("1\n2\n3\n")
    Path("timed.csv").write_text("0,1\n0.2,2\n0.4,1\n0.6,0\n0.8,1\n")
    Path("text.csv").write_text("delay\n")
    Path("words.csv").write_text("delay\n1\ntwo\n")
    assert run(*arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    assert printed.err.startswith("error: ")
    assert message in printed.err


def test_csv_with_names_times_and_complex_values(tmp_path):
    file, wave = tmp_path / "wave.csv", np.exp(1j * np.arange(5))
    file.write_text("time,value\n" + "".join(f"{k / 4},{v}\n" for k, v in enumerate(wave)))
    np.testing.assert_array_equal(load(file).values, wave)
    file.write_text("".join(f"{v.real}\n" for v in wave))
    loaded = load(file).values
    assert loaded.dtype == float
    np.testing.assert_array_equal(loaded, wave.real)
