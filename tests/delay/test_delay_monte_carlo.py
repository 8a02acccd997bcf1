"""Errors over many noises against the Cramér–Rao bound, for coherent and uncorrelated echoes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffsim import delay

SIZE, SNAPSHOTS, FIRST = 48, 2, 0.3
# Two snapshots of two echoes: rank one, or orthogonal.
SOURCES = {
    "in phase": np.array([[1, 1], [1, 1]]),
    "in quadrature": np.array([[1, 1j], [1, 1j]]),
    "uncorrelated": np.array([[1, 1], [1, -1]]),
}


@jax.jit
@jax.vmap
def errors_and_order(values, truth):
    samples = delay.FrequencySamples.create(values)
    found = delay.estimate_delays(samples, 2, 2)
    more = jnp.argmin(found.criterion)
    return (found.delays - truth + 0.5) % 1 - 0.5, found.standard_error, more


def run(separation, snr_db, kind, trials, seed):
    """RMSE over √CRB of both echoes, the mean standard error over √CRB, the bound over Δτ."""
    truth = FIRST + np.array([0.0, separation / SIZE])
    # Phases are set at the middle of the band, where they decide how hard the pair is.
    index = np.arange(SIZE) - (SIZE - 1) / 2
    columns = np.exp(-2j * np.pi * index[:, None] * truth)
    amplitudes, noise = SOURCES[kind], 10 ** (-snr_db / 10)
    white = np.random.default_rng(seed).standard_normal((2, trials, SNAPSHOTS, SIZE))
    data = amplitudes @ columns.T + np.sqrt(noise / 2) * (white[0] + 1j * white[1])
    found, claimed, order = errors_and_order(data, np.tile(truth, (trials, 1)))
    power = amplitudes.T @ amplitudes.conj() / SNAPSHOTS
    bound = delay.cramer_rao_bound(truth, power, noise, index, snapshots=SNAPSHOTS)
    deviation = np.sqrt(np.diagonal(np.asarray(bound)))
    rmse = np.sqrt(np.mean(np.asarray(found) ** 2, axis=0))
    mean = np.sqrt(np.mean(np.asarray(claimed) ** 2, axis=0))
    right = np.mean(np.asarray(order) == 2)
    return rmse / deviation, mean / deviation, right, deviation[0] * SIZE / separation


@pytest.mark.parametrize(
    ("separation", "snr_db", "kind"),
    [(0.5, 20, "in phase"), (1.0, 0, "in quadrature"), (0.5, 10, "uncorrelated")],
)
def test_errors_reach_the_bound(separation, snr_db, kind):
    ratio, claimed, right, relative = run(separation, snr_db, kind, 400, 0)
    assert relative < 0.1
    # The error of an RMSE over 400 trials is 3.5 %.
    assert np.all(ratio < 1.1), ratio
    assert np.all(ratio > 0.9), ratio
    np.testing.assert_allclose(claimed, 1, atol=0.05)
    assert right == 1


@pytest.mark.slow
@pytest.mark.parametrize("kind", SOURCES)
@pytest.mark.parametrize("separation", [0.25, 0.5, 1.0, 2.0])
def test_errors_reach_the_bound_everywhere(separation, kind):
    for snr_db in (0, 5, 10, 15, 20, 25, 30):
        ratio, claimed, _, relative = run(separation, snr_db, kind, 1000, snr_db)
        print(f"{kind}, {separation}/B, {snr_db} dB: {ratio}, √CRB/Δτ {relative:.3f}")
        if relative < 0.1:
            # The error of an RMSE over 1000 trials is 2.2 %.
            assert np.all(ratio < 1.1), (snr_db, ratio)
            assert np.all(ratio > 0.9), (snr_db, ratio)
            np.testing.assert_allclose(claimed, 1, atol=0.1)
