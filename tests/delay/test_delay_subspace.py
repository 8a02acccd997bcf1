"""Subspace estimators against exact covariances, NumPy's companion roots and finite differences."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diffsim import delay
from diffsim.delay.eigenvalues import eigenvalues
from diffsim.delay.music import _notch
from studies.delay import _numpy_covariance, _numpy_root

DELAYS = np.array([0.1, 0.13, 0.6])
AMPLITUDES = np.array([1.0, 1j, 0.5 + 0.5j])
SIZE, WINDOW = 48, 24

ESTIMATORS = {
    "ls": delay.esprit,
    "tls": partial(delay.esprit, solve=delay.total_least_squares),
    "unitary": partial(delay.esprit, solve=delay.unitary),
    "root": delay.root_music,
}


def record(delays, amplitudes=AMPLITUDES, size=SIZE):
    delays = jnp.asarray(delays)
    phase = 2 * jnp.pi * jnp.arange(size, dtype=delays.dtype)[:, None] * delays
    columns = jax.lax.complex(jnp.cos(phase), -jnp.sin(phase))
    return columns @ jnp.asarray(amplitudes, columns.dtype)


def noise(size=SIZE, deviation=0.1):
    return deviation * np.random.default_rng(0).standard_normal((size, 2)) @ [1, 1j]


@jax.jit
def all_estimates(covariance):
    space = delay.signal_subspace(covariance, 3, 4)
    return {name: method(space) for name, method in ESTIMATORS.items()}


@pytest.mark.parametrize("forward_backward", [True, False])
def test_exact_data_give_exact_delays(forward_backward):
    covariance = delay.smoothed_covariance(
        record(DELAYS), WINDOW, forward_backward=forward_backward
    )
    for name, delays in all_estimates(covariance).items():
        assert delays[3] == 0, name  # beyond the count
        np.testing.assert_allclose(delays[:3], DELAYS, atol=1e-12, err_msg=name)


@settings(max_examples=25)
@given(st.floats(0, 1), st.floats(-3, 3), st.floats(0, 1))
def test_a_later_louder_or_turned_echo_is_the_same_echo(shift, level, turn):
    """Delays move by the shift, modulo 1, whatever the record's scale and phase."""
    values = np.asarray(record(DELAYS) + noise())
    factor = 10**level * np.exp(2j * np.pi * turn)
    moved = factor * values * np.exp(-2j * np.pi * shift * np.arange(SIZE))
    before, after = (
        all_estimates(delay.smoothed_covariance(data, WINDOW)) for data in (values, moved)
    )
    for name in ESTIMATORS:
        apart = np.asarray(after[name])[:3, None] - np.asarray(before[name])[:3] - shift
        np.testing.assert_allclose(
            np.abs((apart + 0.5) % 1 - 0.5).min(axis=0), 0, atol=1e-9, err_msg=name
        )


def test_exact_incoherent_covariance_without_smoothing():
    # A P Aᴴ + σ² I with P diagonal: the noise only shifts the eigenvalues.
    columns = np.exp(-2j * np.pi * np.arange(WINDOW)[:, None] * DELAYS)
    covariance = columns @ np.diag([1.0, 2.0, 0.5]) @ columns.conj().T + 0.1 * np.eye(WINDOW)
    np.testing.assert_allclose(
        delay.signal_subspace(covariance, 3).eigenvalues[3:], 0.1, rtol=1e-12
    )
    for name, delays in all_estimates(covariance).items():
        np.testing.assert_allclose(delays[:3], DELAYS, atol=1e-12, err_msg=name)


def test_single_precision():
    values = record(DELAYS.astype(np.float32))
    found = all_estimates(delay.smoothed_covariance(values, WINDOW))
    for name, delays in found.items():
        assert delays.dtype == jnp.float32
        # A hundred roundings of the phase 2π n τ.
        np.testing.assert_allclose(delays[:3], DELAYS, atol=100 * 6e-8 / SIZE, err_msg=name)


def test_real_form_of_the_eigenproblem_is_the_complex_one():
    for window in (24, 25):
        covariance = delay.smoothed_covariance(record(DELAYS) + noise(), window)
        plain = delay.signal_subspace(covariance, 3)
        real = delay.signal_subspace(covariance, 3, centro_hermitian=True)
        np.testing.assert_allclose(real.eigenvalues, plain.eigenvalues, atol=1e-12)
        projectors = [s.basis @ s.basis.conj().T for s in (plain, real)]
        np.testing.assert_allclose(*projectors, atol=1e-12)


