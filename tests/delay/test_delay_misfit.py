"""Echoes that are not copies of the pulse: the error says so."""

from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest

from diffsim import delay
from diffsim.delay.radar import Radar
from reports.delay import _one_or_two, as_json, warnings


def test_the_misfit_is_what_is_left_near_the_echo():
    """2 Σ_d |g_dᴴ r|² / ‖g‖² σ² at four resolution cells on each side."""
    n, pulse = np.arange(32), np.linspace(0.3, 2.0, 32)

    def echo(place):
        return pulse * np.exp(-2j * np.pi * n * place)

    normal = np.random.default_rng(0).standard_normal((2, 32))
    values = echo(0.2) + 0.5 * echo(0.2 + 2.2 / 32) + 0.02 * (normal[0] + 1j * normal[1])
    found = delay.estimate_delays(delay.FrequencySamples.create(values, pulse=pulse), 1, 1)
    left = values - found.amplitudes[0] * echo(float(found.delays[0]))
    cells = np.array([-4, -3, -2, -1, 1, 2, 3, 4]) / 32
    seen = sum(abs(np.vdot(echo(float(found.delays[0]) + cell), left)) ** 2 for cell in cells)
    wanted = 2 * seen / np.sum(pulse**2) / found.noise_variance
    np.testing.assert_allclose(found.misfit, [wanted], rtol=1e-9)
    assert wanted > 10


def test_echoes_within_a_cell_may_be_one_of_another_shape():
    close = SimpleNamespace(count=3, delays=np.array([1e-9, 1.9e-9, 3e-9, 0.0]))  # cells of 1 ns
    (said,) = _one_or_two(
        delay.FrequencySamples.create(np.ones(10), 1e8, pulse=np.full(10, 2.0)), close
    )
    assert said.startswith("1.0000e-09 s and 1.9000e-09 s are closer than one over the bandwidth")
    assert _one_or_two(delay.FrequencySamples.create(np.ones(10), 1e8), close) == [], "no pulse"


@pytest.mark.parametrize("real", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_an_echo_of_another_shape_widens_its_error(real):
    """A second surface close behind, attenuation with dispersion, a wrong peak, another phase,
    which is the envelope's to judge; and none of it."""
    rate, peak, size, random = 8e9, 8e8, 256, np.random.default_rng(0)
    frequency = np.fft.fftfreq(size, 1 / rate)
    pulse = rate * np.asarray(delay.ricker_spectrum(frequency, peak))

    def attenuated(f, quality=20):
        path = 8e-9
        rise = np.log((np.abs(f) + 1e3) / peak) * 2j * f / (np.pi * quality)
        return np.exp(np.pi * path * (rise - np.abs(f) / quality))

    shapes = {
        "none": np.ones_like,
        "creeping": lambda f: 1 + 0.3 * np.exp(-2j * np.pi * f * 0.35e-9),
        "attenuated": attenuated,
        "spread": lambda f: attenuated(f, 3),  # wider than the cells that are looked at
        "peak": lambda f: np.exp(-((f / 7.5e8) ** 2) + (f / peak) ** 2) * (np.abs(f) < 2.5e9),
    }
    if real:  # where it is free, a phase is no other shape
        shapes["turned"] = lambda f: np.exp(0.7j * np.sign(f))
    for name, shape in shapes.items():
        spectrum = pulse * (
            np.exp(-2j * np.pi * frequency * 8e-9) * shape(frequency)
            - 0.5 * np.exp(-2j * np.pi * frequency * 16e-9)
        )
        record = np.fft.ifft(spectrum).real + 2e-3 * random.normal(size=size)
        found = delay.estimate_delays(
            delay.from_signal(
                record, rate, pulse=lambda f: delay.ricker_spectrum(f, peak), real_amplitudes=real
            ),
            2,
            2,
        )
        off = np.abs(np.asarray(found.delays) - [8e-9, 16e-9])
        assert (off < (1.5 if name == "turned" else 3) * found.standard_error).all(), name
        assert found.misfit[1] == 1, "the other echo is as it should be"
        assert (found.misfit[0] > 1) == (name != "none"), name
        told = as_json(found, [])["warnings"]
        assert told == warnings(found)
        assert any("not the shape of the pulse" in line for line in told) == (name != "none")
        assert (found.residual < 1e-3) == (name == "none")


@pytest.mark.parametrize(
    ("make", "name", "open_low"),
    [
        (partial(delay.FrequencySamples.create, [1.0, 1.0]), "step", True),
        (
            lambda noise: delay.FrequencySamples.create([1.0, 1.0], noise=[noise, 1.0]),
            "noise",
            True,
        ),
        (partial(Radar.create, 4), "step", True),
        (partial(Radar.create, 4), "speed", True),
        (partial(Radar.create, 4), "noise", False),
    ],
)
def test_numbers_are_taken_within_their_range_alone(make, name, open_low):
    for value in (1e-6, 1e6) if open_low else (0.0, 1e-6, 1e6):
        make(**{name: value})
    for value in (-1e-6, np.inf, np.nan, *([0.0] if open_low else [])):
        with pytest.raises(ValueError, match=f"{name}: expected"):
            make(**{name: value})
