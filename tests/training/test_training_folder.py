"""A run's folder survives: kills, damage, other settings, other runs, a disk that is full."""

import contextlib
import dataclasses
import json
import multiprocessing
import re
import resource
import sys
import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from point import Point
from script import command
from test_training_loop import bits, settings, stop_at

from diffsim.training import Checkpoints, LoopSettings, Settings, Traced, Trainer, train
from diffsim.training.folder import locked, ready
from diffsim.training.metrics import MetricsWriter, read

pytestmark = pytest.mark.usefixtures("one_by_one")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The bits at the end of a run in one go."""
    trainer = Trainer(Traced(Point()), settings(tmp_path_factory.mktemp("straight")))
    train(trainer)
    return bits(trainer.state)


def stopped(out, step=12):
    """A run with checkpoints 5 and 10 and ``step``."""
    with pytest.raises(KeyboardInterrupt):
        train(Trainer(Traced(Point()), settings(out)), progress=stop_at(step, KeyboardInterrupt()))
    return out / "checkpoints"


def flip(file):
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0x10
    file.write_bytes(content)


def test_what_is_no_whole_checkpoint_does_not_count(tmp_path, finished):
    """As after a kill during the first one, and with folders of other people."""
    checkpoints = tmp_path / "checkpoints"
    for name in ("5.orbax-checkpoint-tmp-7", "5", "backup", "7_old", "-4", "٣"):
        (checkpoints / name).mkdir(parents=True)
    (checkpoints / "8").write_text("a file")
    with pytest.raises(FileNotFoundError, match=r"no checkpoint in .* without --resume"):
        train(Trainer(Traced(Point()), settings(tmp_path, resume=True)))
    trainer = Trainer(Traced(Point()), settings(tmp_path))
    train(trainer)
    assert bits(trainer.state) == finished
    assert Checkpoints(checkpoints).steps() == [10, 15, 20]
    assert {"backup", "7_old", "damaged-5"} <= {path.name for path in checkpoints.iterdir()}


@pytest.mark.parametrize("damage", ["bit", "metadata", "empty", "manifest"])
def test_a_damaged_checkpoint_is_told_and_the_one_before_taken(tmp_path, finished, damage):
    checkpoints = stopped(tmp_path)
    last = checkpoints / "12"
    if damage == "bit":
        for file in last.rglob("d/*"):
            flip(file)
    elif damage == "metadata":
        (last / "default" / "_METADATA").write_text("{")
    elif damage == "manifest":
        (last / "default" / "manifest.ocdbt").unlink()
    else:
        (last / "default" / "d").rename(tmp_path / "gone")
    again = Trainer(Traced(Point()), settings(tmp_path, resume=True))
    with pytest.warns(
        UserWarning, match=r"from checkpoint 10, .* damaged: 12: \w+: its files"
    ) as told:
        train(again)
    assert all(len(str(one.message)) < 500 and "\n" not in str(one.message) for one in told)
    assert bits(again.state) == finished
    assert [row["step"] for row in read(tmp_path / "metrics.csv")] == [0, 4, 8, 12, 16, 20]
    assert (checkpoints / "damaged-12").is_dir()
    for path in checkpoints.glob("[0-9]*/default/manifest.ocdbt"):
        path.unlink()
    with pytest.raises(ValueError, match=r"expected a whole checkpoint, got damaged ones: 20: "):
        train(Trainer(Traced(Point()), settings(tmp_path, resume=True)))


def test_no_changed_bit_goes_unnoticed(tmp_path):
    """Large arrays lie in files that the library reads without a check of its own."""
    state = {"a": jnp.arange(5000.0), "key": jax.random.key(3)}
    for step in (1, 2):
        Checkpoints(tmp_path).save(step, state | {"step": jnp.asarray(step)})
    like, reasons = state | {"a": jnp.zeros(5000), "step": jnp.asarray(0)}, []
    for file in filter(Path.is_file, (tmp_path / "2").rglob("*")):
        before = file.read_bytes()
        if not before:
            continue
        flip(file)
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            got = Checkpoints(tmp_path).restore(like)
        assert int(got["step"]) == (1 if told else 2)
        assert got["a"].tolist() == state["a"].tolist()
        reasons += [str(one.message) for one in told]
        file.write_bytes(before)
    assert len(reasons) >= 8
    assert all("ValueError: its files are not those" in reason for reason in reasons)


def test_reading_changes_nothing(tmp_path):
    with pytest.raises(FileNotFoundError, match="no checkpoint"):
        Checkpoints(tmp_path / "none").restore(jnp.zeros(2))
    assert not (tmp_path / "none").exists()


CHANGED = [
    ("batch", 5, "--batch: expected 4 as in "), ("learning_rate", 1e-2, "--learning-rate: "),
    ("gradient", "spsa", "--gradient: expected 'pathwise'"), ("hidden", (9,) * 999, "--hidden: "),
    ("seed", 1, "--seed: "), ("robot", "arm", "--task: expected 'paddle'"), ("clip", 2.0, "--clip"),
    ("spin", 1.0, "--spin: "), ("target", (1.0, 0.0), "--target"), ("generator", "dmp", "--gen"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value", "message"), CHANGED)
def test_what_may_not_change_is_named_by_its_flag(tmp_path, name, value, message):
    settings(tmp_path).save(tmp_path / "settings.json")
    before = (tmp_path / "settings.json").read_bytes()
    other = settings(tmp_path, resume=True, **{name: value})
    with pytest.raises(
        ValueError, match=f"^{re.escape(message)}.* only --steps, --log-every, --check"
    ) as caught:
        other.check_resumes(tmp_path / "settings.json")
    assert len(str(caught.value)) < 500 + len(str(tmp_path))
    assert (tmp_path / "settings.json").read_bytes() == before


def test_what_may_change_does(tmp_path):
    stopped(tmp_path / "a")
    (tmp_path / "a").rename(tmp_path / "b")
    changes = {"steps": 14, "log_every": 2, "checkpoint_every": 3, "workers": 1}
    trainer = Trainer(Traced(Point()), settings(tmp_path / "b", resume=True, **changes))
    train(trainer)
    assert int(trainer.state.step) == 14
    assert Settings.load(tmp_path / "b" / "settings.json") == trainer.settings
    loop = LoopSettings(out=tmp_path)
    loop.filled().save(tmp_path / "loop.json")
    loop.check_resumes(tmp_path / "loop.json")  # open settings are what they stand for
    with pytest.raises(ValueError, match=r"--discount: expected 0\.99"):
        dataclasses.replace(loop, discount=0.9).check_resumes(tmp_path / "loop.json")


def test_resuming_by_command_takes_the_settings_of_the_run(tmp_path, monkeypatch, capsys):
    settings(tmp_path, sigma=0.3, gradient="score-function").save(tmp_path / "settings.json")
    seen = []

    def run(*flags):
        monkeypatch.setattr(sys, "argv", ["train.py", "--out", str(tmp_path), *flags])
        with pytest.raises(SystemExit) as end:
            command(Settings, seen.append, None)
        return end.value.code

    assert run("--resume", "--steps", "30") == 0
    changes = {"sigma": 0.3, "gradient": "score-function", "steps": 30, "resume": True}
    assert seen == [settings(tmp_path, **changes)]
    assert run() == 0
    assert seen[1] == Settings(out=tmp_path)
    (tmp_path / "settings.json").write_text('{"steps":')
    assert run("--resume") == 2
    assert capsys.readouterr().err.startswith(f"error: {tmp_path}/settings.json: expected JSON")


GOOD = json.loads(json.dumps(dataclasses.asdict(Settings()), default=str))
BROKEN = {
    "empty": "", "cut": '{"steps": 3', "text": "steps = 3", "list": "[]", "number": "3",
    "null": "null", "twice": "{}{}", "zeros": "\0" * 20, "deep": "[" * 100_000,
    "not utf-8": b"\xff\xfe{", "no object in full": '"' + "x" * 100_000 + '"', "nothing": {},
    "unknown": GOOD | {"speed\nx": 3}, "missing": {k: v for k, v in GOOD.items() if k != "seed"},
    "text for int": GOOD | {"steps": "many"}, "float for int": GOOD | {"steps": 3.5},
    "bool for int": GOOD | {"batch": True}, "null for int": GOOD | {"batch": None},
    "list for int": GOOD | {"seed": [1]}, "huge int": GOOD | {"seed": 10**30},
    "nan": GOOD | {"clip": float("nan")}, "infinite": GOOD | {"clip": float("inf")},
    "number for text": GOOD | {"gradient": 3}, "other text": GOOD | {"gradient": "x" * 9999},
    "int for bool": GOOD | {"resume": 1}, "number for path": GOOD | {"out": 3},
    "nul in path": GOOD | {"out": "a\0b"}, "short pair": GOOD | {"target": [1.0]},
    "nested": GOOD | {"hidden": [[64]]}, "object": GOOD | {"hidden": {"a": 1}},
    "negative width": GOOD | {"hidden": [-64]}, "zero": GOOD | {"steps": 0},
    "sigma of differences": GOOD | {"gradient": "spsa", "sigma": 1.0},
    "negative spin": GOOD | {"spin": -1},
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
def test_broken_settings_are_told_in_one_line(tmp_path, case):
    content, path = BROKEN[case], tmp_path / "settings.json"
    if isinstance(content, dict):
        content = json.dumps(content)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=f"^{re.escape(str(path))}: ") as caught:
        Settings.load(path)
    assert type(caught.value) is ValueError
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 700


def _hold(folder, pipe):
    with locked(folder):
        pipe.send("held")
        pipe.recv()


def test_two_runs_in_one_folder_are_refused_and_stale_locks_are_not(tmp_path):
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    other = context.Process(target=_hold, args=(tmp_path, theirs))
    other.start()
    theirs.close()  # so that its end is noticed
    assert ours.poll(300), "the other process does not begin"
    try:
        assert ours.recv() == "held"
    except EOFError:
        other.join()
        pytest.fail(f"the other process ended with {other.exitcode}")
    try:
        with pytest.raises(FileExistsError, match=f"in use by process {other.pid} on .* since "):
            train(Trainer(Traced(Point()), settings(tmp_path)))
        assert {path.name for path in tmp_path.iterdir()} == {"run.lock"}
    finally:
        other.kill()
        other.join()
    assert f"process {other.pid}" in (tmp_path / "run.lock").read_text()  # stale
    with ready(settings(tmp_path)) as checkpoints:
        assert checkpoints.steps() == []
    assert (tmp_path / "run.lock").read_text() == ""


@pytest.mark.parametrize("resume", [False, True])
def test_settings_that_are_missing_are_told_and_what_is_there_is_kept(tmp_path, resume):
    """Metrics that no run wrote, and a run of which the settings were lost."""
    file, trainer = (
        tmp_path / "metrics.csv",
        Trainer(Traced(Point()), settings(tmp_path, resume=resume)),
    )
    file.write_text("mine")
    missing = r"settings\.json: missing beside {}; expected it back to go on .*, or another --out"
    with pytest.raises(FileNotFoundError, match=missing.format(r"metrics\.csv")):
        train(trainer)
    assert file.read_text() == "mine"
    Checkpoints(tmp_path / "checkpoints").save(5, trainer.state)
    for rows in (True, False):
        with pytest.raises(FileNotFoundError, match=missing.format("checkpoints")):
            train(trainer)
        if rows:
            file.unlink()
    assert Checkpoints(tmp_path / "checkpoints").steps() == [5]


def test_a_cut_last_row_is_dropped_and_other_damage_told(tmp_path):
    path = tmp_path / "metrics.csv"
    with MetricsWriter(tmp_path) as metrics:
        for step in range(3):
            metrics.write({"step": step, "loss": 0.125})
    whole = path.read_text()
    for cut in range(len(whole) - 1, len("step,loss\n"), -1):
        path.write_text(whole[:cut])
        complete = whole[:cut].count("\n") - 1
        if whole[cut - 1] == "\n":
            assert len(read(path)) == complete
        else:
            with pytest.warns(UserWarning, match="its last row was cut short"):
                assert len(read(path)) == complete
    path.write_text(whole[:-3])
    with (
        pytest.warns(UserWarning, match="cut short"),
        MetricsWriter(tmp_path, 9) as metrics,
        pytest.raises(ValueError, match=r"expected the columns step, loss, got step, cost"),
    ):
        metrics.write({"step": 2, "cost": 1.0})
    assert [row["step"] for row in read(path)] == [0, 1]
    for text, message in [
        ("step,loss\n1,2\n\0\0\0\n3,4\n", "expected 2 numbers in line 3, got ''"),
        ("step,loss\n1,2,3\n", "line 2, got '1,2,3'"),
        ("a,b\n1,2\n", "expected columns with step in line 1, got 'a,b'"),
    ]:
        path.write_text(text)
        with pytest.raises(ValueError, match=message):
            read(path)


def test_a_kill_while_rows_are_kept_loses_none(tmp_path, monkeypatch):
    with MetricsWriter(tmp_path) as metrics:
        for step in range(7):
            metrics.write({"step": step, "loss": 1.0})

    def killed(*_, **__):
        raise KeyboardInterrupt

    for place in ("os.replace", "diffsim.training.metrics._write"):
        with monkeypatch.context() as patch:
            patch.setattr(place, killed)
            with pytest.raises(KeyboardInterrupt):
                MetricsWriter(tmp_path, 6)
        assert len(read(tmp_path / "metrics.csv")) == 7


@contextlib.contextmanager
def filled(size=resource.RLIM_INFINITY):
    """A limit on the size of files stands for a full disk: writing fails in the same places."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        fill(size)
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def fill(size):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


