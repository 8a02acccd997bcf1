"""The whole pipeline: exactness, orders, gaps, pulses, coloured noise, derivatives, bad input."""

import json
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffsim import delay
from diffsim.delay import radar as ranging

DATA = Path(__file__).parents[2] / "data"
SIZE, MAXIMUM = 48, 3
DELAYS = np.array([0.1, 0.112])  # 0.58 of the Rayleigh limit
AMPLITUDES = np.array([1.0, 0.8j])
ALL_PRESENT, WHITE = np.zeros(SIZE, bool), np.ones(SIZE)


def record(delays=DELAYS, amplitudes=AMPLITUDES, size=SIZE):
    return np.exp(-2j * np.pi * np.arange(size)[:, None] * delays) @ amplitudes


def white(seed=0, size=SIZE):
    return np.random.default_rng(seed).standard_normal((size, 2)) @ [1, 1j] / np.sqrt(2)


@jax.jit
def _estimate(values, missing, noise):
    samples = delay.FrequencySamples.create(values, 2e6, missing=missing, noise=noise)
    return delay.estimate_delays(samples, MAXIMUM)


def estimate(values, missing=ALL_PRESENT, noise=WHITE):
    """Automatic order, one compilation for all tests."""
    return _estimate(values, missing, noise)


def test_exact_data():
    found = estimate(record())
    assert found.count == 2
    assert found.mask.tolist() == [True, True, False]
    assert found.resolved.tolist() == [True, True, False]
    np.testing.assert_allclose(found.delays[:2], DELAYS / 2e6, rtol=1e-12)
    np.testing.assert_allclose(found.amplitudes, [*AMPLITUDES, 0], atol=1e-11)
    assert found.delays[2] == 0


@pytest.mark.parametrize("deviation", [0.0, 0.05])
def test_order_and_delays_do_not_depend_on_the_scale(deviation):
    values = record() + deviation * white()
    plain, small = estimate(values), estimate(1e-6 * values)
    assert plain.count == small.count == 2
    np.testing.assert_allclose(small.delays, plain.delays, rtol=1e-10)
    np.testing.assert_allclose(small.amplitudes, 1e-6 * plain.amplitudes, rtol=1e-8)
    np.testing.assert_allclose(small.noise_variance, 1e-12 * plain.noise_variance, atol=1e-36)


def test_silence_has_no_echoes():
    found = estimate(np.zeros(SIZE, complex))
    assert found.count == 0
    assert np.all(np.isfinite(found.delays))


def test_delays_wrap_at_the_unambiguous_range():
    found, wrapped = estimate(record()), estimate(record(DELAYS + 3.0))
    np.testing.assert_allclose(wrapped.delays, found.delays, rtol=1e-11)
    late = estimate(record(np.array([-0.1, 0.4])))
    np.testing.assert_allclose(late.delays[:2], [0.4 / 2e6, 0.9 / 2e6], rtol=1e-12)


def test_twice_as_many_samples_as_echoes_suffice():
    truth = np.array([0.1, 0.35, 0.7])
    values = record(truth, np.array([1.0, 1j, -0.5]), 6)
    found = delay.estimate_delays(delay.FrequencySamples.create(values), 3, 3, refine=False)
    np.testing.assert_allclose(found.delays, truth, atol=1e-12)


def test_missing_frequencies():
    # Gaps leave the likelihood exact, so exact data still give exact delays.
    missing = np.isin(np.arange(SIZE), [3, 4, 17, 30, 31, 32, 41])
    values = np.where(missing, np.nan, record())
    found = estimate(values, missing)
    assert found.count == 2
    np.testing.assert_allclose(found.delays[:2], DELAYS / 2e6, rtol=1e-11)


