"""Runs killed at random moments, hundreds of times: nothing is lost and the end is the same."""

import multiprocessing
import os
import random
import time
import warnings
from pathlib import Path

import pytest
import sharded
from test_training_sharding import ROOT, final, processes

from diffsim.training import Checkpoints
from diffsim.training.metrics import read

pytestmark = pytest.mark.slow  # compiles or starts so much that the default run has no room

KINDS = {
    "train": {"steps": 120},
    "closed-loop": {"steps": 120, "loop": True},
    "black-box": {"steps": 60, "host": True, "workers": 2, "gradient": "spsa"},
    "two-processes": {"steps": 60},
}


# What every run imports, once: from a server that has, a run is forked in no time.
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(
    ["sharded", "point", "drift", "diffsim.training", "orbax.checkpoint", "tensorboardX"]
)


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    paths = [str(ROOT), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    monkeypatch.setenv("JAX_ENABLE_X64", "1")
    yield
    for left in multiprocessing.active_children():
        left.kill()


class Run:
    """A process of a run."""

    def __init__(self, changes, folder: Path):
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.process = SERVER.Process(target=sharded.logged, args=(changes, folder))
        self.process.start()

    def said(self, name="err"):
        """What it has said at its end."""
        self.process.join(300)
        assert self.process.exitcode is not None, "it does not end"
        return (self.folder / name).read_text()


def launch(kind, out):
    """One process, or two that are one run; resumed where there is a checkpoint."""
    changes: dict = {"checkpoint_every": 3, "log_every": 5, "out": str(out)}
    changes["resume"] = bool(Checkpoints(out / "checkpoints").steps())
    groups = processes(2) if kind == "two-processes" else [{}]
    return [
        Run(KINDS[kind] | changes | group, out.parent / f"said-{number}")
        for number, group in enumerate(groups)
    ]


def ended(started):
    """What the first process prints at its end."""
    errors = [one.said() for one in started]
    assert [one.process.exitcode for one in started] == [0] * len(started), errors
    return final(started[0].said("out")).tolist()


def soak(kind, folder: Path, kills: int, seed: int = 0) -> dict[str, float]:
    """Kill until enough were killed, resuming in between; runs that finish are compared.

    A process has at most half of the time that a run takes, so that most are killed, some twice.
    """
    rng, begun = random.Random(seed), time.perf_counter()
    straight = ended(launch(kind, folder / "straight"))
    expected = [row["step"] for row in read(folder / "straight" / "metrics.csv")]
    compiled = time.perf_counter()  # from here on nothing is compiled again
    assert ended(launch(kind, folder / "again")) == straight
    longest = time.perf_counter() - compiled
    figures = {"kills": 0, "finished": 0, "unfinished checkpoints": 0, "cut rows": 0}
    out = folder / "0"
    while figures["kills"] < kills or out.exists():
        started, before = launch(kind, out), Checkpoints(out / "checkpoints").steps()
        if figures["kills"] < kills:
            end = time.monotonic() + rng.uniform(0.05 * longest, 0.5 * longest)
            while time.monotonic() < end and all(one.process.is_alive() for one in started):
                time.sleep(0.01)
        running = [one for one in started if one.process.is_alive()]
        if figures["kills"] >= kills or not running:
            assert ended(started) == straight
            assert [row["step"] for row in read(out / "metrics.csv")] == expected
            figures["finished"] += 1
            out = folder / str(figures["finished"])
            continue
        for one in running:  # of two, both: as when a machine or a job is lost
            one.process.kill()
        errors = [one.said() for one in started]
        assert not any("Traceback" in error for error in errors), errors
        after = Checkpoints(out / "checkpoints").steps()
        assert max(after, default=0) >= max(before, default=0)
        figures["kills"] += 1
        figures["unfinished checkpoints"] += any((out / "checkpoints").glob("*tmp*"))
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            rows = read(out / "metrics.csv")
        figures["cut rows"] += len(told)
        whole = [row["step"] for row in rows]
        assert whole == expected[: len(whole)]
        assert len(whole) >= sum(step < max(before, default=0) for step in expected)
    return figures | {"seconds": round(time.perf_counter() - begun)}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_fifty_kills_lose_nothing(tmp_path, kind, capsys):
    figures = soak(kind, tmp_path, kills=50)
    with capsys.disabled():
        print(f"\n{kind}: {figures}")
    assert figures["kills"] == 50