def test_covariance_is_the_mean_over_windows():
    values = np.asarray(noise(20, 1.0)).reshape(2, 10)
    windows = np.concatenate([np.lib.stride_tricks.sliding_window_view(row, 4) for row in values])
    forward = windows.T @ windows.conj() / len(windows)
    both = (forward + forward[::-1, ::-1].conj()) / 2
    np.testing.assert_allclose(delay.smoothed_covariance(values, 4), both, atol=1e-14)
    one = delay.smoothed_covariance(values, 4, forward_backward=False)
    np.testing.assert_allclose(one, forward, atol=1e-14)
    full = delay.smoothed_covariance(values, 4, present=jnp.ones(10))
    np.testing.assert_allclose(full, both, atol=1e-14)
    # A gap leaves the mean over the pairs present: for a single echo, the exact covariance.
    echo = record(DELAYS[:1], [1.0], 10)
    gap = jnp.arange(10) != 4
    holey = delay.smoothed_covariance(jnp.where(gap, echo, 9.0), 4, present=gap.astype(float))
    np.testing.assert_allclose(holey, delay.smoothed_covariance(echo, 4), atol=1e-14)


def test_smoothing_restores_the_rank_of_coherent_echoes():
    unsmoothed = delay.smoothed_covariance(record(DELAYS), SIZE, forward_backward=False)
    assert np.linalg.matrix_rank(np.asarray(unsmoothed), 1e-10, hermitian=True) == 1
    smoothed = delay.smoothed_covariance(record(DELAYS), WINDOW)
    assert np.linalg.matrix_rank(np.asarray(smoothed), 1e-10, hermitian=True) == 3


@jax.jit
@jax.vmap
def root_estimates(values):
    return delay.root_music(delay.signal_subspace(delay.smoothed_covariance(values, WINDOW), 3))


@pytest.mark.parametrize("separation", [0.25, 0.5, 1.5])
def test_root_music_finds_the_roots_of_the_companion_matrix(separation):
    truth = np.array([0.3, 0.3 + separation / SIZE, 0.45])
    rng = np.random.default_rng(0)
    white = rng.standard_normal((40, SIZE)) + 1j * rng.standard_normal((40, SIZE))
    data = np.asarray(record(truth)) + 0.04 * separation * white
    found = root_estimates(data)
    roots = [np.sort(_numpy_root(_numpy_covariance(row, WINDOW), 3)) for row in data]
    # The companion matrix loses digits where roots nearly pair up.
    np.testing.assert_allclose(found, roots, atol=1e-8)


def test_root_music_finds_each_echo_once_where_its_search_looks(dtype):
    # On a point of the grid the null spectrum is zero and so is the notch it is divided by.
    places = np.random.default_rng(0).integers(4, 16, (20, 3)).cumsum(1) / 64
    found = root_estimates(jax.vmap(record)(places.astype(dtype)))
    np.testing.assert_allclose(found, places, atol=10 * np.finfo(dtype).eps)


def test_spectrum_equals_the_product_with_the_noise_subspace():
    covariance = delay.smoothed_covariance(record(DELAYS) + noise(), WINDOW)
    delays, height = delay.music_spectrum(delay.signal_subspace(covariance, 3), 64, step=2.0)
    np.testing.assert_allclose(delays, np.arange(64) / 128)
    null = np.linalg.eigh(covariance)[1][:, :-3]
    steering = np.exp(-2j * np.pi * np.arange(WINDOW)[:, None] * np.arange(64) / 64)
    direct = WINDOW / np.sum(np.abs(null.conj().T @ steering) ** 2, axis=0)
    np.testing.assert_allclose(height, direct, rtol=1e-9)


@pytest.mark.parametrize("size", [8, 24])
def test_the_notch_divided_out_is_that_of_an_echo(size):
    """D = 1 − (sin πLτ / L sin πτ)² of an echo at 0, a pair of roots at ±jρ: ρ = 0, then τ = 0."""
    away = jnp.array([1e-3, 2e-3]) / size
    sines = jnp.sin(jnp.pi * size * away) / size / jnp.sin(jnp.pi * away)
    expected = (1 - sines**2) / (1 - 1 / size**2)
    np.testing.assert_allclose(_notch(away, 0.0, size), expected, rtol=1e-5)
    width = 2 * jnp.pi * away  # a root as far along the other axis raises D as much
    np.testing.assert_allclose(_notch(0 * away, width, size), expected, rtol=1e-4)
    assert _notch(0.5, 0.0, size) > 0.8  # far from the echo nothing is left of it


