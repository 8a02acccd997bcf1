"""Makes data/flights.csv, rallies seen with noise and gaps, and its truth in flights_truth.json."""

import json
from pathlib import Path

import tyro

TRUTH = {"drag": 0.45, "magnus": 0.5, "table.restitution": 0.87, "table.friction": 0.12}


def main(directory: Path = Path("data"), seed: int = 0, noise: float = 2e-3) -> None:
    """Write flights of a world whose constants are known.

    Args:
        directory: folder to write to.
        seed: seed of starts, noise and gaps.
        noise: standard deviation of a coordinate, m.
    """
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", True)
    from diffsim._files import folder, replacing
    from diffsim.identification import write
    from diffsim.identification.fit import put
    from diffsim.physics import World
    from studies.flights import made

    folder(directory)
    world = put(World.create(), list(TRUTH), jnp.array(list(TRUTH.values())))
    with replacing(directory / "flights.csv") as file:
        write(file, made(world, seed, noise=noise))
    with replacing(directory / "flights_truth.json") as file:
        file.write_text(json.dumps({**TRUTH, "noise": noise, "seed": seed}) + "\n")


if __name__ == "__main__":
    from _entry import entry

    entry(lambda: tyro.cli(main))
