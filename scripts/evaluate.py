"""Measure a trained policy on fresh serves, with 95 % intervals."""

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro


@dataclass
class Options:
    """Measure a trained policy on fresh serves, with 95 % intervals."""

    checkpoint: tyro.conf.Positional[Path]
    """Folder of a run, or the checkpoints folder in it."""
    serves: int = 1000
    """Number of serves to play."""
    seed: int = 7
    """Seed of the serves."""
    floor: int = 0
    """Serves for which to search the best swing, as a floor of the error; 0 for none."""
    shifted: bool = False
    """Also play them with other restitution, friction and drag, and seen late and with noise."""


def main(options: Options) -> dict[str, Any]:
    import jax

    from diffsim.report.progress import waiting
    from diffsim.tasks.randomise import shifts
    from diffsim.training import Traced, Trainer, evaluate
    from diffsim.training.evaluate import rows
    from diffsim.training.floor import rows as floor_rows
    from diffsim.training.floor import spin_floor

    for name, low in (("serves", 1), ("floor", 0)):
        if getattr(options, name) < low:
            raise ValueError(f"{name}: expected at least {low}, got {getattr(options, name)}")
    trainer = Trainer.restored(options.checkpoint)
    key, policy, player = jax.random.key(options.seed), trainer.policy(), trainer.player
    if not isinstance(player, Traced) and (options.shifted or options.floor):
        raise ValueError("simulator: expected events for --shifted and --floor, got mujoco")
    with closing(player), waiting("compiling and playing"):
        measures = evaluate(player, policy, key, options.serves)
    print(f"{options.serves} fresh serves after {int(trainer.state.step)} updates, 95 % intervals")
    for name, text in rows(measures):
        print(f"{name:22} {text}")
    found: dict[str, Any] = {"updates": int(trainer.state.step), "measures": measures}
    if options.floor:
        with waiting("compiling and descending"):
            found["floor"] = spin_floor(player, serves=options.floor)(policy, key)
        print(f"{options.floor} serves, each with the best answer that descent found")
        for name, text in floor_rows(found["floor"]):
            print(f"{name:22} {text}")
    if options.shifted:
        print(f"{'world':22} {'legal landings':22} landing error")
        found["shifted"] = {}
        for name, task in shifts(player.task).items():
            with waiting(f"playing {name}"):
                measures = evaluate(Traced(task), policy, key, options.serves)
            found["shifted"][name], told = measures, dict(rows(measures))
            print(f"{name:22} {told['legal landings']:22} {told['landing error']}")
    return found


if __name__ == "__main__":
    from _entry import entry

    entry(lambda: main(tyro.cli(Options)))
