"""Training on several devices and processes is training on one, to rounding."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sharded import numbers, settings, trainer

from diffsim import envs
from diffsim.training import LoopSettings, Settings, Trainer, train
from diffsim.training.loop_gradients import GRADIENTS
from diffsim.training.metrics import read

# Compiles or starts so much that the default run has no room.
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_by_one")]

ROOT = Path(__file__).parents[2]
# Sums over serves come in another order; Adam divides by gradients that are small.
GONE = "another one has gone or failed; start all again, with --resume"
CLOSE = {"rtol": 1e-9, "atol": 1e-12}


started = []


@pytest.fixture(autouse=True)
def stop_all():
    """No process outlives its test, however that ends."""
    yield
    while started:
        process = started.pop()
        process.kill()
        process.communicate()


def start(command, devices=1):
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    environment = os.environ | {
        "PYTHONPATH": paths,
        "JAX_ENABLE_X64": "1",
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
    }
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    started.append(subprocess.Popen([sys.executable, *command], env=environment, **pipes))
    return started[-1]


def ended(process, code=0):
    """What a process printed."""
    out, err = process.communicate(timeout=600)
    assert process.returncode == code, out + err
    return out + err if code else out


def start_run(out, devices=1, **changes):
    script = str(ROOT / "tests" / "sharded.py")
    return start([script, json.dumps({"out": str(out), **changes})], devices)


def processes(count):
    """What makes each of ``count`` processes part of one run."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    shared = {"coordinator": f"localhost:{port}", "processes": count, "patience": 10}
    return [{"group": shared | {"process": process}} for process in range(count)]


def final(printed):
    return np.array(json.loads(printed.strip().splitlines()[-1]))


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """Runs on one device, by what they change."""
    done = {}

    def run(**changes):
        name = json.dumps(changes)
        if name not in done:
            done[name] = here(tmp_path_factory.mktemp("straight"), **changes)
            train(done[name])
        return done[name]

    yield run
    envs.ENVS.pop("drift", None)


def here(out, host=False, **changes):
    """A run in this process."""
    return trainer(settings(out, **changes), host)


def same_but_for_clocks(ours, theirs):
    ours, theirs = (read(folder / "metrics.csv") for folder in (ours, theirs))
    assert len(ours) == len(theirs) > 0
    for mine, other in zip(ours, theirs):
        for name in set(mine) - {"seconds", "cpu_seconds"}:
            np.testing.assert_allclose(mine[name], other[name], **CLOSE, err_msg=name)


LOOPS = [{"loop": True, "gradient": name, "batch": 16} for name in GRADIENTS]
HOST = {"host": True, "gradient": "spsa"}
SHORT = ("inverse-variance",)


@pytest.mark.parametrize(
    "kind",
    [{}, *(
        pytest.param(kind, marks=() if kind["gradient"] in SHORT else pytest.mark.slow)
        for kind in [*LOOPS, HOST]
    )],
    ids=lambda kind: kind.get("gradient", "in one go"),
)  # fmt: skip
def test_eight_devices_are_one(kind, straight, tmp_path):
    one, eight = straight(**kind), start_run(tmp_path, devices=8, **kind)
    np.testing.assert_allclose(final(ended(eight)), numbers(one), **CLOSE)
    same_but_for_clocks(tmp_path, one.settings.out)


@pytest.mark.parametrize(
    "kind",
    [
        {},
        pytest.param({"loop": True}, marks=pytest.mark.slow),
        pytest.param(HOST, marks=pytest.mark.slow),
    ],
    ids=["in one go", "step-wise", "host"],
)
def test_a_run_that_lost_a_process_goes_on_in_one_from_its_checkpoint(kind, straight, tmp_path):
    first, second = processes(2)
    runs = start_run(tmp_path, **first, **kind), start_run(tmp_path, **second, **kind, die=7)
    for run, code in zip(runs, (3, -9)):
        assert GONE in ended(run, code)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["5"]
    one, done = here(tmp_path, **kind, resume=True), []
    train(one, progress=lambda row: done.append(row["step"]))
    assert min(done) == 6
    np.testing.assert_allclose(numbers(one), numbers(straight(**kind)), **CLOSE)
    same_but_for_clocks(tmp_path, straight(**kind).settings.out)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [{}, {"loop": True}], ids=["in one go", "step-wise"])
