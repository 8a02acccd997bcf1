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
    assert "delays=[5e-08, 5.6e-08]" in repr(found)


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


def test_a_fit_of_two_echoes_comes_home_from_anywhere_around_them():
    # Steps that do not help are damped until they do: undamped, a third of these starts are stuck.
    truth = np.array([0.25, 0.29])
    samples = delay.FrequencySamples.create(record(truth, np.ones(2), 16))
    starts = 0.27 + np.random.default_rng(0).uniform(-0.04, 0.04, (20, 2))
    fits = jax.jit(jax.vmap(lambda start: delay.maximum_likelihood(samples, start)))(starts)
    np.testing.assert_allclose(np.sort(fits.delays, 1), np.tile(truth, (20, 1)), atol=1e-11)


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


def test_every_figure_is_its_definition():
    """Least squares, the bound, the criterion and the first-order variance, in NumPy."""
    missing, spread = np.isin(np.arange(SIZE), [7, 30]), np.linspace(0.5, 1.5, SIZE)
    values = record(np.array([0.1, 0.4])) + 0.02 * spread * white()
    found = estimate(np.where(missing, np.nan, values), missing, spread)
    assert found.count == 2
    weight = np.where(missing, 0, 1 / spread)
    columns = np.exp(-2j * np.pi * np.arange(SIZE)[:, None] * np.asarray(found.delays[:2]) * 2e6)
    fitted = np.linalg.lstsq(weight[:, None] * columns, weight * values, rcond=None)[0]
    np.testing.assert_allclose(found.amplitudes[:2], fitted, rtol=1e-9)
    left = np.sum(np.abs(weight * (values - columns @ fitted)) ** 2)
    whole = np.sum(np.abs(weight * values) ** 2)
    np.testing.assert_allclose(found.residual, left / whole, rtol=1e-9)
    # Of 46 complex samples the echoes took two real numbers and a delay each.
    np.testing.assert_allclose(found.noise_variance, left / (46 - 3), rtol=1e-9)
    bound = delay.cramer_rao_bound(
        found.delays[:2], np.outer(fitted, fitted.conj()), found.noise_variance,
        2e6 * np.arange(SIZE), gain=weight + 0j,
    )  # fmt: skip
    np.testing.assert_allclose(found.standard_error[:2], np.sqrt(np.diagonal(bound)), rtol=1e-6)
    floor = np.where(missing, 0, float(found.noise_variance) * spread**2)
    first = delay.hankel_variance(found.delays[:2], fitted, floor, 2e6, SIZE // 2)
    np.testing.assert_allclose(found.subspace_error[:2], np.sqrt(first), rtol=1e-6)
    scores = 2 * 46 * np.log([whole, left]) + np.array([0, 2]) * 5 * np.log(46)
    gain = np.asarray(found.criterion)[[0, 2]] @ [1, -1]
    np.testing.assert_allclose(gain, scores @ [1, -1], rtol=1e-6)
    assert found.misfit.tolist() == [1, 1, 1]
    for name in ("delays", "amplitudes", "standard_error", "subspace_error"):
        assert getattr(found, name)[2] == 0, name
    assert not found.saturated
    assert found.resolved.tolist() == [True, True, False]


def test_snapshots_share_delays_and_have_amplitudes_of_their_own():
    turns = np.array([[1.0, 0.5j], [-0.3, 1.0], [2j, 1.0]])
    values = turns @ np.exp(-2j * np.pi * np.array([[0.2], [0.4]]) * np.arange(16))
    samples = delay.FrequencySamples.create(values, 1e6, offset=5.0, origin=3e-6)
    found = delay.estimate_delays(samples, 2, 2)
    np.testing.assert_allclose(found.delays, [3.2e-6, 3.4e-6], rtol=1e-9)
    # Phases are those at frequency zero: five steps before the first sample.
    np.testing.assert_allclose(
        found.amplitudes, turns * np.exp(2j * np.pi * 5 * np.array([0.2, 0.4])), atol=1e-9
    )


def test_echoes_are_resolved_where_they_differ_by_two_errors_of_their_difference():
    both = jax.jit(lambda values: delay.estimate_delays(
        delay.FrequencySamples.create(values), 2, 2))  # fmt: skip
    seen = set()
    for seed in range(40):
        found = both(record(np.array([0.1, 0.107]), np.array([1.0, 1j])) + 0.7 * white(seed))
        power = np.outer(found.amplitudes, found.amplitudes.conj())
        bound = delay.cramer_rao_bound(
            found.delays, power, found.noise_variance, np.arange(1.0 * SIZE)
        )
        apart = abs((found.delays[1] - found.delays[0] + 0.5) % 1 - 0.5)
        clear = apart > 2 * np.sqrt(bound[0, 0] + bound[1, 1] - 2 * bound[0, 1])
        needed = np.argmin(found.criterion) == 2
        assert found.resolved.tolist() == [clear and needed] * 2
        assert not found.saturated  # as many as were asked for
        seen.add((bool(clear), bool(needed)))
    assert len(seen) >= 3  # each alone is not enough


def test_what_a_pulse_in_time_and_a_noise_by_frequency_become():
    rate, size = 1e9, 64
    wave = np.asarray(delay.ricker(np.arange(16) / rate - 5e-9, 1e8))
    signal = np.concatenate([np.zeros(9), wave, np.zeros(size - 25)])
    spread = lambda f: 1 + f / 1e9  # noqa: E731
    samples = delay.from_signal(signal, rate, pulse=wave, noise=spread)
    spectrum = np.fft.fft(wave, size)
    strong = np.flatnonzero(np.abs(spectrum[1:32]) >= 0.1 * np.abs(spectrum[1:32]).max()) + 1
    lines = np.arange(strong[0], strong[-1] + 1)
    np.testing.assert_allclose(samples.frequencies, lines * rate / size)
    np.testing.assert_allclose(samples.pulse, spectrum[lines], atol=1e-12)
    np.testing.assert_allclose(samples.weight, 1 / spread(lines * rate / size))
    np.testing.assert_allclose(
        samples.values / samples.pulse, np.exp(-2j * np.pi * lines * 9 / size), atol=1e-9
    )
    assert samples.real_amplitudes
    assert not delay.from_signal(signal, rate).real_amplitudes
    assert delay.from_signal(signal, rate).values.size == 31  # no mean, no Nyquist line
    assert delay.from_signal(signal[:63], rate).values.size == 31
    assert delay.from_signal(signal + 0j, rate).values.size == 64


def test_the_longest_stretch_above_a_tenth_is_the_band():
    spectrum = jnp.array([0, 1, 1, 0, 1, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0], float)
    samples = delay.from_signal(np.ones(31), 31.0, pulse=lambda f: spectrum[f.astype(int) - 1])
    assert samples.frequencies.tolist() == [5, 6, 7]


def test_a_radar_is_its_formulas():
    radar = ranging.Radar.create(8, 1e6, offset=3, noise=0.5, speed=2e8, pulse=np.arange(1.0, 9))
    ranges, amplitudes = np.array([10.0, 30.0]), np.array([1.0, 2j])
    np.testing.assert_allclose(ranging.range_to_delay(radar, ranges), [1e-7, 3e-7])
    np.testing.assert_allclose(ranging.delay_to_range(radar, np.array([1e-7, 3e-7])), ranges)
    frequencies = 1e6 * (3 + np.arange(8))
    clean = np.exp(-2j * np.pi * frequencies[:, None] * [1e-7, 3e-7]) @ amplitudes
    heard = ranging.echo(radar, jnp.asarray(ranges), jnp.asarray(amplitudes))
    np.testing.assert_allclose(heard.values, np.arange(1, 9) * clean, rtol=1e-9)
    np.testing.assert_allclose(heard.frequencies, frequencies)
    np.testing.assert_allclose(heard.pulse, np.arange(1, 9))
    keys = jax.random.split(jax.random.key(0), 500)
    noisy = jax.vmap(lambda key: ranging.echo(radar, jnp.asarray(ranges), amplitudes, key).values)
    power = np.mean(np.abs(np.asarray(noisy(keys)) - heard.values) ** 2)
    assert power == pytest.approx(0.5**2, rel=0.07)  # of 4,000 squares: 4 deviations
    for shape in ((), (2, 2)):
        with pytest.raises(ValueError, match="one per range"):
            ranging.echo(radar, jnp.ones(shape), jnp.ones(shape))
    with pytest.raises(ValueError, match=r"pulse: expected shape \(8,\), got \(7,\)"):
        ranging.Radar.create(8, pulse=np.ones(7))
    default = ranging.Radar.create()
    assert (float(default.step), default.offset, float(default.noise)) == (1e7, 100.0, 0.05)
    assert default.pulse.tolist() == [1] * 64


def test_edges_of_what_is_accepted():
    delay.from_signal(np.ones(8), 2.0, gate=(0, 4), band=(0.25, 0.75))
    for gate in ((-0.5, 4), (2, 2), (0, 4.5)):
        with pytest.raises(ValueError, match=r"gate: expected 0 <= start < stop <= 4 s, got"):
            delay.from_signal(np.ones(8), 2.0, gate=gate)
    for shape in ((), (2, 3, 4), (1,)):
        with pytest.raises(ValueError, match="expected shape"):
            delay.FrequencySamples.create(np.ones(shape))
    with pytest.raises(ValueError, match=r"signal: expected shape"):
        delay.from_signal(np.ones((2, 3, 4)), 1.0)
    for shape in ((), (2, 2), (9,)):
        with pytest.raises(ValueError, match=r"pulse: expected \(S',\)"):
            delay.from_signal(np.ones(8), 1.0, pulse=np.ones(shape))
    assert delay.from_signal(np.ones(8), 1.0, pulse=np.arange(8.0) + 1).pulse.shape == (3,)
    for name in ("pulse", "noise", "missing"):
        with pytest.raises(ValueError, match=rf"{name}: expected.*\(4,\)"):
            delay.FrequencySamples.create(np.ones(4), **{name: np.ones(3, bool if name == "missing"
                                                                       else float)})  # fmt: skip
    with pytest.raises(TypeError, match="got bool"):
        delay.FrequencySamples.create(np.ones(4, bool))
    with pytest.raises(ValueError, match="noise: expected in"):
        delay.FrequencySamples.create(np.ones(4), noise=np.zeros(4))
    good = delay.FrequencySamples.create(record())
    for echoes in (0, 4):
        with pytest.raises(ValueError, match="echoes: expected 1 to 3"):
            delay.estimate_delays(good, 3, echoes)
    for maximum in (0, 25):
        with pytest.raises(ValueError, match="maximum: expected 1 to 24"):
            delay.estimate_delays(good, maximum)
    for window in (3, 49):
        with pytest.raises(ValueError, match=r"window: expected in \[4, 48\]"):
            delay.estimate_delays(good, 3, window=window)
