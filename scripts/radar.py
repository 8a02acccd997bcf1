"""A radar sees a serve: from echoes to the landing point, its error, and its derivatives."""

from pathlib import Path

import tyro


def main(
    position: tuple[float, float, float] = (1.25, 0.2, 1.1),
    velocity: tuple[float, float, float] = (-5.0, 0.3, 1.2),
    spin: tuple[float, float, float] = (0.0, 0.0, 0.0),
    pulses: int = 12,
    interval: float = 0.02,
    noise: float = 0.01,
    trials: int = 200,
    seed: int = 0,
    plot: Path | None = None,
) -> object:
    """Track a served ball by four antennas around a table, and print where it will land.

    Args:
        position: of the ball at the first pulse, m.
        velocity: at the first pulse, m/s.
        spin: known to the radar, rad/s.
        pulses: heard by every antenna.
        interval: between pulses, s.
        noise: deviation of a sample, relative to the echo of a ball a metre away.
        trials: noises drawn.
        seed: of the noise.
        plot: file for a picture of echoes, flight and landings.
    """
    import jax

    jax.config.update("jax_enable_x64", True)
    from diffsim._check import in_range
    from diffsim._files import figure_path
    from diffsim.delay.radar import Radar
    from diffsim.physics import BallState
    from diffsim.report.progress import waiting
    from diffsim.report.radar import radar_report
    from diffsim.tasks import RadarTracking

    if plot is not None:
        figure_path(plot)
    given = {"position": position, "velocity": velocity, "spin": spin}
    truth = BallState.create(**{name: in_range(name, value) for name, value in given.items()})
    guess = BallState.create([1.3, 0.0, 1.15], [-5.5, 0.0, 1.0], spin)
    tracking = RadarTracking.create(
        radar=Radar.create(noise=noise), guess=guess, pulses=pulses, interval=interval
    )
    with waiting("compiling and tracking"):
        text, found = radar_report(tracking, truth, trials=trials, seed=seed, plot=plot)
    print(text)
    return found


if __name__ == "__main__":
    from _entry import entry

    entry(lambda: tyro.cli(main))
