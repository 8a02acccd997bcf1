"""Simulate a scene file: where the ball goes, what it hits, and how that depends on the start."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro


@dataclass
class Options:
    """Simulate a ball and print where it ends and what it hit."""

    scene: tyro.conf.Positional[Path]
    """The scene, a TOML file."""
    x64: bool = False
    """Compute in double precision."""
    plot: Annotated[Path | None, tyro.conf.arg(metavar="FILE.png")] = None
    """Draw the flight from the side and from above."""
    html: Annotated[Path | None, tyro.conf.arg(metavar="FILE.html")] = None
    """Write a page with a replay in three dimensions."""
    gradient: bool = False
    """Also give d(final position, velocity, spin)/d(initial position, velocity, spin), 9 × 9."""


def main(options: Options) -> dict[str, Any]:
    import jax

    jax.config.update("jax_enable_x64", options.x64)
    from diffsim import _files
    from diffsim.physics import scene as scenes
    from diffsim.report.progress import waiting

    if options.plot is not None:
        _files.figure_path(options.plot)  # the simulation may take long
    if options.html is not None:
        _files.writable(_files.checked(options.html, (".html",)))
    scene = scenes.load(options.scene)
    with waiting("compiling and simulating"):
        rollout = scenes.run(scene)
        result = scenes.describe(scene, rollout)
        if options.gradient:
            result["jacobian"] = scenes.plain(scenes.jacobian(scene).tolist())
    if options.plot is not None:
        from diffsim.report import plots

        plots.scene(scene.world, rollout, scene.paths, path=options.plot)
    if options.html is not None:
        from diffsim.report import pages

        pages.scene(options.html, options.scene.stem, scene, rollout, result)
    print(scenes.table(result))
    return result


if __name__ == "__main__":
    from _entry import entry

    entry(lambda: main(tyro.cli(Options)))