def test_a_run_of_one_process_goes_on_in_two_with_two_devices_each(kind, straight, tmp_path):
    def stop(row):
        if row["step"] == 6:
            raise RuntimeError

    with pytest.raises(RuntimeError):
        train(here(tmp_path, **kind), progress=stop)
    runs = [start_run(tmp_path, 2, **each, **kind, resume=True) for each in processes(2)]
    np.testing.assert_allclose(final(ended(runs[0])), numbers(straight(**kind)), **CLOSE)
    ended(runs[1])
    same_but_for_clocks(tmp_path, straight(**kind).settings.out)


@pytest.mark.slow
def test_the_loss_of_the_first_process_ends_the_others(straight, tmp_path):
    first, second = processes(2)
    runs = start_run(tmp_path, **first, die=7), start_run(tmp_path, **second)
    ended(runs[0], -9)
    _, err = runs[1].communicate(timeout=300)
    # Ours, or that of JAX's own watch if it comes first, which aborts; the last line is the same.
    assert runs[1].returncode in (3, -6)
    assert GONE in err.splitlines()[-1]
    one = here(tmp_path, resume=True)
    train(one)
    np.testing.assert_allclose(numbers(one), numbers(straight()), **CLOSE)


def test_a_process_that_finds_no_other_says_so(tmp_path):
    """JAX gives up by aborting, as it does whenever it is first to miss another process."""
    code = (
        "import os; from diffsim.training.processes import Group\n"
        "with Group('localhost:1', 2, 1).connected(): os.abort()"
    )
    monkey = "import jax; jax.distributed.initialize = lambda *_, **__: os.abort()"
    out = ended(start(["-c", code.replace("\n", f"; {monkey}\n")]), -6)
    assert f"error: process 1 of 2 at localhost:1: {GONE}" in out


@pytest.mark.slow
@pytest.mark.parametrize("gradient", ["pathwise", "score-function"])
def test_the_game_itself_is_the_same_on_eight_devices(tmp_path, gradient):
    flags = {"gradient": gradient, "steps": 3, "batch": 8, "log_every": 1}
    one = Settings(out=tmp_path / "one", **flags)
    train(Trainer(one.player(), one))
    code = (
        "from pathlib import Path; from diffsim.training import *; "
        f"s = Settings(out=Path({str(tmp_path / 'eight')!r}), **{flags}); "
        "train(Trainer(s.player(), s))"
    )
    ended(start(["-c", code], devices=8))
    same_but_for_clocks(tmp_path / "eight", one.out)


@pytest.mark.slow
@pytest.mark.parametrize("gradient", ["pathwise", "score-function"])
def test_juggling_is_the_same_on_eight_devices(tmp_path, gradient):
    flags = {"gradient": gradient, "steps": 3, "batch": 8, "log_every": 3}
    one = LoopSettings(out=tmp_path / "one", **flags)
    train(Trainer(one.player(), one))
    code = (
        "from pathlib import Path; from diffsim.training import *; "
        f"s = LoopSettings(out=Path({str(tmp_path / 'eight')!r}), **{flags}); "
        "train(Trainer(s.player(), s))"
    )
    ended(start(["-c", code], devices=8))
    same_but_for_clocks(tmp_path / "eight", one.out)


SCRIPTS = {
    "train.py": (
        "--gradient score-function --samples 2 --steps 2 --batch 2 --log-every 1",
        "1,000 fresh serves", "rallies.gif",
    ),
    "train.py --simulator mujoco": (
        "--steps 1 --batch 2 --log-every 1 --workers 0 --samples 1",
        "1,000 fresh serves", "learning.png",
    ),
    "train_closed_loop.py": (
        "--gradient score-function --steps 2 --batch 4 --horizon 4 --log-every 1",
        "1,000 fresh starts", "metrics.csv",
    ),
    "compare_training.py": (
        "--gradients score-function --seeds 0 --steps 2 --batch 2 --log-every 1",
        "1,000 fresh serves", "summary.csv",
    ),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts_run_in_two_processes(script, tmp_path):
    flags, told, file = SCRIPTS[script]
    name, *more = script.split()
    words = [str(ROOT / "scripts" / name), *more, *flags.split(), "--out", str(tmp_path)]

    def begun(group):
        own = [word for name, value in group.items() for word in (f"--{name}", str(value))]
        return start([*words, *own])

    first, second = (begun(each["group"]) for each in processes(2))
    assert told in ended(first)
    assert {line.split()[0] for line in ended(second).splitlines()} <= {"[Gloo]"}
    assert (tmp_path / file).exists()
