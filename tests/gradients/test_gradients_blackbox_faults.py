"""What a simulator can do wrong, and what comes of it."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import psutil
import pytest
import simulators

from diffsim.gradients import CentralDifference
from diffsim.gradients.blackbox import BlackBox, Penalty

TESTS = Path(__file__).parent.parent
FINE, RAISES, NAN, HANGS, KILLED, SHAPE, DTYPE, UNPICKLABLE, RESULT = range(9)  # simulators.py
X = jnp.arange(8.0).reshape(4, 2)


def faults(kind, count=1):
    """One fault a row, of which the first ``count`` after the first row are bad."""
    return np.array([kind if 0 < i <= count else 0 for i in range(4)])


def step(box):
    return box.value_and_grad(lambda scale, x: scale * x)


def run(box, kind, count=1):
    return step(box)(jnp.array(1.0), X, args=(faults(kind, count),))


@pytest.fixture(scope="module", params=[False, True], ids=["single", "batched"])
def batched(request):
    return request.param


@pytest.fixture(scope="module", params=[0, 1], ids=["here", "worker"])
def place(request, batched):
    """Boxes that share one pool for each policy, as starting workers takes most of the time."""
    made = {}

    def box(on_error):
        if on_error not in made:
            simulator = simulators.faulty_rows if batched else simulators.faulty
            made[on_error] = BlackBox(
                simulator, method=CentralDifference(), batched=batched,
                workers=request.param, on_error=on_error,
            )  # fmt: skip
        return made[on_error]

    yield box
    for one in made.values():
        one.close()


def test_an_exception_has_its_own_type_message_and_input(place):
    for _ in range(2):  # and the box goes on working
        with pytest.raises(simulators.Misfit, match=r"^no solution at 2\.0\n") as caught:
            run(place("raise"), RAISES)
        notes = "".join(caught.value.__notes__)
        assert re.search(r"The simulator's input: array\(\[[23., 018]+\]\), np.int64\(1\)", notes)
        value, slope = run(place("raise"), FINE)
        assert value == pytest.approx(float(jnp.mean(jnp.sum(X**2, axis=1))) / 2)
        assert slope == pytest.approx(2 * float(value), rel=1e-6)


@pytest.mark.parametrize("kind", [RAISES, NAN])
def test_masked_rows_leave_the_others_as_they_are(place, kind):
    box = place("mask")
    before = box.statistics.failures
    value, slope = run(box, kind)
    kept = 0.5 * jnp.sum(X[jnp.array([0, 2, 3])] ** 2, axis=1)
    assert value == pytest.approx(float(jnp.mean(kept)))
    assert slope == pytest.approx(2 * float(jnp.mean(kept)), rel=1e-6)
    assert box.statistics.failures - before == 5  # two differences and the row itself


def test_masked_points_spoil_only_the_terms_they_are_part_of():
    """Fails at its aim and above: at 0 a difference is lost, at 1 the value itself, at 2 none."""

    def simulator(x, aim):
        return float("nan") if aim <= x[0] < aim + 1e-3 else simulators.bowl(x)

    box = BlackBox(simulator, method=CentralDifference(step=0.01), on_error="mask")
    x = jnp.array([[0.0], [1.0], [2.0]])
    value, slope = step(box)(jnp.array(1.0), x, args=(np.array([0.0095, 1.0, 9.0]),))
    assert value == pytest.approx((0 + 2) / 2)
    assert slope == pytest.approx((1 + 4) / 2)
    with pytest.raises(FloatingPointError, match="every row lost all its terms"):
        step(box)(jnp.array(1.0), x[:1], args=(np.array([0.0095]),))


def test_a_penalty_is_the_loss_of_what_failed(place):
    value, slope = run(place(Penalty(9.0)), RAISES)
    good = np.array(0.5 * jnp.sum(X**2, axis=1)) * [1, 0, 1, 1]
    assert value == pytest.approx((good.sum() + 9.0) / 4)
    assert slope == pytest.approx(2 * good.sum() / 4, rel=1e-6)


@pytest.mark.parametrize("on_error", ["mask", Penalty(1.0)], ids=["mask", "penalty"])
def test_a_batch_in_which_all_fail_is_an_error(place, on_error):
    with pytest.raises(FloatingPointError, match=r"all 5 samples failed.*Misfit: no sol") as caught:
        step(place(on_error))(jnp.array(1.0), X[:1], args=(np.array([RAISES]),))
    assert isinstance(caught.value.__cause__, simulators.Misfit)


def test_nan_is_an_error_with_its_input(place):
    with pytest.raises(FloatingPointError, match="expected a finite loss, got nan") as caught:
        run(place("raise"), NAN)
    assert re.search(r"array\(\[[23., 018]+\]\)", caught.value.__notes__[-1])


@pytest.mark.parametrize("on_error", ["raise", "mask"])
def test_wrong_shapes_and_types_are_never_masked(on_error):
    box = BlackBox(simulators.faulty, method=CentralDifference(), on_error=on_error)
    with pytest.raises(ValueError, match=r"simulator: expected shape \(\), got \(3,\)") as caught:
        run(box, SHAPE)
    assert re.search(r"array\(\[[23., 018]+\]\)", caught.value.__notes__[-1])
    with pytest.raises(TypeError, match="simulator: expected a real number, got complex128"):
        run(box, DTYPE)
    rows = BlackBox(lambda x: x, batched=True, method=CentralDifference(), on_error=on_error)
    with pytest.raises(ValueError, match=r"simulator: expected shape \(20,\), got \(20, 2\)"):
        rows.value_and_grad(lambda x: x)(X)


def test_a_declared_output_is_held_to():
    output = {"place": jax.ShapeDtypeStruct((2,), "float64"), "size": np.float32(0)}
    box = BlackBox(simulators.pair, output=output, loss=simulators.size_of_pair)
    with pytest.raises(TypeError, match=r"simulator\['size'\]: expected dtype float32, got flo"):
        box.results(np.ones((1, 2)), np.ones(1))
    with pytest.raises(ValueError, match=r"simulator\['place'\]: expected shape \(2,\), got \(3,"):
        box.results(np.ones((1, 3)))
    with pytest.raises(TypeError, match=r"simulator: expected a result like .*, got 2\.0"):
        BlackBox(simulators.bowl, output=output, loss=simulators.size_of_pair).results(
            np.array([[2.0, 0.0]])
        )
    with pytest.raises(TypeError, match="expected a real number, got object"):
        jax.grad(BlackBox(lambda x: None, method=CentralDifference()))(jnp.ones(1))


@pytest.mark.parametrize(("most", "beyond"), [(2**31 - 1, 2**40), (3e38, 1e39)])
def test_a_number_that_the_declared_type_has_no_room_for_is_told(most, beyond):
    """No 2**40 that becomes 0, no 1e39 that becomes infinite and hides in a bounded loss."""
    output = np.zeros((), "int32" if isinstance(most, int) else "float32")

    def results(size):
        return BlackBox(lambda x: size, output=output, loss=np.tanh).results(np.ones((1, 1)))

    assert results(most) == output.dtype.type(most)
    told = f"simulator: expected a number in {output.dtype}, got {beyond}"
    with pytest.raises(ValueError, match=re.escape(told)):
        results(beyond)


def test_inside_jit_the_message_stays_and_box_jit_gives_the_error_itself():
    box = BlackBox(simulators.faulty, method=CentralDifference())

    def loss(x, faults):
        return jax.vmap(box)(x, faults).sum()

    bad = jnp.asarray(faults(RAISES))
    with pytest.raises(jax.errors.JaxRuntimeError, match=r"no solution at 2\.0"):
        jax.block_until_ready(jax.jit(jax.grad(loss))(X, bad))
    with pytest.raises(simulators.Misfit, match=r"^no solution at 2\.0\n"):
        box.jit(jax.grad(loss))(X, bad)
    slope = box.jit(jax.grad(loss))(X, jnp.zeros(4))
    np.testing.assert_allclose(slope, X, rtol=1e-6, atol=1e-8)


@pytest.fixture(scope="module")
def strict():
    with BlackBox(
        simulators.faulty, method=CentralDifference(), workers=2, timeout=1.0, on_error="mask"
    ) as box:
        run(box, FINE)
        yield box


@pytest.mark.parametrize("kind", [HANGS, KILLED])
def test_a_hang_or_a_killed_worker_costs_its_samples_alone(strict, kind):
    before, x = strict.statistics, X[:, :1]
    value, slope = step(strict)(jnp.array(1.0), x, args=(faults(kind),))
    kept = 0.5 * jnp.sum(x[jnp.array([0, 2, 3])] ** 2, axis=1)
    assert value == pytest.approx(float(jnp.mean(kept)))
    assert slope == pytest.approx(2 * float(jnp.mean(kept)), rel=1e-6)
    after = strict.statistics
    assert after.failures - before.failures == 3
    assert after.timeouts - before.timeouts == (3 if kind == HANGS else 0)
    assert after.replaced - before.replaced == (3 if kind == HANGS else 6)  # each is run twice


@pytest.mark.parametrize(
    ("kind", "error", "message"),
    [
        (HANGS, TimeoutError, r"expected an answer within 1 s, got none"),
        (KILLED, ChildProcessError, r"process that ended with exit code -9, 2 times"),
    ],
)
def test_a_hang_and_a_kill_are_told(strict, kind, error, message):
    with pytest.raises(error, match=message):
        strict.results(np.ones((1, 2)), np.array([kind]))


def test_the_time_limit_counts_from_the_start_of_each_call():
    """25 calls of 0.02 s on one worker, sent in chunks: 0.5 s in all, and no call is late."""
    with BlackBox(
        simulators.pid, method=CentralDifference(), workers=1, timeout=0.4
    ) as box:  # fmt: skip
        jax.vmap(jax.grad(box))(jnp.ones((5, 2)))
        assert box.statistics.timeouts == 0
        assert box.statistics.seconds > 0.4


def test_a_call_whose_worker_was_killed_once_runs_again(tmp_path):
    with BlackBox(
        simulators.KilledOnce(tmp_path), method=CentralDifference(), workers=1
    ) as box:  # fmt: skip
        np.testing.assert_allclose(jax.grad(box)(jnp.ones(2)), [1.0, 1.0], rtol=1e-6)
        assert (tmp_path / "killed").exists()
        assert (box.statistics.replaced, box.statistics.failures) == (1, 0)


def test_workers_killed_while_idle_are_replaced_and_close_leaves_none():
    with BlackBox(simulators.pid, method=CentralDifference(), workers=2) as box:
        first: set[float] = set()
        while len(first) < 2:  # the one that starts first may be done before the other has begun
            first |= set(box.results(np.ones((8, 1))))
        for pid in first:
            os.kill(int(pid), signal.SIGKILL)
        second = set(box.results(np.ones((8, 1))))
        assert not first & second
        assert box.statistics.replaced == 2
        box.close()
        third = set(box.results(np.ones((8, 1))))
    assert not any(psutil.pid_exists(int(pid)) for pid in first | second | third)


def test_pickling_errors_are_told(strict):
    with pytest.raises(TypeError, match=r"unpickle, got <function .*<lambda>"):
        BlackBox(lambda x: 0.0, workers=1)
    with (
        BlackBox(simulators.faulty, workers=1, method=CentralDifference()) as box,
        pytest.raises(RuntimeError, match=r"^Unpicklable: this and that .*cannot be pickled"),
    ):
        run(box, UNPICKLABLE)
    with pytest.raises(FloatingPointError, match=r"pickle|local object") as caught:
        step(strict)(jnp.array(1.0), X[:1], args=(np.array([RESULT]),))
    assert "The simulator's result cannot be pickled." in caught.value.__cause__.__notes__
    with pytest.raises(FileNotFoundError, match=r"model\.xml") as caught:
        jax.grad(BlackBox(simulators.CannotLoad(), workers=1, method=CentralDifference()))(X[0])
    assert "while a worker loaded the simulator" in "".join(caught.value.__notes__)


def test_jax_inside_a_callback_is_refused_and_runs_in_a_worker():
    here = BlackBox(simulators.uses_jax, method=CentralDifference())
    np.testing.assert_allclose(jax.grad(here)(jnp.ones(2)), [2.0, 2.0], rtol=1e-6)  # no callback
    with pytest.raises(jax.errors.JaxRuntimeError, match="Disallowed host-to-device transfer"):
        here.jit(jax.grad(here))(jnp.ones(2))
    with BlackBox(simulators.uses_jax, method=CentralDifference(step=0.1), workers=1) as there:
        slope = jax.jit(jax.grad(there))(jnp.ones(2))  # a worker computes in 32 bits
        np.testing.assert_allclose(slope, [2.0, 2.0], rtol=1e-5)


def script(body):
    """Run as a program of its own, so that its workers find no test modules to import."""
    head = """
