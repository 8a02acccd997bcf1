"""A run of a task that costs nothing, in a process of its own: python sharded.py SETTINGS.

SETTINGS is JSON: those of the run; "group", those of its processes; "loop", whether the task is
step-wise; "host", whether its simulator is on the host, and "workers", in how many processes;
"die", the step after which the process kills itself.
"""

import json
import os
import signal
import sys
from pathlib import Path


def settings(out, loop=False, **changes):
    from diffsim.training import LoopSettings, Settings

    few = {"steps": 12, "batch": 8, "hidden": (8,), "log_every": 4, "checkpoint_every": 5}
    few |= {"out": Path(out), "learning_rate": 0.03}
    if not loop:
        return Settings(**few | changes)
    from drift import Drift

    from diffsim import envs

    envs.ENVS["drift"] = Drift
    return LoopSettings(**few | {"horizon": 8, "gradient": "shac", "env": "drift"} | changes)


def trainer(chosen, host=False, workers=0):
    from point import HostPoint, Point

    from diffsim.training import Hosted, LoopSettings, Traced, Trainer

    if isinstance(chosen, LoopSettings):
        return Trainer(chosen.player(), chosen)
    player = Hosted(HostPoint(workers=workers)) if host else Traced(Point())
    return Trainer(player, chosen)


def numbers(trainer):
    """All of the state, flat, but for the random key."""
    import jax
    import numpy as np

    leaves = jax.tree.leaves(trainer.state.replace(key=()))
    return np.concatenate([np.asarray(leaf, float).ravel() for leaf in leaves])


def logged(changes, folder):
    """As the program, its output in files of a folder."""
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    main(changes)


def main(changes):
    last, host = changes.pop("die", None), changes.pop("host", False)
    workers = changes.pop("workers", 0)

    def progress(row):
        if row["step"] == last:
            os.kill(os.getpid(), signal.SIGKILL)

    from diffsim.training import train
    from diffsim.training.processes import Group, ProcessLostError, first

    try:
        with Group(**changes.pop("group", {})).connected():
            run = trainer(settings(**changes), host, workers)
            train(run, progress=progress)
            if first():
                print(json.dumps(numbers(run).tolist()))
    except ProcessLostError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        os._exit(3)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
