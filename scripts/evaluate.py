"""Measure a trained policy on fresh serves, with 95 % intervals."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path

import tyro


@dataclass
class Options:
    """Measure a trained policy on fresh serves, with 95 % intervals."""

    checkpoint: tyro.conf.Positional[Path]
    """Folder of a run, or its checkpoints folder."""
    serves: int = 1000
    """How many to play."""
    seed: int = 7
    """Of the serves."""


def main(options: Options) -> None:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # the compiler's notes to itself
    import jax

    from diffsim.training import Trainer, evaluate
    from diffsim.training.evaluate import rows

    if options.serves < 1:
        sys.exit(fail(f"serves: expected at least 1, got {options.serves}"))
    try:
        trainer = Trainer.restored(options.checkpoint)
    except (OSError, ValueError) as error:
        sys.exit(fail(error))
    key = jax.random.key(options.seed)
    measures = evaluate(trainer.task, trainer.policy(), key, options.serves)
    print(f"{options.serves} fresh serves after {int(trainer.state.step)} updates, 95 % intervals")
    for name, text in rows(measures):
        print(f"{name:15} {text}")


def fail(error: object) -> int:
    """One line on the error stream, and the exit code of a usage error."""
    print(f"error: {error}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    main(tyro.cli(Options))
