"""Files as instruments write them: every sample is read, and the clock is used or refused."""

import pickle
import sys

import numpy as np
import pytest

from diffsim.delay import FrequencySamples, estimate_delays, ricker_spectrum
from diffsim.delay.estimate import DelayEstimate
from diffsim.delay.recording import Recording, load
from reports import delay as report

WAVE = [0.5, -0.25, 1.0, 0.125, 2.5]
ROWS = "".join(f"{k * 0.5},{v}\n" for k, v in enumerate(WAVE))


def samples_of(recording, **options):
    return report._samples(recording, report.Options("", **options))


@pytest.mark.parametrize(
    ("text", "rate", "start"),
    [
        ("\ufeff0.5\n-0.25\n1.0\n0.125\n2.5\n", None, 0.0),
        ("% made\n# by hand\n" + ROWS, 2.0, 0.0),
        ("Time,Channel A\n(ns),(mV)\n\n" + ROWS, 2e9, 0.0),
        ("time (µs);wert\n" + ROWS.replace(",", ";").replace(".", ","), 2e6, 0.0),
        ("t\tv\n" + ROWS.replace(",", "\t"), 2.0, 0.0),
        (
            "ms V\n" + "".join(f"{k} {str(v).replace('.', ',')}\n" for k, v in enumerate(WAVE)),
            1e3,
            0,
        ),
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


@pytest.mark.parametrize("times", [(0, 1, 2.5, 3), (3, 2, 1, 0), (1, 1, 1, 1)])
def test_uneven_times_are_refused(times, tmp_path):
    file = tmp_path / "wave.csv"
    file.write_text("".join(f"{time},{time**2}\n" for time in times))
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
    with pytest.raises(ValueError, match=r"offset: expected a finite number, got shape \(5,\)"):
        FrequencySamples.create(WAVE, 1e6, offset=frequencies)
    made = FrequencySamples.create(WAVE, 1e6, offset=1e3)
    np.testing.assert_allclose(made.frequencies, frequencies, rtol=1e-6)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"origin": np.nan}, "origin: expected finite numbers, got nan"),
        ({"origin": -np.inf}, "origin: expected finite numbers, got -inf"),
        ({"missing": np.arange(5) != 2}, "at least 2 frequencies with a pulse, got 1"),
        ({"pulse": np.zeros(5)}, "at least 2 frequencies with a pulse, got 0"),
        ({"pulse": np.arange(5) < 3, "missing": np.arange(5) < 2}, "with a pulse, got 1"),
    ],
)
def test_samples_that_tell_nothing_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        FrequencySamples.create(WAVE, 1e6, **settings)


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
    samples = samples_of(found, pulse="ricker:5e10", band=(1e9, 1e11))
    assert float(samples.origin) == pytest.approx(-(2**0.5) / 5e10)


def test_arrays_and_their_rows(tmp_path):
    file = tmp_path / "wave.npy"
    np.save(file, [WAVE, np.negative(WAVE)])
    np.testing.assert_array_equal(load(file).values, WAVE)
    np.testing.assert_array_equal(load(file, 1).values, np.negative(WAVE))
    for trace in (-1, 2):
        with pytest.raises(ValueError, match=rf"trace: expected 0 to 1, got {trace}"):
            load(file, trace)
    np.save(file, WAVE)
    np.testing.assert_array_equal(load(file).values, WAVE)
    for bad in (np.ones((2, 2, 2)), np.array(1.0)):
        np.save(file, bad)
        with pytest.raises(ValueError, match="expected 1 or 2 dimensions"):
            load(file)


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-8-sig"])
def test_text_without_a_mark_is_known_by_its_zeros(encoding, tmp_path):
    file = tmp_path / "wave.csv"
    file.write_bytes(("time,µ\n" + ROWS).encode(encoding))
    np.testing.assert_array_equal(load(file).values, WAVE)


