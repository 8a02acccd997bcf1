"""Parts of a black box by themselves: what is told of an input, limits of time, how workers end."""

import subprocess
import sys
import time

import jax.numpy as jnp
import numpy as np
import pytest

from diffsim.gradients import CentralDifference, Richardson, estimate, steps
from diffsim.gradients.blackbox import BlackBox, Penalty, outcome, pool, worker


def test_inputs_are_told_whole_up_to_40_numbers_and_to_8_digits():
    assert outcome.describe((np.array([1 / 3]), 2)) == "array([0.33333333]), 2"
    assert "..." not in outcome.describe((np.arange(40),))
    short = outcome.describe((np.arange(41),))
    assert short.startswith("array([ 0,  1,  2,  3, ..., 37, 38, 39, 40]")
    with pytest.raises(TypeError) as caught:
        outcome.real("loss", "a" * 100)
    assert str(caught.value) == f"loss: expected a real number, got <U100 ('{'a' * 79})"
    assert repr(outcome.Real()) == "a real number"
    with pytest.raises(ValueError, match="loss: expected an array, got"):
        outcome.real("loss", [[1.0], [1.0, 2.0]])


@pytest.mark.parametrize(
    ("value", "dtype", "fits"),
    [
        (3, "int32", True), (3, "float32", True), (True, "int32", True), (-3, "int8", True),
        (128, "int8", False), (0.1, "float32", True), (float("inf"), "float32", True),
        (1e39, "float32", False), (float("nan"), "float32", True),
    ],
)  # fmt: skip
def test_a_python_number_takes_the_type_that_has_room_for_it(value, dtype, fits):
    wanted = np.zeros((), dtype)
    if not fits:
        with pytest.raises(ValueError, match=f"expected a number in {dtype}"):
            outcome.checked(value, wanted)
        return
    found = outcome.checked(value, wanted)
    assert (found.dtype, found.shape) == (wanted.dtype, ())
    np.testing.assert_array_equal(found, np.asarray(value).astype(dtype))


def test_a_worker_has_two_minutes_to_start_and_then_its_calls_their_limit():
    one = pool._Worker(None, None, None, since=5.0)
    assert one.alive_until(3.0) == 125.0
    one.ready = True
    assert one.alive_until(3.0) == np.inf
    one.calls.append(0)
    assert one.alive_until(3.0) == 8.0
    assert one.alive_until(None) == np.inf


@pytest.mark.parametrize("code", [0, 3, -6, -9, -11])
def test_a_worker_ends_as_its_child_has(code):
    """By the same signal, or with the same exit code; loaded by path, as workers are."""
    text = f"import runpy; runpy.run_path({worker.__file__!r})['_end_as']({code})"
    assert subprocess.run([sys.executable, "-c", text], timeout=60).returncode == code


def test_memory_is_what_this_process_has():
    import psutil

    before, own = worker.memory(), psutil.Process().memory_info().rss
    assert before == pytest.approx(own, rel=0.05)


def test_a_batch_that_fails_is_halved_until_the_culprits_stand_alone():
    """Rows 2 and 5 of 7: 7, 3 + 4, 1 + 2 + 2 + 2, 1 + 1 + 1 + 1."""
    sizes = []

    def simulator(x):
        sizes.append(len(x))
        if set(x[:, 0]) & {2.0, 5.0}:
            raise ValueError("no")
        time.sleep(0.001)
        return x[:, 0]

    box = BlackBox(simulator, batched=True, on_error="mask", method=CentralDifference())
    found = box._host.losses((np.arange(7.0)[:, None],), np.float64)
    np.testing.assert_array_equal(found, [0, 1, np.nan, 3, 4, np.nan, 6])
    assert sizes == [7, 3, 4, 1, 2, 2, 2, 1, 1, 1, 1]
    told = box.statistics
    assert (told.batches, told.samples, told.calls, told.cached) == (1, 7, 11, 0)
    assert (told.failures, told.timeouts, told.replaced) == (2, 0, 0)
    assert 0.002 < told.seconds < 60
    box._host.on_error = Penalty(9.0)
    again = box._host.losses((np.arange(7.0)[:, None],), np.float64)
    np.testing.assert_array_equal(again, [0, 1, 9, 3, 4, 9, 6])
    assert box.statistics.seconds > told.seconds


@pytest.mark.parametrize(
    ("method", "power", "share", "tables"),
    [
        # D(h) of x³ at 0 is h², and (4 D(h/2) − D(h))/3 of x⁵ is −h⁴/4.
        (CentralDifference, 3, 1, {"float64": 4e-6, "float32": 4e-3}),
        (Richardson, 5, -1 / 4, {"float64": 1e-3, "float32": 6e-2}),
    ],
)
def test_a_difference_takes_its_step_in_each_precision(method, power, share, tables):
    for dtype, h in tables.items():
        x = jnp.zeros(1, dtype)
        for asked, used in ((None, h), (0.5, 0.5)):
            found = estimate(lambda x: jnp.sum(x**power), method(asked))(x)
            wanted = share * used ** (power - 1)
            assert float(found.grad[0]) == pytest.approx(wanted, rel=1e-5)
            assert found.evaluations == (2 if method is CentralDifference else 4)
            if method is Richardson:
                assert float(found.info["truncation"]) == pytest.approx(
                    used**4 * (1 - 1 / 16) / 3, rel=1e-5
                )


def test_noise_is_told_from_seven_values_on():
    for count in (7, 9):  # of ± 1 the sixth differences are ± 64, and γ₆ is 1/924
        found = steps.measured_noise(jnp.asarray((-1.0) ** np.arange(count)))
        assert float(found) == pytest.approx(64 / 924**0.5)
    with pytest.raises(ValueError, match=r"m >= 7, got \(6,\)"):
        steps.measured_noise(jnp.ones(6))
    assert float(steps.noise_optimal_step(2e-3, -6.0)) == pytest.approx(0.1)