def test_coloured_noise_standard_error():
    # Noise weights give the weighted bound, and whitening by hand gives the same answer.
    spread = np.linspace(0.2, 2.0, SIZE)
    values = record() + 0.03 * spread * white()
    found = estimate(values, noise=spread)
    power = np.outer(AMPLITUDES, AMPLITUDES.conj())
    bound = delay.cramer_rao_bound(
        found.delays[:2],
        power,
        0.03**2,
        2e6 * np.arange(SIZE),
        gain=jnp.asarray(1 / spread + 0j),
    )
    # The noise level is estimated, at 45 degrees of freedom: to a tenth, and over 64 records, to
    # three standard deviations, to a twentieth.
    more = np.stack([record() + 0.03 * spread * white(seed) for seed in range(64)])
    errors = jax.vmap(lambda row: _estimate(row, ALL_PRESENT, spread).standard_error[:2])(more)
    ratios = np.asarray(errors) / np.sqrt(np.diagonal(bound))
    np.testing.assert_allclose(ratios.mean(axis=0), 1, atol=0.05)
    assert ratios.std(axis=0).max() < 0.15
    whitened = delay.FrequencySamples.create(values / spread, 2e6, pulse=1 / spread)
    same = delay.maximum_likelihood(whitened, found.delays[:2] * 2e6)
    np.testing.assert_allclose(same.delays / 2e6, found.delays[:2], rtol=1e-9)


def test_derivatives_of_the_whole_chain():
    noise = 0.05 * white()

    @jax.jit
    @partial(jax.jacrev, has_aux=True)
    def slopes(point, level):
        phase = 2 * jnp.pi * jnp.arange(float(SIZE))[:, None] * point
        clean = jax.lax.complex(jnp.cos(phase), -jnp.sin(phase)) @ jnp.asarray(AMPLITUDES)
        found = estimate(clean + level * noise)
        both = 2e6 * jnp.stack([found.delays[:2], found.standard_error[:2]])
        return both, both

    step = 1e-6
    for level in (0.0, 1.0):
        slope, _ = slopes(DELAYS, level)
        difference = [
            (slopes(DELAYS + step * e, level)[1] - slopes(DELAYS - step * e, level)[1]) / (2 * step)
            for e in np.eye(2)
        ]
        # The minimum is found to about 1e-11, a step apart.
        np.testing.assert_allclose(slope[0], np.stack(difference, -1)[0], atol=1e-4)
        if level == 0:
            np.testing.assert_allclose(slope[0], np.eye(2), atol=1e-9)
            assert np.all(np.isfinite(slope[1]))
        else:
            np.testing.assert_allclose(slope[1], np.stack(difference, -1)[1], atol=1e-4)


RATE, PEAK, RECORD = 8e9, 8e8, 256
PULSE = partial(delay.ricker_spectrum, peak_frequency=PEAK)


@jax.jit
@jax.vmap
def traces(signal):
    return delay.estimate_delays(delay.from_signal(signal, RATE, pulse=PULSE), 4)


def test_b_scan_by_vmap():
    truth = json.loads((DATA / "gpr_truth.json").read_text())
    assert (truth["sample_rate"], truth["peak_frequency"]) == (RATE, PEAK)
    found = traces(np.load(DATA / "gpr_bscan.npy"))
    assert found.delays.dtype == jnp.float32
    assert np.all(found.count == 3)
    # 96 standardised errors of unit variance: their mean square is 1 ± 0.15.
    errors = np.asarray(found.delays)[:, :3] - np.array(truth["delays"])
    assert 0.5 < np.mean((errors / np.asarray(found.standard_error)[:, :3]) ** 2) < 1.6
    np.testing.assert_allclose(found.amplitudes[:, :3].real, truth["amplitudes"], atol=0.005)
    assert np.all(found.amplitudes.imag == 0)


def test_two_ricker_echoes_closer_than_the_pulse():
    # 8.00 and 8.45 ns under a pulse whose lobes alone are 1 ns apart.
    pair = np.array([8.00e-9, 8.45e-9])
    clean = np.asarray(delay.ricker(np.arange(RECORD)[:, None] / RATE - pair, PEAK)) @ [1.0, -0.7]
    noise = 0.003 * np.random.default_rng(0).standard_normal((32, RECORD))
    found = traces((clean + noise).astype(np.float32))
    assert np.all(found.count == 2)
    assert np.all(found.resolved[:, :2])
    errors = np.asarray(found.delays)[:, :2] - pair
    assert np.all(np.abs(errors) < 0.02e-9)
    deviates = errors / np.asarray(found.standard_error)[:, :2]
    assert 0.5 < np.mean(deviates**2) < 1.6  # 1 ± 0.2
    np.testing.assert_allclose(found.amplitudes[:, :2].real, np.tile([1, -0.7], (32, 1)), atol=0.05)


