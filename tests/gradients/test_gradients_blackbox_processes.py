"""What a simulator may do to its process: leave children, hold the lock, exit, leak."""

import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import simulators
from test_gradients_blackbox_faults import launch, script

from diffsim.gradients import CentralDifference
from diffsim.gradients.blackbox import BlackBox, Penalty


def gone(behind):
    """Whether none of its processes is left, given a moment."""
    end = time.monotonic() + 10
    while behind.alive() and time.monotonic() < end:
        time.sleep(0.02)
    return not behind.alive()


@pytest.mark.parametrize("how", ["sleep", "fork", "session", "daemon"])
def test_a_timeout_ends_the_children_too_though_c_code_holds_the_lock(tmp_path, how):
    behind = simulators.Behind(tmp_path, how)
    with BlackBox(behind, workers=1, timeout=1.0) as box:
        with pytest.raises(TimeoutError, match="expected an answer within 1 s"):
            box.results(np.ones((1, 1)))
        assert len(list(tmp_path.iterdir())) == 2
        assert gone(behind)
        assert box.results(np.zeros((1, 1))) == 0.0  # and another worker goes on


def test_a_worker_that_dies_takes_its_children_along(tmp_path):
    """A forked child holds the pipe open, so that its end tells nothing."""
    behind = simulators.Behind(tmp_path, "exit")
    with (
        BlackBox(behind, workers=1) as box,
        pytest.raises(ChildProcessError, match="exit code 3, 2 times"),
    ):
        box.results(np.ones((1, 1)))
    assert len(list(tmp_path.iterdir())) == 4
    assert gone(behind)


@pytest.mark.parametrize("how", ["sleep", "fork", "daemon"])
def test_a_killed_parent_leaves_nothing_behind(tmp_path, how):
    body = f"""
from pathlib import Path
box = BlackBox(simulators.Behind(Path({str(tmp_path)!r}), {how!r}), workers=1)
box.results(np.ones((1, 1)))
"""
    beside = tmp_path.with_name(tmp_path.name + "-program")
    beside.mkdir()
    program = launch(beside, script(body))
    end = time.monotonic() + 60
    while len(list(tmp_path.iterdir())) < 2 and time.monotonic() < end:
        time.sleep(0.02)
    behind = simulators.Behind(tmp_path, how)
    assert len(behind.alive()) == 2
    program.kill()
    program.communicate(timeout=20)
    assert gone(behind)


def test_a_program_that_computes_with_jax_as_it_is_imported_can_have_workers(tmp_path):
    """A worker forks: with JAX in use before, the simulator would wait for threads that are not."""
    text = """
import jax, jax.numpy as jnp
import numpy as np
from diffsim.gradients.blackbox import BlackBox

EYE = jnp.eye(3)

def simulator(x):
    return float(jnp.linalg.det(EYE * jnp.asarray(x)))

if __name__ == "__main__":
    with BlackBox(simulator, workers=1, timeout=20.0) as box:
        print(box.results(np.full((1, 3), 2.0)))
"""
    out, err = launch(tmp_path, text).communicate(timeout=60)
    assert (out, err) == ("[8.]\n", "")


@pytest.mark.parametrize("workers", [0, 1])
def test_an_exit_of_the_simulator_is_its_error(workers):
    with (
        BlackBox(simulators.leaves, workers=workers) as box,
        pytest.raises(RuntimeError, match=r"expected a result, got sys\.exit\(0\)") as caught,
    ):
        box.results(np.ones((1, 1)))
    assert "The simulator's input: array([1.])" in "".join(caught.value.__notes__)


def test_an_exit_of_the_loss_is_an_error_too():
    output = {"size": np.zeros(())}
    box = BlackBox(lambda x: {"size": 1.0}, output=output, loss=simulators.leaves)
    with pytest.raises(RuntimeError, match=r"got sys\.exit\(0\)"):
        jax.grad(box)(jnp.ones(1), key=jax.random.key(0))


def test_a_worker_is_replaced_after_its_calls():
    with BlackBox(simulators.Leaks(1), workers=1, most_calls=3) as box:
        assert box.results(np.ones((10, 1))).tolist() == [1, 2, 3, 1, 2, 3, 1, 2, 3, 1]
        assert box.statistics.replaced == 3
        assert box.statistics.failures == 0


def test_a_worker_is_replaced_when_it_has_too_much_memory():
    most = 200 * 2**20
    with BlackBox(simulators.Leaks(50 * 2**20), workers=1, most_memory=most) as box:
        counts = box.results(np.ones((9, 1)))
    assert 2 <= max(counts) <= 4
    assert counts[:3].tolist() == [1, 2, 3]
    assert 2 <= box.statistics.replaced <= 4


@pytest.mark.parametrize("name", ["most_calls", "most_memory"])
def test_limits_need_workers(name):
    with pytest.raises(ValueError, match=f"{name}: expected workers >= 1 with it"):
        BlackBox(simulators.bowl, **{name: 3})
    with pytest.raises(ValueError, match=f"{name}: expected > 0 or None, got 0"):
        BlackBox(simulators.bowl, workers=1, **{name: 0})


def test_a_loss_beyond_the_precision_is_not_finite():
    box = BlackBox(lambda x: 1e39, method=CentralDifference())
    x = jnp.ones(1, jnp.float32)
    with pytest.raises(FloatingPointError, match=r"finite loss in float32, got 1e\+39"):
        jax.grad(box)(x)
    assert jax.grad(box)(jnp.ones(1)).tolist() == [0.0]
    below = BlackBox(lambda x: -1e39, method=CentralDifference(), on_error="mask")
    with pytest.raises(FloatingPointError, match="all 3 samples failed"):
        jax.grad(below)(x)
    penal = BlackBox(lambda x: float("nan"), method=CentralDifference(), on_error=Penalty(1e39))
    with pytest.raises(ValueError, match=r"Penalty: expected a loss finite in float32, got 1e\+39"):
        jax.grad(penal)(x)
