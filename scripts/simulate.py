"""Simulate a scene file: where the ball goes, what it hits, and how that depends on the start."""

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro


@dataclass
class Options:
    """Simulate a ball and print where it ends and what it hit."""

    scene: tyro.conf.Positional[Path]
    """The scene, a TOML file."""
    json: bool = False
    """Print one JSON object instead of a table."""
    x64: bool = False
    """Compute in double precision."""
    plot: Annotated[Path | None, tyro.conf.arg(metavar="FILE.png")] = None
    """Draw the flight from the side and from above."""
    gradient: bool = False
    """Also give d(final position, velocity, spin)/d(initial position, velocity, spin), 9 × 9."""


def main(options: Options) -> None:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # the compiler's notes to itself
    import jax

    jax.config.update("jax_enable_x64", options.x64)
    from diffsim import _files
    from diffsim.physics import scene as scenes

    try:
        if options.plot is not None:  # before the simulation, which may take long
            _files.writable(_files.checked(options.plot, (".png", ".pdf", ".svg", ".jpg")))
        scene = scenes.load(options.scene)
    except (OSError, ValueError) as error:
        sys.exit(_usage_error(error))
    rollout = scenes.run(scene)
    result = scenes.describe(scene, rollout)
    if options.gradient:
        result["jacobian"] = scenes.plain(scenes.jacobian(scene).tolist())
    if options.plot is not None:
        from diffsim.report import plots

        plots.scene(scene.world, rollout, scene.paths, path=options.plot)
    print(json.dumps(result) if options.json else scenes.table(result))


def _usage_error(error: Exception) -> int:
    print("error:", " ".join(str(error).split()), file=sys.stderr)
    return 2


if __name__ == "__main__":
    main(tyro.cli(Options))
