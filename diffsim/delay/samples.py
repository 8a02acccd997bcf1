"""The data: an echo signal as equally spaced frequency samples, with pulse, noise and gaps."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from diffsim import _check


@struct.dataclass
class FrequencySamples:
    """Samples of echoes, x_n = p_n Σ_k a_k exp(−j2π (offset + n) step (τ_k − origin)) + e_n.

    Attributes:
        values: (N,) one record, or (T, N) for T snapshots of the same delays; complex.
        pulse: (N,) complex spectrum p of the transmitted pulse; ones if unknown.
        weight: (N,) inverse relative deviation of the noise e_n; zero where a frequency is missing.
        step: frequency step Δf, Hz; delays are unambiguous over 1/Δf.
        origin: the time that delay zero of the phases stands for, s.
        offset: first frequency over Δf (static).
        real_amplitudes: whether the a_k are real, as for undistorted copies of a known real pulse
            (static).
    """

    values: jax.Array
    pulse: jax.Array
    weight: jax.Array
    step: jax.Array
    origin: jax.Array
    offset: float = struct.field(pytree_node=False, default=0.0)
    real_amplitudes: bool = struct.field(pytree_node=False, default=False)

    @classmethod
    def create(
        cls,
        values,
        step=1.0,
        *,
        offset=0.0,
        pulse=None,
        noise=None,
        missing=None,
        origin=0.0,
        real_amplitudes=False,
    ) -> "FrequencySamples":
        """Check and gather measured frequency samples.

        Args:
            values: (N,) or (T, N), complex (real values are taken as complex).
            step: frequency step Δf, Hz.
            offset: first frequency divided by Δf; a Python number.
            pulse: (N,) complex spectrum of the pulse, None for a flat one.
            noise: (N,) relative deviation of the noise at each frequency, None for white.
            missing: (N,) True where a frequency was not measured; its value is ignored.
            origin: s, added to every delay.
            real_amplitudes: the echoes' amplitudes are known to be real.

        Raises:
            ValueError: a shape is wrong, or a concrete value is not finite or out of range.
            TypeError: a dtype is wrong.

        >>> FrequencySamples.create([1.0, 1.0, 1.0], step=1e6).values.shape
        (3,)
        >>> FrequencySamples.create([1.0, float("nan")])
        Traceback (most recent call last):
        ...
        ValueError: values: expected finite numbers, got 1 that are not
        """
        array = jnp.asarray(values)
        if array.ndim not in (1, 2) or array.shape[-1] < 2:
            raise ValueError(
                f"values: expected shape (N,) or (T, N) with N >= 2, got {array.shape}"
            )
        if jnp.issubdtype(array.dtype, jnp.bool_):
            raise TypeError("values: expected real or complex numbers, got bool")
        if jnp.issubdtype(array.dtype, jnp.integer):
            array = array.astype(jnp.result_type(float))
        array = array.astype(np.result_type(array.dtype, np.complex64))
        real, count = array.real.dtype, array.shape[-1]
        absent = jnp.zeros(count, bool) if missing is None else jnp.asarray(missing)
        if absent.shape != (count,) or absent.dtype != jnp.bool_:
            raise ValueError(
                f"missing: expected ({count},) booleans, got {absent.shape} {absent.dtype}"
            )
        array = jnp.where(absent, jnp.zeros((), array.dtype), array)
        spectrum = (
            jnp.ones(count, array.dtype) if pulse is None else jnp.asarray(pulse, array.dtype)
        )
        if spectrum.shape != (count,):
            raise ValueError(f"pulse: expected shape ({count},), got {spectrum.shape}")
        _check_finite("values", array)
        _check_finite("pulse", spectrum)
        usable = jnp.sum(~absent & (spectrum != 0))
        if not isinstance(usable, jax.core.Tracer) and usable < 2:
            raise ValueError(
                f"missing, pulse: expected at least 2 frequencies with a pulse, got {int(usable)}"
            )
        spread = jnp.ones(count, real)
        if noise is not None:
            spread = _check.in_range("noise", noise, 0.0, open_low=True).astype(real)
            if spread.shape != (count,):
                raise ValueError(f"noise: expected shape ({count},), got {spread.shape}")
        if np.ndim(step):
            raise ValueError(
                f"step: expected one frequency step, got an array of shape {np.shape(step)}; "
                "for frequencies f give step=f[1]-f[0] and offset=f[0]/step"
            )
        if np.ndim(offset) or not np.isfinite(offset):
            got = f"shape {np.shape(offset)}" if np.ndim(offset) else offset
            raise ValueError(f"offset: expected a finite number, got {got}")
        return cls(
            values=array,
            pulse=spectrum,
            weight=jnp.where(absent, jnp.zeros((), real), 1 / spread),
            step=_check.in_range("step", step, 0.0, open_low=True).astype(real),
            origin=_check.in_range("origin", _check.floating("origin", origin, ())).astype(real),
            offset=float(offset),
            real_amplitudes=bool(real_amplitudes),
        )

    @property
    def frequencies(self) -> jax.Array:
        """(N,) Hz."""
        index = jnp.arange(self.values.shape[-1], dtype=self.weight.dtype)
        return (self.offset + index) * self.step


def from_signal(
    signal,
    sample_rate,
    *,
    pulse: Callable | jax.Array | None = None,
    noise: Callable | None = None,
    band: tuple[float, float] | None = None,
    gate: tuple[float, float] | None = None,
    time_zero: float = 0.0,
    real_amplitudes: bool | None = None,
) -> FrequencySamples:
    """Frequency samples of a time signal: gate, time zero, FFT, band; X_n = Σ_t x_t exp(−j2πnt/N).

    The sampling and the cuts fix shapes, so they are Python numbers; the signal may be traced.
    A real signal keeps its positive frequencies, without the mean and the Nyquist line.

    Args:
        signal: (S,) or (T, S) samples, real or complex.
        sample_rate: Hz.
        pulse: (S',) samples of the pulse from its own time zero on, or a function from
            frequency (Hz) to its spectrum (1/Hz); None for an impulse.
        noise: function from frequency (Hz) to relative noise deviation; None for white.
        band: (low, high) kept, Hz; by default where a given pulse exceeds a tenth of its peak
            (its longest such stretch), or everything.
        gate: (start, stop) of the signal to use, s after its first sample.
        time_zero: when the pulse left, s after the first sample.
        real_amplitudes: see :class:`FrequencySamples`; by default true of a real signal and a
            known pulse.

    Raises:
        ValueError: sampling, gate, or band leave fewer than two samples, or a value is bad.

    >>> import jax.numpy as jnp
    >>> samples = from_signal(jnp.zeros(64).at[8].set(1.0), sample_rate=1e9)
    >>> samples.values.shape, float(samples.step)
    ((31,), 15625000.0)
    """
    array = jnp.asarray(signal)
    if array.ndim not in (1, 2):
        raise ValueError(f"signal: expected shape (S,) or (T, S), got {array.shape}")
    if not jnp.issubdtype(array.dtype, jnp.complexfloating):
        array = _check.floating("signal", array)
    _check_finite("signal", array)
    rate = float(sample_rate)
    if not (np.isfinite(rate) and rate > 0):
        raise ValueError(f"sample_rate: expected a positive number of Hz, got {sample_rate}")
    first = 0
    if gate is not None:
        first, last = (round(edge * rate) for edge in gate)
        if not 0 <= first < last <= array.shape[-1]:
            raise ValueError(
                f"gate: expected 0 <= start < stop <= {array.shape[-1] / rate:g} s, got {gate}"
            )
        array = array[..., first:last]
    length = array.shape[-1]
    if length < 4:
        raise ValueError(f"signal: expected at least 4 samples inside the gate, got {length}")
    is_real = not jnp.issubdtype(array.dtype, jnp.complexfloating)
    lines = np.arange(1, (length + 1) // 2) if is_real else np.arange(length) - length // 2
    frequency = lines * rate / length
    dtype = np.result_type(array.dtype, np.complex64)

    spectrum = None
    if callable(pulse):
        spectrum = jnp.asarray(rate * pulse(frequency), dtype)
    elif pulse is not None:
        wave = jnp.asarray(pulse)
        if wave.ndim != 1 or wave.shape[0] > length:
            raise ValueError(f"pulse: expected (S',) with S' <= {length} samples, got {wave.shape}")
        _check_finite("pulse", wave)
        spectrum = jnp.fft.fft(wave.astype(dtype), length)[lines]
    if band is not None:
        keep = np.flatnonzero((frequency >= band[0]) & (frequency <= band[1]))
        if keep.size < 2:
            raise ValueError(f"band: expected at least 2 of the frequency lines inside, got {band}")
    elif spectrum is None or isinstance(spectrum, jax.core.Tracer):
        keep = np.arange(lines.size)
    else:
        keep = _longest_run(np.abs(spectrum) >= 0.1 * np.max(np.abs(spectrum)))
    if real_amplitudes is None:
        real_amplitudes = is_real and spectrum is not None
    return FrequencySamples.create(
        jnp.fft.fft(array)[..., lines[keep]],
        rate / length,
        offset=float(lines[keep[0]]),
        pulse=None if spectrum is None else spectrum[keep],
        noise=None if noise is None else jnp.asarray(noise(frequency[keep])),
        origin=first / rate - time_zero,
        real_amplitudes=real_amplitudes,
    )


def ricker(time, peak_frequency):
    """Ricker pulse, (1 − 2u) exp(−u) with u = (π f t)², centred on time zero.

    Args:
        time: s, any shape.
        peak_frequency: f, Hz.

    Source: N. Ricker, Geophysics 18, 10 (1953).

    >>> float(ricker(0.0, 1e9))
    1.0
    """
    phase = (jnp.pi * peak_frequency * time) ** 2
    return (1 - 2 * phase) * jnp.exp(-phase)


def ricker_spectrum(frequency, peak_frequency):
    """Spectrum of :func:`ricker`, 2/√π f²/f₀³ exp(−f²/f₀²), 1/Hz; real, as the pulse is even.

    >>> round(float(ricker_spectrum(1.0, 1.0)), 6)
    0.415107
    """
    ratio = (frequency / peak_frequency) ** 2
    return 2 / jnp.sqrt(jnp.pi) * ratio * jnp.exp(-ratio) / peak_frequency


def _check_finite(name: str, array: jax.Array) -> None:
    if not isinstance(array, jax.core.Tracer):
        bad = int(np.sum(~np.isfinite(np.asarray(array))))
        if bad:
            raise ValueError(f"{name}: expected finite numbers, got {bad} that are not")


def _longest_run(flags: np.ndarray) -> np.ndarray:
    """Indices of the longest stretch of true flags."""
    runs = np.split(np.arange(flags.size), np.flatnonzero(np.diff(flags)) + 1)
    return max((run for run in runs if flags[run[0]]), key=len)
