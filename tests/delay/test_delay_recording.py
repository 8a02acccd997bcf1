"""Files as instruments write them: every sample is read, and the clock is used or refused."""

import pickle
import sys

import numpy as np
import pytest

from diffsim.delay import FrequencySamples, estimate_delays, report
from diffsim.delay.recording import load

WAVE = [0.5, -0.25, 1.0, 0.125, 2.5]
ROWS = "".join(f"{k * 0.5},{v}\n" for k, v in enumerate(WAVE))


@pytest.mark.parametrize(
    ("text", "rate", "start"),
    [
        ("\ufeff0.5\n-0.25\n1.0\n0.125\n2.5\n", None, 0.0),
        ("% made\n# by hand\n" + ROWS, 2.0, 0.0),
        ("Time,Channel A\n(ns),(mV)\n\n" + ROWS, 2e9, 0.0),
        ("time (µs);wert\n" + ROWS.replace(",", ";").replace(".", ","), 2e6, 0.0),
        ("t\tv\n" + ROWS.replace(",", "\t"), 2.0, 0.0),
        (
            "X,CH1,Start,Increment,\nSequence,Volt,-6e-4,1e-6\n"
            + "".join(f"{k},{v},\n" for k, v in enumerate(WAVE)),
            1e6,
            -6e-4,
        ),
        (
            "CH1V,t0 = -6.0e-04, tInc = 1.0e-06,\n" + "".join(f"{v},\n" for v in WAVE),
            1e6,
            -6e-4,
        ),
        ("#CHANNEL:CH1\n#CLOCK=500nS\n#SIZE=5\n" + "".join(f"{v}\n" for v in WAVE), 2e6, 0.0),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "latin-1"])
def test_tables(text, rate, start, encoding, tmp_path):
    file = tmp_path / "wave.csv"
    file.write_bytes((text.lstrip("\ufeff") if encoding == "latin-1" else text).encode(encoding))
    found = load(file)
    np.testing.assert_array_equal(found.values, WAVE)
    assert found.sample_rate == (None if rate is None else pytest.approx(rate))
    assert found.start == pytest.approx(start)


def test_uneven_times_are_refused(tmp_path):
    file = tmp_path / "wave.csv"
    file.write_text("0,1\n1,2\n2.5,1\n3,0\n")
    with pytest.raises(ValueError, match="evenly rising times"):
        load(file)


@pytest.mark.parametrize(
    ("module", "name", "extra"), [("skrf", "cable.s2p", "rf"), ("h5py", "model.h5", "hdf5")]
)
def test_a_reader_that_is_not_installed_is_named(module, name, extra, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    (tmp_path / name).touch()
    with pytest.raises(ImportError, match=rf"{name}: .*pip install 'diffsim-jax\[{extra}\]'"):
        load(tmp_path / name)


def test_frequencies_are_one_step_and_an_offset():
    frequencies = 1e9 + 1e6 * np.arange(5)
    with pytest.raises(ValueError, match=r"step: expected one frequency step, .*shape \(5,\)"):
        FrequencySamples.create(WAVE, frequencies)
    with pytest.raises(ValueError, match="offset: expected a finite number, got nan"):
        FrequencySamples.create(WAVE, 1e6, offset=np.nan)
    made = FrequencySamples.create(WAVE, 1e6, offset=1e3)
    np.testing.assert_allclose(made.frequencies, frequencies, rtol=1e-6)


@pytest.mark.slow  # compiles the estimate once more; that of the script is in the default run
def test_more_echoes_than_were_looked_for():
    phases = np.arange(16)[:, None] * np.array([0.2, 0.7])
    samples = FrequencySamples.create(np.exp(-2j * np.pi * phases).sum(axis=1), 1e6)
    found = estimate_delays(samples, 1)
    assert found.saturated
    assert report.warnings(found)[0].startswith("there may be more echoes")
    assert not estimate_delays(samples, 1, 1).saturated, "one was asked for"


def test_touchstone_of_two_ports(tmp_path):
    pytest.importorskip("skrf")
    file = tmp_path / "line.s2p"
    rows = "".join(
        f"{1 + k / 4} 0 0 {v} 0 9 0 8 0\n" for k, v in enumerate(WAVE)
    )  # S11, S21, S12, S22
    file.write_text("# GHZ S RI R 50\n" + rows)
    found = load(file, trace=2)
    np.testing.assert_allclose(found.values, WAVE)
    assert found.name == "S21"
    with pytest.raises(ValueError, match="trace: expected 0 to 3, got 4"):
        load(file, trace=4)


def test_a_pickle_with_the_name_of_a_touchstone_file_is_not_run(tmp_path):
    pytest.importorskip("skrf")

    class Touch:
        def __reduce__(self):
            return (tmp_path / "ran").touch, ()

    file = tmp_path / "cable.s1p"
    file.write_bytes(pickle.dumps(Touch()))
    with pytest.raises(ValueError, match=r"cable\.s1p: "):
        load(file)
    assert not (tmp_path / "ran").exists()


def test_touchstone_and_gprmax(tmp_path):
    h5py, _ = pytest.importorskip("h5py"), pytest.importorskip("skrf")
    file = tmp_path / "cable.s1p"
    file.write_text(
        "# GHZ S RI R 50\n" + "".join(f"{1 + k / 4} {v} 0\n" for k, v in enumerate(WAVE))
    )
    found = load(file)
    np.testing.assert_allclose(found.values, WAVE)
    assert (found.step, found.first, found.name) == (2.5e8, 1e9, "S11")
    file = tmp_path / "model.out"
    with h5py.File(file, "w") as made:
        made.attrs["dt"] = 5e-12
        made["rxs/rx1/Ez"] = np.array(WAVE)
    found = load(file)
    np.testing.assert_array_equal(found.values, WAVE)
    assert found.sample_rate == pytest.approx(2e11)
    assert found.ricker_delay == pytest.approx(2**0.5)
    # A pulse that left at t = 0 has its centre √2 periods later.
    samples = report._samples(found, None, "ricker:5e10", (1e9, 1e11), None, 0.0)
    assert float(samples.origin) == pytest.approx(-(2**0.5) / 5e10)
