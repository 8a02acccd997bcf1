"""Accuracy and speed of the delay estimators beside NumPy's and doatools'."""

import importlib.util
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffsim.delay.bounds import cramer_rao_bound
from diffsim.delay.covariance import signal_subspace, smoothed_covariance
from diffsim.delay.esprit import esprit
from diffsim.delay.estimate import estimate_delays
from diffsim.delay.music import root_music
from diffsim.delay.samples import FrequencySamples
from studies import harness

GET_DOATOOLS = "pip install git+https://github.com/morriswmz/doatools.py"
ECHOES = np.array([0.30, 0.30 + 1.5 / 256, 0.45])
AMPLITUDES = np.array([1.0, 0.8j, 0.5])


def benchmark(
    scans: int = 200, size: int = 256, window: int = 128, noise: float = 0.1
) -> harness.Found:
    """Print RMSE/√CRB and seconds per 1000 A-scans of three echoes, method by method.

    Ours run as one compiled batch on the default device, the others loop over the first ten
    scans; the least of three times counts. doatools takes part if installed; no package registry
    has it: pip install git+https://github.com/morriswmz/doatools.py

    Args:
        scans: A-scans in the batch.
        size: number N of frequencies.
        window: length L of the smoothing window.
        noise: standard deviation of a complex sample.
    """
    rng = np.random.default_rng(0)
    frequencies = np.arange(size)
    clean = np.exp(-2j * np.pi * frequencies[:, None] * ECHOES) @ AMPLITUDES
    white = rng.standard_normal((scans, size)) + 1j * rng.standard_normal((scans, size))
    data = clean + noise / np.sqrt(2) * white
    bound = cramer_rao_bound(
        jnp.asarray(ECHOES),
        jnp.asarray(np.outer(AMPLITUDES, AMPLITUDES.conj())),
        noise**2,
        jnp.asarray(1.0 * frequencies),
    )
    deviation = np.sqrt(np.diagonal(np.asarray(bound)))

    def row(name: str, call: Callable[[], Any], count: int) -> harness.Row:
        found = call()  # compiles
        seconds = harness.least({name: call}, 3)[name]
        delays = np.sort(np.asarray(getattr(found, "delays", found)), axis=1)
        error = (delays - ECHOES + 0.5) % 1 - 0.5
        ratio = float(np.sqrt(np.mean((error / deviation) ** 2)))
        return {"method": name, "RMSE/√CRB": ratio, "s per 1000": 1000 * seconds / count}

    def rows() -> Iterator[harness.Row]:
        values, few = jnp.asarray(data), data[:10]
        for name, method in _ours(window).items():
            yield row(name, partial(jax.jit(jax.vmap(method)), values), scans)
        for name, textbook in (NUMPY | ({} if missing else DOATOOLS)).items():
            yield row(name, partial(_looped, textbook, few, window), len(few))

    missing = importlib.util.find_spec("doatools") is None
    result = harness.show("three echoes", rows())
    if missing:
        print(f"{' and '.join(DOATOOLS)} are not installed ({GET_DOATOOLS})")
    return result


def _ours(window: int) -> dict[str, Callable]:
    def subspace(values):
        return signal_subspace(
            smoothed_covariance(values, window), ECHOES.size, centro_hermitian=True
        )

    def whole(values):
        samples = FrequencySamples.create(values)
        return estimate_delays(samples, ECHOES.size, window=window)

    return {
        "whole chain with maximum likelihood": whole,
        "root-MUSIC": lambda values: root_music(subspace(values)),
        "ESPRIT": lambda values: esprit(subspace(values)),
    }


def _looped(method: Callable, rows: np.ndarray, window: int) -> list[np.ndarray]:
    return [method(_numpy_covariance(row, window), ECHOES.size) for row in rows]


def _numpy_covariance(values, window):
    windows = np.lib.stride_tricks.sliding_window_view(values, window)
    forward = windows.T @ windows.conj() / windows.shape[0]
    return (forward + forward[::-1, ::-1].conj()) / 2


def _numpy_noise_subspace(covariance, count):
    return np.linalg.eigh(covariance)[1][:, :-count]


def _numpy_grid(covariance, count, points=4096):
    """Textbook MUSIC: the noise subspace against a grid of steering vectors, peaks by parabola."""
    noise = _numpy_noise_subspace(covariance, count)
    grid = np.arange(points) / points
    steering = np.exp(-2j * np.pi * np.arange(len(covariance))[:, None] * grid)
    height = -np.log(np.sum(np.abs(noise.conj().T @ steering) ** 2, axis=0))
    before, after = np.roll(height, 1), np.roll(height, -1)
    peaks = np.flatnonzero((height > before) & (height >= after))
    best = peaks[np.argsort(height[peaks])[-count:]]
    left, middle, right = before[best], height[best], after[best]
    delays = grid[best] + 0.5 * (left - right) / (left - 2 * middle + right) / points
    return np.concatenate([delays, np.zeros(count - best.size)])


def _numpy_root(covariance, count):
    """Textbook root-MUSIC: all roots of the null polynomial by ``numpy.roots``."""
    noise = _numpy_noise_subspace(covariance, count)
    projector = noise @ noise.conj().T
    size = len(covariance)
    roots = np.roots([np.trace(projector, offset) for offset in range(size - 1, -size, -1)])
    inside = roots[np.abs(roots) < 1]
    nearest = inside[np.argsort(-np.abs(inside))[:count]]
    return -np.angle(nearest) / (2 * np.pi) % 1


def _doatools_delays(estimator_result):
    """doatools' angles of half-wavelength arrays as delays: sin θ = −2τ."""
    resolved, sources = estimator_result
    assert resolved
    return -np.sin(sources.locations.ravel()) / 2 % 1


def _doatools_root(covariance, count):
    from doatools.estimation.music import RootMUSIC1D
    from doatools.model.arrays import UniformLinearArray

    vars(np).setdefault("complex_", np.complex128)  # doatools predates NumPy 2
    array = UniformLinearArray(len(covariance), 0.5)
    return _doatools_delays(RootMUSIC1D(array, 1.0).estimate(covariance, count))


def _doatools_esprit(covariance, count):
    from doatools.estimation.esprit import Esprit1D

    # Its default row weights multiply two views of one array in place, so shared rows get both.
    return _doatools_delays(Esprit1D(1.0).estimate(covariance, count, row_weights="none"))


NUMPY = {"NumPy grid MUSIC": _numpy_grid, "NumPy root-MUSIC": _numpy_root}
DOATOOLS = {"doatools root-MUSIC": _doatools_root, "doatools ESPRIT": _doatools_esprit}
