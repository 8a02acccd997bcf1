"""A signal file in, a table of delays and a picture of the spectrum over delay out."""

from pathlib import Path

import jax
import numpy as np

from diffsim._files import save_figure
from diffsim.delay.covariance import signal_subspace, smoothed_covariance
from diffsim.delay.estimate import DelayEstimate, estimate_delays
from diffsim.delay.music import music_spectrum
from diffsim.delay.samples import FrequencySamples, from_signal, ricker_spectrum


def delay_report(
    signal: Path,
    sample_rate: float,
    *,
    pulse: str | None = None,
    echoes: str = "auto",
    band: tuple[float, float] | None = None,
    gate: tuple[float, float] | None = None,
    time_zero: float = 0.0,
    trace: int = 0,
    plot: Path | None = None,
) -> str:
    """Delays of the echoes in a signal file, as a table.

    Args:
        signal: .npy or .csv; of a 2-D .npy the row ``trace`` is read, a CSV has one column of
            values, or two of time (s) and value, below a line of names or not; complex values
            are written 1+2j.
        sample_rate: Hz.
        pulse: file of the pulse from its time zero on, or ``ricker:HZ`` for one centred on it.
        echoes: a number, or ``auto`` to look for up to six.
        band: (low, high), Hz.
        gate: (start, stop), s after the first sample.
        time_zero: when the pulse left, s after the first sample.
        trace: row of a 2-D file.
        plot: where to draw the MUSIC spectrum over delay.

    Returns:
        the table: delay ± standard error, amplitude, and whether the echo is resolved.

    Raises:
        ValueError: a file or an option makes no sense; the message is one line.
        OSError: a file cannot be read or written.
    """
    if echoes != "auto" and not echoes.isdecimal():
        raise ValueError(f"echoes: expected a number or auto, got {echoes!r}")
    wave = load_signal(signal, sample_rate, trace)
    samples = from_signal(
        wave,
        sample_rate,
        pulse=_pulse(pulse, sample_rate),
        band=band,
        gate=gate,
        time_zero=time_zero,
    )
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
    return table(estimate)


def load_signal(path: Path, sample_rate: float, trace: int = 0) -> np.ndarray:
    """One record from a .npy or .csv file, its sampling checked where the file has times.

    Raises:
        ValueError: the file is of another kind, malformed, or sampled at another rate.
    """
    path = Path(path)
    try:
        if path.suffix == ".npy":
            array = np.load(path, allow_pickle=False)
        elif path.suffix == ".csv":
            array = _load_csv(path)
        else:
            raise ValueError("expected a .npy or .csv file")
    except (ValueError, EOFError) as error:
        raise ValueError(f"{path}: {error}") from error
    if path.suffix == ".csv":
        if array.shape[1] > 2:
            raise ValueError(f"{path}: expected one or two columns, got {array.shape[1]}")
        if array.shape[1] == 2:
            steps = np.diff(array[:, 0].real)
            rates = 1 / steps if np.all(steps > 0) else np.zeros(1)
            if not np.allclose(rates, sample_rate, rtol=1e-3):
                raise ValueError(
                    f"{path}: expected times {1 / sample_rate:g} s apart as sample_rate says, "
                    f"got rates from {rates.min():g} to {rates.max():g} Hz"
                )
        return array[:, -1]
    if array.ndim == 2:
        if not 0 <= trace < array.shape[0]:
            raise ValueError(f"trace: expected 0 to {array.shape[0] - 1}, got {trace}")
        array = array[trace]
    if array.ndim != 1 or array.dtype.kind not in "iufc":
        raise ValueError(
            f"{path}: expected numbers in 1 or 2 dimensions, got {array.dtype} {array.shape}"
        )
    return array


def _load_csv(path: Path) -> np.ndarray:
    """(rows, columns), complex where a number is."""
    lines = [line for line in path.read_text().splitlines() if line.split("#")[0].strip()]
    try:
        np.loadtxt(lines[:1] or ["0"], delimiter=",", dtype=complex)
    except ValueError:
        lines = lines[1:]  # names
    if not lines:
        raise ValueError("expected rows of numbers, got none")
    array = np.loadtxt(lines, delimiter=",", ndmin=2, dtype=complex)
    return array if array.imag.any() else array.real


def table(estimate: DelayEstimate) -> str:
    """The echoes of one estimate, a line each."""
    count = int(estimate.count)
    deviation = float(np.sqrt(estimate.noise_variance))
    lines = [f"{count} echo{'' if count == 1 else 'es'}, noise deviation {deviation:.3g} per line"]
    for k in range(count):
        amplitude = complex(estimate.amplitudes[k])
        lines.append(
            f"{float(estimate.delays[k]):.6e} s ± {float(estimate.standard_error[k]):.1e} s  "
            f"amplitude {abs(amplitude):.4g} at {np.degrees(np.angle(amplitude)):.1f}°  "
            f"{'resolved' if estimate.resolved[k] else 'not resolved'}"
        )
    return "\n".join(lines)


def plot_spectrum(path: Path, samples: FrequencySamples, estimate: DelayEstimate) -> None:
    """Draw the MUSIC spectrum over delay in dB, the estimates as lines with their deviation."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    size, count = samples.weight.size, max(int(estimate.count), 1)
    usable = (samples.weight > 0) & (samples.pulse != 0)
    flat = samples.values / jax.numpy.where(usable, samples.pulse, 1)
    covariance = smoothed_covariance(
        flat, max(size // 2, count + 1), present=usable.astype(samples.weight.dtype)
    )
    delays, height = music_spectrum(
        signal_subspace(covariance, count, centro_hermitian=True), 16 * size, samples.step
    )
    figure = Figure(figsize=(8, 4), layout="constrained")
    FigureCanvasAgg(figure)
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
    return load_signal(Path(text), sample_rate)
