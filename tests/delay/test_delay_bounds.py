"""Bounds against closed forms and finite differences; information criteria against known orders."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffsim import delay
from diffsim.delay.maximum_likelihood import Likelihood, next_delay

FREQUENCIES = 1e9 + 1e6 * np.arange(32)
DELAYS = np.array([8.0e-9, 25.0e-9])
POWER = np.array([[1.0, 0.3j], [-0.3j, 0.5]])


def columns():
    return np.exp(-2j * np.pi * FREQUENCIES[:, None] * DELAYS)


def projected_curvature():
    """Dᴴ P_A^⊥ D, the textbook way."""
    steer = columns()
    slopes = -2j * np.pi * FREQUENCIES[:, None] * steer
    off = np.eye(len(steer)) - steer @ np.linalg.pinv(steer)
    return slopes.conj().T @ off @ slopes


def test_one_echo_is_the_closed_form(dtype):
    # var τ = 6 / [(2πΔf)² T SNR N (N² − 1)]
    size, step, snr, snapshots = 64, 2e6, 50.0, 3
    bound = delay.cramer_rao_bound(
        np.array([1e-7], dtype),
        np.array([[snr]], dtype),
        1.0,
        np.asarray(1e9 + step * np.arange(size), dtype),
        snapshots=snapshots,
    )
    exact = 6 / ((2 * np.pi * step) ** 2 * snapshots * snr * size * (size**2 - 1))
    assert bound.dtype == dtype
    # In single precision 1 GHz is known to 64 Hz, 3e-5 of the step.
    np.testing.assert_allclose(bound, [[exact]], rtol=1e-11 if dtype == jnp.float64 else 1e-4)


def test_deterministic_and_stochastic_bounds_are_the_textbook_formulas():
    noise, snapshots = 0.2, 5
    steer = columns()
    covariance = steer @ POWER @ steer.conj().T + noise * np.eye(len(steer))
    seen = POWER @ steer.conj().T @ np.linalg.inv(covariance) @ steer @ POWER
    for stochastic, power in ((False, POWER), (True, seen)):
        textbook = np.linalg.inv((projected_curvature() * power.T).real) * noise / 2 / snapshots
        bound = delay.cramer_rao_bound(
            DELAYS, POWER, noise, FREQUENCIES, snapshots=snapshots, stochastic=stochastic
        )
        np.testing.assert_allclose(bound, textbook, rtol=1e-6)


def test_bounds_are_ordered():
    # Deterministic ≤ stochastic ≤ MUSIC, and knowing that amplitudes are real can only help.
    arguments = DELAYS, POWER, 2.0, FREQUENCIES
    deterministic = np.diagonal(delay.cramer_rao_bound(*arguments))
    stochastic = np.diagonal(delay.cramer_rao_bound(*arguments, stochastic=True))
    music = delay.music_variance(*arguments)
    assert np.all(deterministic < stochastic)
    assert np.all(stochastic < music)
    power = np.outer([1.0, 0.7], [1.0, 0.7])
    free = delay.cramer_rao_bound(DELAYS, power, 0.1, FREQUENCIES)
    real = delay.cramer_rao_bound(DELAYS, power, 0.1, FREQUENCIES, real_amplitudes=True)
    assert np.all(np.diagonal(real) < np.diagonal(free))


def test_real_amplitudes_have_the_information_of_the_whole_model():
    # The Fisher matrix of (τ, a) by automatic differentiation of the mean, then its Schur block.
    amplitudes = np.array([1.0, 0.7])

    def mean(parameters):
        phase = 2 * jnp.pi * FREQUENCIES[:, None] * parameters[:2] * 1e-9
        return jnp.concatenate([jnp.cos(phase), jnp.sin(phase)]) @ parameters[2:]

    slope = jax.jacfwd(mean)(jnp.concatenate([DELAYS * 1e9, amplitudes]))
    noise = 0.1
    exact = np.linalg.inv(2 / noise * slope.T @ slope)[:2, :2] * 1e-18
    bound = delay.cramer_rao_bound(
        DELAYS, np.outer(amplitudes, amplitudes), noise, FREQUENCIES, real_amplitudes=True
    )
    np.testing.assert_allclose(bound, exact, rtol=1e-8)


@pytest.mark.parametrize("forward_backward", [True, False])
def test_hankel_variance_is_the_first_order_of_the_estimator(forward_backward):
    # Against the derivative of ESPRIT itself with respect to every sample.
    size, window, step = 24, 10, 2e6
    amplitudes = np.array([1.0, 0.6 - 0.3j])
    clean = np.exp(-2j * np.pi * step * np.arange(size)[:, None] * DELAYS) @ amplitudes

    @jax.jit
    def estimates(parts):
        values = clean + jax.lax.complex(parts[0], parts[1])
        covariance = delay.smoothed_covariance(values, window, forward_backward=forward_backward)
        return delay.esprit(delay.signal_subspace(covariance, 2), step)

    deviation = np.linspace(0.5, 2.0, size)
    slopes = jax.jacrev(estimates)(jnp.zeros((2, size)))
    exact = np.sum(np.asarray(slopes) ** 2 * deviation**2 / 2, axis=(1, 2))
    variance = delay.hankel_variance(
        DELAYS,
        amplitudes,
        deviation**2,
        step,
        window,
        forward_backward=forward_backward,
    )
    np.testing.assert_allclose(variance, exact, rtol=1e-6)


def test_fit_derivatives_are_those_of_its_residual():
    rng = np.random.default_rng(0)
    values = rng.standard_normal((2, 16)) + 1j * rng.standard_normal((2, 16))
    pulse = 1 + 0.3 * rng.standard_normal(16)
    mask = jnp.array([True, True, False])
    for real in (False, True):
        samples = delay.FrequencySamples.create(
            values, pulse=pulse, noise=1 + rng.random(16), offset=3.0, real_amplitudes=real
        )
        problem = Likelihood.of(samples)
        point = jnp.array([0.2, 0.31, 0.0])

        def residual(delays, problem):
            fit = problem.fit(delays, mask)
            return fit.residual, fit.slope

        slope, claimed = jax.jit(jax.grad(residual, has_aux=True))(point, problem)
        np.testing.assert_allclose(-2 * claimed, slope, atol=1e-11)


def test_the_next_echo_tried_is_the_one_that_leaves_least():
    normal = np.random.default_rng(0).standard_normal((2, 20, 2, 16))
    pulse, grid = np.linspace(0.5, 1.5, 16) * 1j, jnp.arange(64) / 64

    @jax.jit
    @jax.vmap
    def tried(values):
        problem = Likelihood.of(delay.FrequencySamples.create(values, pulse=pulse))
        mask, one = jnp.array([True, True]), jnp.array([0.2, 0.0])
        left = jax.vmap(lambda delay: problem.fit(one.at[1].set(delay), mask).residual)(grid)
        away = jnp.abs(grid - one[0]) > 1 / 64  # where both are nearly the same echo nothing is
        best = grid[jnp.argmin(jnp.where(away, left, jnp.inf))]
        return best, next_delay(problem, problem.fit(one, jnp.array([True, False])))

    np.testing.assert_array_equal(*tried(normal[0] + 1j * normal[1]))


def test_order_from_eigenvalues():
    rng = np.random.default_rng(1)
    size, snapshots = 8, 200
    steer = np.exp(-2j * np.pi * np.arange(size)[:, None] * [0.1, 0.3, 0.35])

    @jax.jit
    @jax.vmap
    def orders(key):
        normal = jax.random.normal(key, (2, 8, snapshots), dtype=complex)
        data = steer @ normal[0, :3] + 0.3 * normal[1]
        spectrum = jnp.linalg.eigvalsh(data @ data.conj().T / snapshots)[::-1]
        scores = delay.mdl(spectrum, snapshots), delay.aic(spectrum, snapshots)
        shift = delay.mdl(1e-12 * spectrum, snapshots) - scores[0]
        return *map(jnp.argmin, scores), shift

    keys = jax.random.split(jax.random.key(rng.integers(99)), 200)
    by_mdl, by_aic, shift = map(np.asarray, orders(keys))
    assert np.mean(by_mdl == 3) >= 0.99  # consistent
    assert np.mean(by_aic >= 3) == 1  # never too few here, but too many in a few per cent
    assert np.mean(by_aic == 3) < np.mean(by_mdl == 3)
    np.testing.assert_allclose(shift, 0, atol=1e-6)


def test_bad_bounds():
    with pytest.raises(ValueError, match=r"power: expected shape \(K, K\)"):
        delay.cramer_rao_bound(DELAYS, np.eye(3), 1.0, FREQUENCIES)
    with pytest.raises(ValueError, match=r"power: expected shape \(K, K\)"):
        delay.cramer_rao_bound(DELAYS[0], POWER[0, 0], 1.0, FREQUENCIES)
    with pytest.raises(ValueError, match="stochastic"):
        delay.cramer_rao_bound(
            DELAYS, POWER, 1.0, FREQUENCIES, stochastic=True, real_amplitudes=True
        )


def test_criteria_are_their_formulas():
    values, size, snapshots = np.array([9.0, 4.0, 1.0, 0.5, 0.25]), 5, 30
    for centro, count in ((False, lambda k: k * (10 - k)), (True, lambda k: k * (11 - k) / 2)):
        tails = [values[k:] for k in range(size)]
        ratio = [len(t) * np.log(t.mean() / np.exp(np.log(t).mean())) for t in tails]
        free = np.array([count(k) for k in range(size)])
        shown = delay.aic(jnp.array(values), snapshots, centro_hermitian=centro)
        np.testing.assert_allclose(shown, 2 * snapshots * np.array(ratio) + 2 * free, atol=1e-12)
        shown = delay.mdl(jnp.array(values), snapshots, centro_hermitian=centro)
        wanted = snapshots * np.array(ratio) + free * np.log(snapshots) / 2
        np.testing.assert_allclose(shown, wanted, atol=1e-12)
    left = jnp.array([9.0, 2.0, 0.5])
    for real, each in ((False, 3 + 2 * 4), (True, 3 + 4)):
        shown = delay.bic(left, 9.0, 40, 4, real)
        wanted = 2 * 40 * 4 * np.log(left) + np.arange(3) * each * np.log(40)
        np.testing.assert_allclose(shown, wanted, rtol=1e-12)
    # Below (N eps)² of the whole nothing is told apart; eigenvalues, below L eps of the largest.
    tiny = delay.bic(jnp.array([9.0, 1e-29, 1e-31]), 9.0, 40)
    assert float(tiny[2] - tiny[1]) == pytest.approx(5 * np.log(40))
    floors = [delay.mdl(jnp.array([1.0, 0.5, x, x]), 9) for x in (0.0, 1e-17, 4 * 2.2204e-16)]
    np.testing.assert_allclose(floors[0], floors[1], rtol=1e-12)
    np.testing.assert_allclose(floors[0], floors[2], rtol=1e-4)


def test_music_variance_is_the_textbook_formula():
    noise, snapshots = 0.2, 5
    steer, inverse = columns(), np.linalg.inv(POWER)
    spread = inverse + noise * inverse @ np.linalg.inv(steer.conj().T @ steer) @ inverse
    textbook = np.diagonal(spread) / np.diagonal(projected_curvature()) * noise / 2 / snapshots
    found = delay.music_variance(DELAYS, POWER, noise, FREQUENCIES, snapshots=snapshots)
    np.testing.assert_allclose(found, textbook.real, rtol=1e-6)