def test_columns_have_names_and_clocks(tmp_path):
    file = tmp_path / "wave.csv"
    file.write_text("time_ms,left,right\n" + "".join(f"{3 + k},{v},{-v}\n" for k, v in
                                                      enumerate(WAVE)))  # fmt: skip
    for trace, (name, sign) in enumerate((("left", 1), ("right", -1))):
        found = load(file, trace)
        np.testing.assert_array_equal(found.values, sign * np.array(WAVE))
        assert found.name == name
        assert found.sample_rate == pytest.approx(1e3)
        assert found.start == pytest.approx(3e-3)
    with pytest.raises(ValueError, match="trace: expected 0 to 1, got 2"):
        load(file, 2)
    # Two channels and no column of time: the header has the clock, and samples are not counted.
    file.write_text("a,b,tInc = 2e-6,t0 = 1e-3\n" + "".join(f"{v},{-v}\n" for v in WAVE))
    for trace, sign in ((0, 1), (1, -1)):
        found = load(file, trace)
        np.testing.assert_array_equal(found.values, sign * np.array(WAVE))
        assert (found.sample_rate, found.start) == (pytest.approx(5e5), 1e-3)
        assert found.name == "ab"[trace]
    file.write_text("X,CH1,Increment\nSequence,Volt,1e-6\n" + "".join(
        f"{k},{v},\n" for k, v in enumerate(WAVE)))  # fmt: skip
    found = load(file)
    assert (found.sample_rate, found.start, found.name) == (pytest.approx(1e6), 0.0, "")
    np.testing.assert_array_equal(found.values, WAVE)


@pytest.mark.parametrize(
    "first", ["inf", "-Infinity", "NaN", '"0.5"', "\N{MINUS SIGN}0.5", "+.5", " -.5", "(1+2j)"]
)
def test_a_first_row_of_numbers_is_no_header(first, tmp_path):
    """However it is written; and if it cannot be read, that is told."""
    file = tmp_path / "wave.csv"
    file.write_text(f"{first}\n1\n2\n")
    assert load(file).values.size == 3
    file.write_text(f"{first}?\n1\n2\n")
    with pytest.raises(ValueError, match="line 1: could not convert"):
        load(file)
    file.write_text(f",{first}\n1,0\n2,0\n")
    with pytest.raises(ValueError, match="line 1: could not convert"):
        load(file)
    for word in ("info", "nanometres", "infinite"):
        file.write_text(f"{word}\n{first}\n1\n2\n")
        assert load(file).values.size == 3


@pytest.mark.parametrize(
    ("title", "step"),
    [
        ("time in ns", 1e-9), ("Microseconds", 1e-6), ("Time (msec)", 1e-3), ("t [Sec]", 1.0),
        ("time nanoseconds", 1e-9), ("t/ps", 1e-12), ("second", 1.0), ("time axis", 1.0),
         ("made by us", 1.0), ("time.ns", 1e-9), ("time:us", 1e-6), ("time-ms", 1e-3),
         ("TimeNs", 1e-9), ("timestamp", 1.0), ("milliseconds", 1e-3), ("t (Picosecond)", 1e-12),
         ("μs", 1e-6),
    ],
)  # fmt: skip
def test_units_are_words_of_a_title(title, step, tmp_path):
    file = tmp_path / "wave.csv"
    for mark in ",;\t":
        file.write_text(f"{title}{mark}volt\n" + ROWS.replace(",", mark))
        found = load(file)
        assert found.sample_rate == pytest.approx(2 / step)
        np.testing.assert_array_equal(found.values, WAVE)
    for mark in ("", "% ", "#"):
        file.write_text(f"{mark}time (ns)  volt\n" + ROWS.replace(",", "  "))
        assert load(file).sample_rate == pytest.approx(2e9)


def test_the_column_called_time_is_the_clock(tmp_path):
    """Behind the values, or behind a count of the rows; never one of frequencies."""
    file = tmp_path / "wave.csv"
    file.write_text("volt,time (ms)\n" + "".join(f"{v},{k}\n" for k, v in enumerate(WAVE)))
    found = load(file)
    assert found.sample_rate == pytest.approx(1e3)
    np.testing.assert_array_equal(found.values, WAVE)
    rows = "".join(f"{k},{3 + k / 2},{v},{-v}\n" for k, v in enumerate(WAVE))
    for title in (",Time,a,b\n", "n,t,a,b\n(-),(s),(V),(V)\n"):
        file.write_text(title + rows)
        for trace, sign in ((0, 1), (1, -1)):
            found = load(file, trace)
            assert (found.sample_rate, found.start, found.name) == (2, 3, "ab"[trace])
            np.testing.assert_array_equal(found.values, sign * np.array(WAVE))
    for title in ("Frequency,S11", "freq,re", "Frequency (Hz),S11\n,dB"):
        file.write_text(title + "\n" + ROWS)
        with pytest.raises(ValueError, match=r"expected a column of times, got '[Ff]req"):
            load(file)


