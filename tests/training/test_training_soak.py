"""Runs killed at random moments, hundreds of times: nothing is lost and the end is the same."""

import random
import time
import warnings
from pathlib import Path

import pytest
from test_training_sharding import final, processes, start_run

from diffsim.training import Checkpoints
from diffsim.training.metrics import read

pytestmark = pytest.mark.slow  # compiles or starts so much that the default run has no room

KINDS = {
    "train": {"steps": 600},
    "closed-loop": {"steps": 600, "loop": True},
    "black-box": {"steps": 100, "host": True, "workers": 2, "gradient": "spsa"},
    "two-processes": {"steps": 100},
}


def launch(kind, out):
    """One process, or two that are one run; resumed where there is a checkpoint."""
    changes: dict = {"checkpoint_every": 3, "log_every": 5}
    changes["resume"] = bool(Checkpoints(out / "checkpoints").steps())
    groups = processes(2) if kind == "two-processes" else [{}]
    return [start_run(out, **KINDS[kind], **changes, **group) for group in groups]


def ended(started):
    """What the first process prints at its end."""
    texts = [process.communicate(timeout=300) for process in started]
    assert [process.returncode for process in started] == [0] * len(started), texts
    return final(texts[0][0]).tolist()


def orphaned(error):
    """Python's own word of a worker just started, whose program was killed before it spoke."""
    return error.count("Traceback") == 1 and error.endswith("EOFError: Ran out of input\n")


def soak(kind, folder: Path, kills: int, seed: int = 0) -> dict[str, float]:
    """Kill until enough were killed, resuming in between; runs that finish are compared."""
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
            end = time.monotonic() + rng.uniform(0.1 * longest, longest)
            while time.monotonic() < end and all(one.poll() is None for one in started):
                time.sleep(0.01)
        running = [one for one in started if one.poll() is None]
        if figures["kills"] >= kills or not running:
            assert ended(started) == straight
            assert [row["step"] for row in read(out / "metrics.csv")] == expected
            figures["finished"] += 1
            out = folder / str(figures["finished"])
            continue
        for one in running:  # of two, both: as when a machine or a job is lost
            one.kill()
        errors = [one.communicate()[1] for one in started]
        assert not any("Traceback" in error and not orphaned(error) for error in errors), errors
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
