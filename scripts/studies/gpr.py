"""Synthetic ground-penetrating radar: layers under a Ricker pulse, with loss, and the truth."""

import jax
import jax.numpy as jnp
from flax import struct

from diffsim import _check
from diffsim.delay.radar import SPEED_OF_LIGHT
from diffsim.delay.samples import ricker

VACUUM_IMPEDANCE = 376.730313668


@struct.dataclass
class Layers:
    """Flat layers over a half-space, seen at normal incidence from the first layer's top.

    Attributes:
        permittivity: (J + 1,) relative, the last of the half-space.
        conductivity: (J + 1,) S/m.
        thickness: (J,) m.
    """

    permittivity: jax.Array
    conductivity: jax.Array
    thickness: jax.Array

    @classmethod
    def create(cls, permittivity, conductivity, thickness) -> "Layers":
        """Checked layers.

        Raises:
            ValueError: shapes disagree, or a concrete value is out of range.
        """
        thickness = _check.in_range("thickness", thickness, 0.0, open_low=True)
        shape = (thickness.size + 1,)
        permittivity = _check.in_range("permittivity", permittivity, 1.0)
        conductivity = _check.in_range("conductivity", conductivity, 0.0)
        for name, array in (("permittivity", permittivity), ("conductivity", conductivity)):
            if array.shape != shape:
                raise ValueError(f"{name}: expected shape {shape}, got {array.shape}")
        return cls(permittivity, conductivity, thickness)


def layer_echoes(layers: Layers) -> tuple[jax.Array, jax.Array]:
    """Delays and amplitudes of the primary echoes of the J interfaces.

    τ_j = Σ 2 h √ε / c; a_j = r_j Π_{i<j} (1 − r_i²) exp(−2 α_i h_i) with
    r = (√ε_j − √ε_{j+1})/(√ε_j + √ε_{j+1}) and the low-loss α = σ Z₀ / (2 √ε), free of dispersion.

    Returns:
        delays (J,) in s, amplitudes (J,).

    Source: D. J. Daniels, Ground Penetrating Radar, 2nd ed. (IEE, 2004), ch. 2.

    >>> delays, amplitudes = layer_echoes(Layers.create([4.0, 16.0], [0.0, 0.0], [0.3]))
    >>> round(float(delays[0]) * 1e9, 3), round(float(amplitudes[0]), 4)
    (4.003, -0.3333)
    """
    index = jnp.sqrt(layers.permittivity)
    delays = jnp.cumsum(2 * layers.thickness * index[:-1] / SPEED_OF_LIGHT)
    reflection = (index[:-1] - index[1:]) / (index[:-1] + index[1:])
    loss = layers.conductivity[:-1] * VACUUM_IMPEDANCE / index[:-1] * layers.thickness
    through = jnp.concatenate([jnp.ones_like(index[:1]), jnp.cumprod(1 - reflection**2)[:-1]])
    return delays, reflection * through * jnp.exp(-jnp.cumsum(loss))


def a_scan(delays, amplitudes, count: int, sample_rate, peak_frequency, noise=0.0, key=None):
    """A trace of ``count`` samples: Ricker pulses at the delays, and white noise.

    Args:
        delays: (K,) s.
        amplitudes: (K,).
        count: samples.
        sample_rate: Hz.
        peak_frequency: of the pulse, Hz.
        noise: deviation.
        key: of the noise; None for none.

    Returns:
        (count,) real.

    >>> trace = a_scan(jnp.array([8e-9]), jnp.array([1.0]), 64, 4e9, 5e8)
    >>> int(jnp.argmax(trace))
    32
    """
    time = jnp.arange(count, dtype=delays.dtype) / sample_rate
    trace = jnp.sum(amplitudes * ricker(time[:, None] - delays, peak_frequency), 1)
    return trace if key is None else trace + noise * jax.random.normal(key, (count,), trace.dtype)