def test_quoted_cells_may_hold_decimal_commas(tmp_path):
    file = tmp_path / "wave.csv"
    file.write_text("".join(f'"{k}","{v}"\n'.replace(".", ",") for k, v in enumerate(WAVE)))
    np.testing.assert_array_equal(load(file).values, WAVE)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,tInc = 0,\n1,\n2,\n", "expected a positive time step, got 0 s"),
        ("#CLOCK=0nS\n1\n2\n", "expected a positive time step, got 0 s"),
        ("time (h),v\n" + ROWS, "time: expected a unit among s, ms, .* got 'h'"),
        ("0,1\n", "time: expected at least 2 samples, got 1"),
        ("0,1\nnan,2\n2,1\n", "time: expected finite numbers, got 1 not"),
        ("2,1\n1,2\n0,1\n", "evenly rising times, got steps from -1 to -1 s"),
        ("0,1\n0,2\n0,1\n", "evenly rising times, got steps from 0 to 0 s"),
        ("0,1\n1,2\n2,1,5\n", "line 3: expected 2 columns, got 3"),
        ("# made\n0,1\n\n1,x\n", "line 4: could not convert"),
    ],
)
def test_a_table_that_cannot_be_used_is_told(text, message, tmp_path):
    file = tmp_path / "wave.csv"
    file.write_text(text)
    with pytest.raises(ValueError, match=message):
        load(file)


def test_a_clock_may_be_rounded_by_a_twentieth_of_a_step(tmp_path):
    file = tmp_path / "wave.csv"
    file.write_text("0,1\n1.049,2\n2,1\n3,0\n")
    assert load(file).sample_rate == pytest.approx(1)
    file.write_text("0,1\n1.051,2\n2,1\n3,0\n")
    with pytest.raises(ValueError, match="evenly rising"):
        load(file)


def test_columns_that_are_no_clock(tmp_path):
    """Counts of samples, frequencies, and decimal commas under one title; notes at the left."""
    file = tmp_path / "wave.csv"
    rows = "".join(f"{k + 1},{v}\n" for k, v in enumerate(WAVE))
    for title in ("", "Sample,CH1\n", "index,value\n"):
        file.write_text(title + rows)
        found = load(file)
        assert (found.sample_rate, found.start) == (None, 0.0), title
        np.testing.assert_array_equal(found.values, WAVE)
    file.write_text("Temps (ms),U\n" + rows)
    assert load(file).sample_rate == pytest.approx(1e3), "a unit makes it a clock"
    for title in ("f,re", "Hz,dB", "Frequency_Hz,dB", "dB,Freq (GHz)", "f (kHz),dB"):
        file.write_text(f"{title}\n{rows}")
        with pytest.raises(ValueError, match="time: expected a column of times, got '"):
            load(file)
    file.write_text("U in V\n" + "".join(f"{v}\n" for v in WAVE).replace(".", ","))
    np.testing.assert_array_equal(load(file).values, WAVE)
    notes = ["Record Length,5,,", "Sample Interval,1e-6,,", ",,,", ",,,", ",,,"]  # Tektronix
    clock = "".join(f"{note}{1e-6 * k - 2e-6:.9f},{v},\n"
                    for k, (note, v) in enumerate(zip(notes, WAVE)))  # fmt: skip
    file.write_text(clock)
    found = load(file)
    assert (found.sample_rate, found.start) == (pytest.approx(1e6), -2e-6)
    np.testing.assert_array_equal(found.values, WAVE)
    file.write_text("Time(s),CH1,CH2,t0 = -2e-6, tInc = 1e-6,\n" + "".join(
        f"{1e-6 * k - 2e-6},{v},{-v},\n" for k, v in enumerate(WAVE)))  # fmt: skip
    np.testing.assert_array_equal(load(file, 1).values, -np.array(WAVE), "time beside a tInc")


def test_touchstone_frequencies_rise_in_equal_steps(tmp_path):
    pytest.importorskip("skrf")
    file = tmp_path / "cable.s1p"
    for frequencies, told in (((1, 1.25, 1.6), "got 2.5e.08 to 3.5e.08 Hz"), ((1,), "one freq")):
        file.write_text("# GHZ S RI R 50\n" + "".join(f"{f} 1 0\n" for f in frequencies))
        with pytest.raises(ValueError, match=told):
            load(file)
    file.write_text("# GHZ S RI R 50\n1 1 0\n1.25 1 0\n1.5 1 0\n1.75 1 0\n")
    assert load(file).step == pytest.approx(2.5e8)


def test_gprmax_traces_are_electric_and_not_silent(tmp_path):
    h5py = pytest.importorskip("h5py")
    file = tmp_path / "scan.out"
    with h5py.File(file, "w") as made:
        made.attrs["dt"] = 5e-12
        made["rxs/rx1/Ex"] = np.zeros(5)
        made["rxs/rx1/Ez"] = np.stack([WAVE, np.negative(WAVE)], axis=1)
        made["rxs/rx1/Hx"] = np.ones(5)
    for trace, sign in ((0, 1), (1, -1)):
        found = load(file, trace)
        np.testing.assert_array_equal(found.values, sign * np.array(WAVE))
        assert found.name == "rx1/Ez"
    with pytest.raises(ValueError, match="trace: expected 0 to 1, got 2"):
        load(file, 2)
    with h5py.File(file, "w") as made:
        made.attrs["dt"] = 5e-12
    with pytest.raises(ValueError, match="attribute dt and group rxs"):
        load(file)