def test_complex_signal_gate_band_and_time_zero():
    rate, size = 1e9, 64
    frequency = np.fft.fftfreq(size, 1 / rate)
    spectrum = np.exp(-2j * np.pi * frequency[:, None] * [11.3e-9, 30.2e-9]) @ [1.0, 0.5]
    signal = np.concatenate([np.zeros(16), np.fft.ifft(spectrum)])
    samples = delay.from_signal(
        signal, rate, gate=(16e-9, 80e-9), band=(-0.3e9, 0.4e9), time_zero=20e-9
    )
    lines = np.asarray(samples.frequencies)
    assert (lines[0], lines[-1]) == (-0.296875e9, 0.390625e9)
    # The gate opens 16 ns after the start, 4 ns before time zero.
    late = np.array([7.3e-9, 26.2e-9]) - float(samples.origin)
    expected = np.exp(-2j * np.pi * lines[:, None] * late) @ [1.0, 0.5]
    np.testing.assert_allclose(samples.values, expected, atol=1e-12)


def test_radar_sees_a_range_and_its_derivative():
    radar = ranging.Radar.create(noise=0.02)
    key = jax.random.key(3)

    def measured(distance):
        samples = ranging.echo(radar, distance[None], jnp.ones(1), key)
        return ranging.delay_to_range(radar, delay.estimate_delays(samples, 1, 1).delays[0])

    truth = jnp.asarray(3.2)
    both = jax.jit(lambda x: jax.jvp(measured, (x,), (jnp.ones(()),)))
    distance, slope = both(truth)
    bound = delay.cramer_rao_bound(
        ranging.range_to_delay(radar, truth[None]),
        jnp.ones((1, 1)),
        radar.noise**2,
        radar.step * jnp.arange(64.0),
    )
    deviation = float(ranging.delay_to_range(radar, jnp.sqrt(bound[0, 0])))
    assert abs(distance - 3.2) < 4 * deviation
    # The noise stays while the echo's phase turns by 4πf/c = 55 rad/m: the estimate wobbles.
    assert abs(slope - 1) < 4 * deviation * 55
    step = 1e-6
    difference = (both(truth + step)[0] - both(truth - step)[0]) / (2 * step)
    np.testing.assert_allclose(slope, difference, atol=1e-4)


def test_bad_input():
    good = delay.FrequencySamples.create(record())
    cases = {
        r"maximum: expected 1 to 24 echoes .* got 25": lambda: delay.estimate_delays(good, 25),
        r"echoes: expected 1 to 3, got 4": lambda: delay.estimate_delays(good, 3, 4),
        r"window: expected in \[4, 48\], got 3": lambda: delay.estimate_delays(good, 3, window=3),
        r"values: expected shape": lambda: delay.FrequencySamples.create(np.ones((2, 2, 2))),
        r"missing: expected": lambda: delay.FrequencySamples.create(record(), missing=[True]),
        r"step: expected in \(0": lambda: delay.FrequencySamples.create(record(), 0.0),
        r"signal: expected finite numbers, got 2": lambda: delay.from_signal(
            np.array([1.0, np.nan, np.inf, 0.0]), 1.0
        ),
        r"sample_rate: expected a positive": lambda: delay.from_signal(np.ones(8), -1.0),
        r"gate: expected": lambda: delay.from_signal(np.ones(8), 1.0, gate=(4, 20)),
        r"band: expected": lambda: delay.from_signal(np.ones(8), 1.0, band=(3.0, 4.0)),
        r"signal: expected at least 4": lambda: delay.from_signal(np.ones(3), 1.0),
        r"pulse: expected": lambda: delay.from_signal(np.ones(8), 1.0, pulse=np.ones(9)),
    }
    for message, call in cases.items():
        with pytest.raises(ValueError, match=message):
            call()
