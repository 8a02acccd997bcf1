"""A simulated radar: ranges to echoes, and measured delays back to ranges."""

import jax
import jax.numpy as jnp
from flax import struct

from diffsim import _check
from diffsim.delay.samples import FrequencySamples
from diffsim.delay.steering import steering

SPEED_OF_LIGHT = 299_792_458.0


@struct.dataclass
class Radar:
    """A stepped-frequency radar.

    Attributes:
        step: frequency step, Hz; ranges are unambiguous up to speed/(2 step).
        pulse: (N,) complex spectrum sent out at the N frequencies.
        noise: deviation of the complex noise of each sample, relative to an echo of amplitude one.
        speed: of the waves, m/s.
        offset: first frequency over the step (static).
    """

    step: jax.Array
    pulse: jax.Array
    noise: jax.Array
    speed: jax.Array
    offset: float = struct.field(pytree_node=False, default=0.0)

    @classmethod
    def create(
        cls,
        count: int = 64,
        step=10e6,
        *,
        offset=100.0,
        pulse=None,
        noise=0.05,
        speed=SPEED_OF_LIGHT,
    ) -> "Radar":
        """A checked radar; by default 64 lines from 1 to 1.63 GHz, unambiguous to 15 m.

        Raises:
            ValueError: a concrete value is out of range, or the pulse is not (count,).

        >>> round(float(delay_to_range(Radar.create(), 1e-7)), 2)
        14.99
        """
        step = _check.in_range("step", step, 0.0, open_low=True)
        flat = jnp.ones(count, step.dtype) if pulse is None else jnp.asarray(pulse)
        if flat.shape != (count,):
            raise ValueError(f"pulse: expected shape ({count},), got {flat.shape}")
        return cls(
            step=step,
            pulse=jax.lax.complex(flat.real.astype(step.dtype), flat.imag.astype(step.dtype)),
            noise=_check.in_range("noise", noise, 0.0).astype(step.dtype),
            speed=_check.in_range("speed", speed, 0.0, open_low=True).astype(step.dtype),
            offset=float(offset),
        )


def range_to_delay(radar: Radar, ranges):
    """Two-way travel time τ = 2 r / c, s, of ranges r in m."""
    return 2 * ranges / radar.speed


def delay_to_range(radar: Radar, delays):
    """Range r = c τ / 2, m, of two-way delays τ in s."""
    return radar.speed * delays / 2


@jax.default_matmul_precision("highest")
def echo(radar: Radar, ranges: jax.Array, amplitudes: jax.Array, key=None) -> FrequencySamples:
    """What the radar receives, x_n = p_n Σ_k a_k exp(−j2π f_n 2 r_k/c) + noise.

    Args:
        radar: the instrument.
        ranges: (K,) m; differentiable.
        amplitudes: (K,) real or complex.
        key: of the noise; None for none.

    Returns:
        :class:`FrequencySamples`, for :func:`~diffsim.delay.estimate_delays`.

    Raises:
        ValueError: ranges and amplitudes differ in shape or are not (K,).

    >>> echo(Radar.create(), jnp.array([3.0]), jnp.array([1.0]), jax.random.key(0)).values.shape
    (64,)
    """
    ranges, amplitudes = _check.floating("ranges", ranges), jnp.asarray(amplitudes)
    if ranges.ndim != 1 or amplitudes.shape != ranges.shape:
        raise ValueError(
            f"amplitudes: expected one per range (K,), got {amplitudes.shape} for {ranges.shape}"
        )
    count = radar.pulse.size
    index = radar.offset + jnp.arange(count, dtype=radar.step.dtype)
    delays = range_to_delay(radar, ranges.astype(radar.step.dtype)) * radar.step
    columns, _ = steering(index, radar.pulse, delays, jnp.ones(ranges.shape, bool))
    values = columns @ amplitudes.astype(columns.dtype)
    if key is not None:
        values += radar.noise.astype(values.dtype) * jax.random.normal(key, (count,), values.dtype)
    return FrequencySamples.create(values, radar.step, offset=radar.offset, pulse=radar.pulse)