def test_a_lock_that_cannot_be_written_is_named(tmp_path):
    with (
        filled(0),
        pytest.raises(OSError, match=r"too large: '.*run\.lock'"),
        locked(tmp_path),
    ):
        raise AssertionError


@pytest.mark.parametrize("step", [7, 9], ids=["row", "checkpoint"])
def test_a_full_disk_is_told_and_the_run_goes_on_bit_for_bit(tmp_path, finished, step):
    def progress(row):
        if row["step"] == step:
            fill(10)

    told = r"File too large: '.*metrics\.csv'|checkpoints/\d+: expected to write a checkpoint"
    with filled(), pytest.raises(OSError, match=told):
        train(Trainer(Traced(Point()), settings(tmp_path)), progress=progress)
    again = Trainer(Traced(Point()), settings(tmp_path, resume=True))
    train(again)
    assert bits(again.state) == finished
    assert [row["step"] for row in read(tmp_path / "metrics.csv")] == [0, 4, 8, 12, 16, 20]


@pytest.mark.parametrize("reserved", [True, False])
def test_a_full_disk_is_told_once(tmp_path, monkeypatch, capfd, caplog, reserved):
    """With its reason and without the library's traces, wherever the room ends."""
    if not reserved:  # as where another program takes the room meanwhile
        monkeypatch.setattr("diffsim.training.checkpoint._reserve", lambda *_: None)
    state = {"a": jax.random.normal(jax.random.key(0), (5000,))}
    told = r"/5: expected to write .*\[Errno 27\] File too large$"
    with filled(10_000), pytest.raises(OSError, match=told):
        Checkpoints(tmp_path).save(5, state)
    assert caplog.records == []
    assert "ERROR" not in (printed := capfd.readouterr()).err
    assert not (reserved and (printed.out or printed.err))
    Checkpoints(tmp_path).save(5, state)
    assert Checkpoints(tmp_path).restore(state)["a"].tolist() == state["a"].tolist()


def test_checkpoints_that_are_a_file_are_told_before_work(tmp_path):
    (tmp_path / "checkpoints").write_text("x")
    with pytest.raises(NotADirectoryError, match="expected a folder, got a file"):
        train(Trainer(Traced(Point()), settings(tmp_path)))
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoints"]


@pytest.mark.parametrize("place", ["file", "below", "read-only"])
def test_a_folder_that_cannot_be_is_told_before_work(tmp_path, monkeypatch, capsys, place):
    (tmp_path / "file").write_text("x")
    out = {"file": tmp_path / "file", "below": tmp_path / "file" / "run", "read-only": Path("/sys")}
    monkeypatch.setattr(sys, "argv", ["train.py", "--out", str(out[place])])

    def run(settings):
        with ready(settings):
            raise AssertionError

    with pytest.raises(SystemExit) as end:
        command(Settings, run, None)
    assert end.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {out[place]}")
    assert error.count("\n") == 1
