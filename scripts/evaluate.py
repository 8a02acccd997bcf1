"""Measure a trained policy on fresh serves, with 95 % intervals."""

from contextlib import closing
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
    import jax

    from diffsim.training import Trainer
    from diffsim.training.evaluate import rows

    if options.serves < 1:
        raise ValueError(f"serves: expected at least 1, got {options.serves}")
    trainer = Trainer.restored(options.checkpoint)
    with closing(trainer.player):
        measures = trainer.evaluate(jax.random.key(options.seed), options.serves)
    print(f"{options.serves} fresh serves after {int(trainer.state.step)} updates, 95 % intervals")
    for name, text in rows(measures):
        print(f"{name:15} {text}")


if __name__ == "__main__":
    from _entry import entry

    entry(lambda: main(tyro.cli(Options)))