def test_unitary_esprit_at_half_the_unambiguous_range():
    # tan(ω/2) is infinite there until the mean phase is taken out.
    covariance = delay.smoothed_covariance(record([0.5], [1.0]), WINDOW)
    found = ESTIMATORS["unitary"](delay.signal_subspace(covariance, 1))
    np.testing.assert_allclose(found, 0.5, atol=1e-12)


def test_matrix_pencil_is_exact_at_twice_as_many_samples_as_echoes():
    values = record(DELAYS, size=6)
    np.testing.assert_allclose(delay.matrix_pencil(values, 3, 2.0), DELAYS / 2, atol=1e-11)


def test_the_window_is_half_the_record_of_snapshots_too():
    values = noise(24, 1.0).reshape(2, 12)
    found, half = (delay.matrix_pencil(values, 1, window=window) for window in (None, 6))
    np.testing.assert_array_equal(found, half)


@jax.jit
def along(covariance, change):
    """Projector and delays of two echoes: values, forward slopes and reverse slopes."""

    def results(size):
        space = delay.signal_subspace(covariance + size.astype(complex) * change, 2)
        delays = jnp.stack([method(space) for method in ESTIMATORS.values()])
        return delays, space.basis @ space.basis.conj().T

    (delays, _), (forward, projector) = jax.jvp(results, (jnp.zeros(()),), (jnp.ones(()),))
    return delays, forward, jax.jacrev(lambda size: results(size)[0])(jnp.zeros(())), projector


@pytest.mark.parametrize("case", ["exact", "noisy", "repeated"])
def test_derivatives_forward_reverse_and_by_differences(case):
    normal = np.random.default_rng(0).standard_normal((2, 16, 16))
    change = normal[0] + 1j * normal[1]
    change = change + change.conj().T
    # Orthogonal echoes of equal power: one double eigenvalue, and one 14-fold at zero.
    places = [0.25, 0.5] if case == "repeated" else [0.25, 0.31]
    columns = np.exp(-2j * np.pi * np.arange(16)[:, None] * places)
    covariance = columns @ columns.conj().T
    if case == "noisy":
        covariance = covariance + 0.2 * change @ change / 16
    _, forward, reverse, projector = along(covariance, change)
    step = 1e-6
    ahead, behind = (along(covariance + side * change, change)[0] for side in (step, -step))
    # Central differences err by rounding, 1e-15 / step, and by step².
    np.testing.assert_allclose(forward, (ahead - behind) / (2 * step), atol=1e-8)
    np.testing.assert_allclose(reverse, forward, atol=1e-12)
    if case == "repeated":  # the projector moves by P⊥ dR R⁺ + h.c., R⁺ = P/16
        on = covariance / 16
        exact = (np.eye(16) - on) @ change @ on / 16
        np.testing.assert_allclose(projector, exact + exact.conj().T, atol=1e-13)


def test_eigenvalues_and_their_derivative(dtype):
    rng = np.random.default_rng(1)
    parts = rng.standard_normal((2, 5, 5)).astype(dtype)
    matrix = np.zeros((7, 7), np.result_type(dtype, np.complex64))
    matrix[:5, :5] = parts[0] + 1j * parts[1]
    mask = jnp.arange(7) < 5
    found = eigenvalues(jnp.asarray(matrix), mask)
    tolerance = 200 * np.finfo(dtype).eps  # condition number of these eigenvalues
    expected = np.linalg.eigvals(matrix[:5, :5])
    gaps = np.abs(np.asarray(found)[:5, None] - expected)
    assert np.all(found[5:] == 1)
    assert np.all(np.min(gaps, axis=0) < tolerance)

    # Σ z + Σ z² = tr (M + M²), so the gradient of its real part is I + 2 Mᵀ.
    def moments(matrix):
        roots = jnp.where(mask, eigenvalues(matrix, mask), 0)
        return jnp.sum(roots + roots**2).real

    slope = jax.jit(jax.grad(moments))(jnp.asarray(matrix))[:5, :5]
    np.testing.assert_allclose(slope, np.eye(5) + 2 * matrix[:5, :5].T, atol=50 * tolerance)


def test_bad_windows():
    with pytest.raises(ValueError, match=r"window: expected in \[2, 48\]"):
        delay.smoothed_covariance(record(DELAYS), 49)
    with pytest.raises(ValueError, match=r"maximum: expected in \[1, 3\]"):
        delay.signal_subspace(jnp.eye(4), 4)
    with pytest.raises(ValueError, match="points"):
        delay.music_spectrum(delay.signal_subspace(jnp.eye(4), 1), 3)
