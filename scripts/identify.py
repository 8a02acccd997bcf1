"""Fit drag, spin lift, restitution and friction to observed flights, with standard errors."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro


@dataclass
class Options:
    """Fit the constants of the world to observed flights: python scripts/identify.py SEEN.csv."""

    observed: tyro.conf.Positional[Path]
    """CSV: trajectory, time (s), x, y, z (m), spin_x, spin_y, spin_z (rad/s; optional); or gaps."""
    fit: tuple[str, ...] = ("drag", "magnus", "table.restitution", "table.friction")
    """Constants to fit: drag, magnus, and NAME.restitution or NAME.friction of a surface."""
    scene: Path | None = None
    """The world to start from, a TOML file; without it a table, a net and the floor."""
    noise: float | None = None
    """Standard deviation of a coordinate, m; None estimates it from the scatter."""
    spin_noise: float = 5.0
    """Standard deviation of a component of a measured spin, rad/s."""
    spin_scale: float = 150.0
    """Prior standard deviation of a component of the spin, rad/s."""
    robust: bool = False
    """Give outliers less weight."""
    plot: Annotated[Path | None, tyro.conf.arg(metavar="FILE.png")] = None
    """Draw observed and fitted flights, and the residuals."""


def main(options: Options) -> dict[str, Any]:
    import jax

    jax.config.update("jax_enable_x64", True)
    from diffsim import identification
    from diffsim._files import figure_path
    from diffsim.physics import World, scene
    from diffsim.report.progress import waiting
    from reports import identify as report

    if options.plot is not None:
        figure_path(options.plot)
    observations = identification.read(options.observed)
    world = World.create() if options.scene is None else scene.load(options.scene).world
    with waiting("compiling and fitting the starts") as tell:
        found = identification.identify(
            observations,
            world,
            options.fit,
            noise=options.noise,
            spin_noise=options.spin_noise,
            spin_scale=options.spin_scale,
            robust=options.robust,
            progress=lambda n, cost: tell(f"fitting: {n} evaluations, cost {cost:g}"),
        )
    if options.plot is not None:
        report.plot(found, observations, options.plot)
    print(report.parameter_table(found))
    return report.as_json(found)


if __name__ == "__main__":
    from _entry import entry

    entry(lambda: main(tyro.cli(Options)))
