"""A run of the task that costs nothing, in a process of its own: python sharded.py SETTINGS.

SETTINGS is JSON: those of the run and, under "die", the step after which it kills itself.
"""

import json
import os
import signal
import sys
from pathlib import Path


def settings(out, **changes):
    from diffsim.training import Settings

    few = {"steps": 12, "batch": 8, "hidden": (8,), "log_every": 4, "checkpoint_every": 5}
    return Settings(out=Path(out), **few | {"learning_rate": 0.03} | changes)


def numbers(trainer):
    """The parameters and all of the optimiser's state, flat."""
    import jax
    import numpy as np

    leaves = jax.tree.leaves((trainer.state.params, trainer.state.optimizer, trainer.state.step))
    return np.concatenate([np.asarray(leaf, float).ravel() for leaf in leaves])


def main():
    changes = json.loads(sys.argv[1])
    last = changes.pop("die", None)

    def progress(row):
        if row["step"] == last:
            os.kill(os.getpid(), signal.SIGKILL)

    from point import Point

    from diffsim.training import Trainer, train
    from diffsim.training.sharding import ProcessLostError, first

    chosen = settings(**changes)
    chosen.connect()
    trainer = Trainer(Point(), chosen)
    try:
        train(trainer, progress=progress)
    except ProcessLostError as error:
        print(error, flush=True)
        os._exit(3)
    if first():
        print(json.dumps(numbers(trainer).tolist()))


if __name__ == "__main__":
    main()
