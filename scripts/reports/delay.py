"""A signal file in, a table of delays and a picture of the spectrum over delay out."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tyro

from diffsim._files import figure_path, new_figure, save_figure
from diffsim.delay import (
    DelayEstimate,
    FrequencySamples,
    estimate_delays,
    from_signal,
    music_spectrum,
    ricker_spectrum,
    signal_subspace,
    smoothed_covariance,
)
from diffsim.delay.recording import Recording, load

EXACT = "the errors take the pulse as exact: what delays it, such as a filter, is in the delays"


@dataclass(frozen=True)
class Options:
    """Print the delays of the echoes in a signal, with their standard errors.

    Attributes:
        signal: .npy; a table in text with one column of values, or time and values, as
            oscilloscopes write them; Touchstone .s1p, .s2p; gprMax .out, .h5.
        sample_rate: Hz; needed where the file holds no times, and must agree with those it holds.
        pulse: file of the pulse from its time zero on, or ricker:HZ for a wavelet centred on its
            time zero (that of gprMax comes later, which is allowed for).
        echoes: number of echoes, or auto for up to six.
        band: lowest and highest frequency to use, Hz.
        gate: first and last time to use, s on the file's clock or after the first sample.
        time_zero: when the pulse left, s on the same clock.
        trace: number of the record in a file with several, from 0.
        plot: file for a picture of the spectrum over delay.
    """

    signal: tyro.conf.Positional[Path]
    sample_rate: float | None = None
    pulse: str | None = None
    echoes: str = "auto"
    band: tuple[float, float] | None = None
    gate: tuple[float, float] | None = None
    time_zero: float = 0.0
    trace: int = 0
    plot: Path | None = None


def run(options: Options) -> tuple[str, dict[str, Any]]:
    """The echoes as a table with warnings, and the same as names and numbers.

    Raises:
        ValueError: a file or an option makes no sense; the message is one line.
        OSError: a file cannot be read or written.
    """
    echoes, plot = options.echoes, options.plot
    if echoes != "auto" and not echoes.isdecimal():
        raise ValueError(f"echoes: expected a number or auto, got {echoes!r}")
    if plot is not None:
        figure_path(plot)
    recording = load(options.signal, options.trace)
    samples = _samples(recording, options)
    size = samples.weight.size
    count = None if echoes == "auto" else int(echoes)
    if count is not None and not 1 <= count <= size // 2:
        raise ValueError(
            f"echoes: expected 1 to {size // 2}, half of the {size} frequencies, got {count}"
        )
    maximum = min(6, size // 2) if count is None else count
    estimate = estimate_delays(samples, maximum, count)
    if plot is not None:
        plot_spectrum(plot, samples, estimate)
    said = []
    if recording.ricker_delay and options.pulse is None:
        said.append("the delays include the pulse's own; give --pulse ricker:HZ")
    said += _one_or_two(samples, estimate)
    found = {"record": recording.name} | as_json(estimate, said)
    lines = [f"read {recording.name}"] if recording.name else []
    lines.append(text_table(estimate))
    if options.pulse is not None:
        lines.append(EXACT)
        found["errors"] = EXACT
    said += warnings(estimate)
    text = "\n".join([*lines, *(f"warning: {line}" for line in said)])
    return text, found


def _samples(recording: Recording, options: Options) -> FrequencySamples:
    """The recording as frequency samples, with delays after ``time_zero``."""
    band, gate, time_zero = options.band, options.gate, options.time_zero
    if recording.step is not None:
        if gate is not None or options.sample_rate is not None:
            raise ValueError("gate, sample_rate: expected none for frequency samples, got one")
        frequency = recording.first + recording.step * np.arange(recording.values.size)
        keep = slice(None)
        if band is not None:
            inside = np.flatnonzero((frequency >= band[0]) & (frequency <= band[1]))
            if inside.size < 2:
                raise ValueError(f"band: expected at least 2 of the frequencies inside, got {band}")
            keep = slice(inside[0], inside[-1] + 1)
        shape = _pulse(options.pulse, 2 * frequency[-1])
        if isinstance(shape, np.ndarray):
            raise ValueError("pulse: expected ricker:HZ for frequency samples, got a file")
        return FrequencySamples.create(
            recording.values[keep],
            recording.step,
            offset=frequency[keep][0] / recording.step,
            pulse=None if shape is None else shape(frequency[keep]),
            origin=-time_zero,
        )
    rate = _rate(recording, options.sample_rate)
    shape = _pulse(options.pulse, rate)
    if callable(shape):
        assert options.pulse is not None
        time_zero += recording.ricker_delay / float(options.pulse.removeprefix("ricker:"))
    return from_signal(
        recording.values,
        rate,
        pulse=shape,
        band=band,
        gate=None if gate is None else (gate[0] - recording.start, gate[1] - recording.start),
        time_zero=time_zero - recording.start,
    )


def _rate(recording: Recording, asked: float | None) -> float:
    found = recording.sample_rate
    if asked is None and found is None:
        raise ValueError("sample_rate: expected Hz, as the file has no clock, got none")
    if asked is not None and not (np.isfinite(asked) and asked > 0):
        raise ValueError(f"sample_rate: expected a positive number of Hz, got {asked}")
    if asked is not None and found is not None and not np.isclose(found, asked, rtol=1e-3):
        raise ValueError(
            f"sample_rate: expected times {1 / asked:g} s apart, got {1 / found:g} s in the file"
        )
    return float(asked if found is None else found)  # type: ignore[arg-type]


def text_table(estimate: DelayEstimate) -> str:
    """The echoes of one estimate, a line each."""
    count = int(estimate.count)
    deviation = float(np.sqrt(estimate.noise_variance))
    lines = [
        f"{count} echo{'' if count == 1 else 'es'}, noise deviation {deviation:.3g} per line, "
        f"{100 * float(estimate.residual):.2g} % of the power left"
    ]
    for k in range(count):
        amplitude = complex(estimate.amplitudes[k])
        lines.append(
            f"{float(estimate.delays[k]):.6e} s ± {float(estimate.standard_error[k]):.1e} s  "
            f"amplitude {abs(amplitude):.4g} at {np.degrees(np.angle(amplitude)):.1f}°  "
            f"{'resolved' if estimate.resolved[k] else 'not resolved'}"
        )
    return "\n".join(lines)


def warnings(estimate: DelayEstimate) -> list[str]:
    """What must be known before a delay is used, a line each."""
    lines, count = [], int(estimate.count)
    if estimate.saturated:
        lines.append(f"there may be more echoes: no more than {count} were looked for")
    if shaped := [f"{d:.4e} s" for d in np.asarray(estimate.delays)[estimate.misfit > 1]]:
        lines.append(
            f"not the shape of the pulse, so errors are widened to what is left there: "
            f"{', '.join(shaped)}"
        )
    if blurred := [
        f"{d:.4e} s"
        for d in np.asarray(estimate.delays)[:count][~np.asarray(estimate.resolved)[:count]]
    ]:
        lines.append(f"not resolved: {', '.join(blurred)}")
    return lines


def _one_or_two(samples: FrequencySamples, estimate: DelayEstimate) -> list[str]:
    """Of echoes that only the shape of the pulse keeps apart: that they may be one."""
    if np.all(samples.pulse == 1):
        return []
    delays = np.asarray(estimate.delays)[: int(estimate.count)]
    close = np.flatnonzero(np.diff(delays) * samples.step * samples.weight.size < 1)
    return [
        f"{delays[k]:.4e} s and {delays[k + 1]:.4e} s are closer than one over the bandwidth: if "
        "the pulse is not exactly as given, they may be one echo of another shape"
        for k in close
    ]


def as_json(estimate: DelayEstimate, said: list[str]) -> dict[str, Any]:
    """The same for JSON, with the warnings ``said`` of the file as well."""
    count = int(estimate.count)
    rows = zip(
        estimate.delays,
        estimate.standard_error,
        estimate.amplitudes,
        estimate.resolved,
        estimate.misfit,
    )
    return {
        "echoes": [
            {
                "delay": float(delay),
                "error": float(error),
                "amplitude": [float(a.real), float(a.imag)],
                "resolved": bool(resolved),
                "misfit": float(misfit),
            }
            for delay, error, a, resolved, misfit in list(rows)[:count]
        ],
        "noise_variance": float(estimate.noise_variance),
        "residual": float(estimate.residual),
        "saturated": bool(estimate.saturated),
        "warnings": [*said, *warnings(estimate)],
    }


def plot_spectrum(path: Path, samples: FrequencySamples, estimate: DelayEstimate) -> None:
    """Draw the MUSIC spectrum over delay in dB, the estimates as lines with their deviation."""
    size, count = samples.weight.size, max(int(estimate.count), 1)
    usable = (samples.weight > 0) & (samples.pulse != 0)
    flat = samples.values / jax.numpy.where(usable, samples.pulse, 1)
    covariance = smoothed_covariance(
        flat, max(size // 2, count + 1), present=usable.astype(samples.weight.dtype)
    )
    delays, height = music_spectrum(
        signal_subspace(covariance, count, centro_hermitian=True), 16 * size, samples.step
    )
    figure = new_figure(8, 4)
    axes = figure.subplots()
    nanoseconds = 1e9 * (np.asarray(delays) + float(samples.origin))
    axes.plot(nanoseconds, 10 * np.log10(np.asarray(height)), label="MUSIC")
    for k in range(int(estimate.count)):
        delay, error = 1e9 * float(estimate.delays[k]), 1e9 * float(estimate.standard_error[k])
        axes.axvspan(delay - error, delay + error, color="C1", alpha=0.3)
        axes.axvline(delay, color="C1", lw=0.8, label=None if k else "maximum likelihood")
    axes.set(xlabel="delay (ns)", ylabel="pseudospectrum (dB)")
    axes.legend()
    save_figure(figure, path)


def _pulse(text: str | None, sample_rate: float):
    if text is None:
        return None
    if text.startswith("ricker:"):
        try:
            peak = float(text.removeprefix("ricker:"))
        except ValueError:
            peak = 0.0
        if not 0 < peak < sample_rate / 2:
            raise ValueError(
                f"pulse: expected ricker:HZ between 0 and {sample_rate / 2:g} Hz, got {text!r}"
            )
        return lambda frequency: ricker_spectrum(frequency, peak)
    recording = load(Path(text))
    if recording.step is not None:
        raise ValueError(f"pulse: expected samples in time, got frequency samples in {text}")
    if recording.sample_rate is not None:
        _rate(recording, sample_rate)
    return recording.values