import signal, sys, time
import numpy as np
import simulators
if __name__ == "__main__":
    import jax, jax.numpy as jnp
    from diffsim.gradients import CentralDifference
    from diffsim.gradients.blackbox import BlackBox
"""
    return head + "\n".join("    " + line for line in body.strip().splitlines()) + "\n"


def launch(tmp_path, text):
    # Ctrl-C is deaf in what a shell has started in the background; here it must be heard.
    hears = "import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
    (tmp_path / "program.py").write_text(hears + text)
    paths = os.pathsep.join([str(TESTS), str(TESTS.parent)])
    return subprocess.Popen(
        [sys.executable, "program.py"], cwd=tmp_path, text=True, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=os.environ | {"PYTHONPATH": paths},
    )  # fmt: skip


@pytest.mark.slow
def test_a_script_without_a_main_guard_is_told_so(tmp_path):
    text = (
        "import simulators, numpy as np\nfrom diffsim.gradients.blackbox import BlackBox\n"
        "BlackBox(simulators.bowl, workers=1).results(np.ones((1, 1)))\n"
    )
    _, err = launch(tmp_path, text).communicate(timeout=120)
    assert 'needs `if __name__ == "__main__":`' in err


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGKILL], ids=["ctrl-c", "kill"])
def test_an_interrupt_leaves_no_orphans(tmp_path, signum):
    """Ctrl-C reaches the whole group, as from a terminal; after SIGKILL nobody cleans up."""
    body = """
box = BlackBox(simulators.faulty, workers=2, method=CentralDifference())
box.results(np.ones((8, 2)), np.zeros(8, int))
print(*box.results(np.ones((1, 2)), np.array([9])))
print(*[w.process.pid for w in box._host.pool._workers], flush=True)
try:
    box.results(np.ones((8, 2)), np.full(8, 3))
except KeyboardInterrupt:
    print("interrupted", box.results(np.ones((1, 2)), np.zeros(1, int))[0], flush=True)
"""
    program = launch(tmp_path, script(body))
    assert program.stdout.readline() == "0.0\n"  # a worker that needs no JAX has none
    pids = [int(word) for word in program.stdout.readline().split()]
    assert len(pids) == 2
    time.sleep(0.3)  # until both are in the middle of their call
    if signum == signal.SIGINT:
        os.killpg(program.pid, signum)
    else:
        program.kill()
    out, err = program.communicate(timeout=60)
    if signum == signal.SIGINT:
        assert out.strip() == "interrupted 1.0"
        assert err == ""  # no worker complains
    end = time.monotonic() + 20
    while any(psutil.pid_exists(pid) for pid in pids):
        assert time.monotonic() < end
        time.sleep(0.05)