def test_what_a_file_s_clock_and_the_flags_say_together(tmp_path):
    """Delays count from the pulse; gates and time zero are on the file's clock."""
    file = tmp_path / "wave.csv"
    wave = np.random.default_rng(0).normal(size=16)
    file.write_text("".join(f"{5 + k / 2},{v}\n" for k, v in enumerate(wave)))
    made = samples_of(load(file), gate=(6.0, 10.0), time_zero=5.5)
    assert float(made.step) == pytest.approx(2 / 8)
    assert float(made.origin) == pytest.approx(6.0 - 5.5)
    np.testing.assert_allclose(made.values, np.fft.fft(wave[2:10])[1:4], atol=1e-6)
    bare = tmp_path / "bare.csv"
    bare.write_text("1\n2\n1\n")
    touch = Recording(np.arange(1.0, 5), step=2e8, first=1e9)
    made = samples_of(touch, pulse="ricker:1e9", band=(1.1e9, 1.4e9), time_zero=2e-9)
    np.testing.assert_allclose(made.frequencies, [1.2e9, 1.4e9], rtol=1e-6)
    np.testing.assert_allclose(made.values, [2, 3])
    np.testing.assert_allclose(
        made.pulse, ricker_spectrum(np.array([1.2e9, 1.4e9]), 1e9), rtol=1e-5
    )
    assert float(made.origin) == pytest.approx(-2e-9)
    for bad, told in (
        ({"band": (1.1e9, 1.3e9)}, "band: expected at least 2"),
        ({"gate": (0.0, 1.0)}, "gate, sample_rate: expected none"),
        ({"sample_rate": 1.0}, "gate, sample_rate: expected none"),
        ({"pulse": "ricker:1.6e9"}, "between 0 and 1.6e.09 Hz"),
        ({"pulse": "ricker:x"}, "pulse: expected ricker:HZ"),
        ({"pulse": str(bare)}, "expected ricker:HZ for frequency samples, got a file"),
    ):
        with pytest.raises(ValueError, match=told):
            samples_of(touch, **bad)


def found(**changes):
    """Two echoes of a table, and an unused third."""
    fields = {
        "delays": np.array([1e-9, 3e-9, 0]), "amplitudes": np.array([3 + 4j, -1, 0]),
        "standard_error": np.array([1e-11, 2e-11, 0]), "misfit": np.ones(3),
        "subspace_error": np.ones(3), "mask": np.array([True, True, False]),
        "resolved": np.array([True, True, False]), "count": np.array(2),
        "saturated": np.array(False), "noise_variance": np.array(0.04),
        "residual": np.array(0.25), "criterion": np.ones(4),
    }  # fmt: skip
    return DelayEstimate(**fields | changes)


def test_the_table_and_what_it_warns_of():
    head, first, second = report.text_table(found()).splitlines()
    assert head == "2 echoes, noise deviation 0.2 per line, 25 % of the power left"
    assert first == "1.000000e-09 s ± 1.0e-11 s  amplitude 5 at 53.1°  resolved"
    assert second == "3.000000e-09 s ± 2.0e-11 s  amplitude 1 at 180.0°  resolved"
    assert report.text_table(found(count=np.array(1))).startswith("1 echo,")
    assert report.warnings(found()) == []
    one = np.array([True, False, False])
    told = report.warnings(found(saturated=np.array(True), resolved=one, misfit=1 + one))
    assert told == [
        "there may be more echoes: no more than 2 were looked for",
        "not the shape of the pulse, so errors are widened to what is left there: 1.0000e-09 s",
        "not resolved: 3.0000e-09 s",
    ]
    shown = report.as_json(found(resolved=one), ["mind"])
    assert [echo["delay"] for echo in shown["echoes"]] == [1e-9, 3e-9]
    assert shown["echoes"][0] == {"delay": 1e-9, "error": 1e-11, "amplitude": [3.0, 4.0],
                                  "resolved": True, "misfit": 1.0}  # fmt: skip
    assert (shown["noise_variance"], shown["residual"], shown["saturated"]) == (0.04, 0.25, False)
    assert shown["warnings"] == ["mind", "not resolved: 3.0000e-09 s"]
