"""A ball tracked by radar: what the antennas hear, where it will land, and how sure that is."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffsim._check import in_range
from diffsim._files import figure_path, new_figure, save_figure
from diffsim.delay.radar import Radar, range_to_delay
from diffsim.physics import BallState
from diffsim.report.stage import BY_NAME, COLORS, INK, light, outline, plain
from diffsim.tasks.radar import Landing, Located, RadarTracking


@dataclass(frozen=True)
class Options:
    """Track a served ball by four antennas around a table, and print where it will land.

    Attributes:
        position: position of the ball at the first pulse, m.
        velocity: velocity at the first pulse, m/s.
        spin: spin, which the radar knows, rad/s.
        pulses: number of pulses that every antenna hears.
        interval: time between pulses, s.
        noise: standard deviation of a sample, relative to the echo of a ball one metre away.
        trials: draws of the noise; the first is reported in detail.
        seed: seed of the noise.
        plot: file for a picture of echoes, flight and landings.
    """

    position: tuple[float, float, float] = (1.25, 0.2, 1.1)
    velocity: tuple[float, float, float] = (-5.0, 0.3, 1.2)
    spin: tuple[float, float, float] = (0.0, 0.0, 0.0)
    pulses: int = 12
    interval: float = 0.02
    noise: float = 0.01
    trials: int = 200
    seed: int = 0
    plot: Path | None = None


def run(options: Options) -> tuple[str, dict[str, Any]]:
    """Estimates with ±, errors beside the bound, derivatives; and the same as names and numbers.

    Raises:
        ValueError: an option makes no sense, or the ball lands nowhere.
        OSError: the picture cannot be written.
    """
    file = None if options.plot is None else figure_path(options.plot)
    if options.trials < 2:
        raise ValueError(f"trials: expected at least 2, got {options.trials}")
    given = {name: getattr(options, name) for name in ("position", "velocity", "spin")}
    truth = BallState.create(**{name: in_range(name, value) for name, value in given.items()})
    tracking = RadarTracking.create(
        radar=Radar.create(noise=options.noise),
        guess=BallState.create([1.3, 0.0, 1.15], [-5.5, 0.0, 1.0], options.spin),
        pulses=options.pulses,
        interval=options.interval,
    )
    keys = jax.random.split(jax.random.key(options.seed), options.trials)
    noisy = jax.jit(jax.vmap(tracking.listen, (None, 0)))(truth, keys)
    received = jnp.concatenate([tracking.listen(truth)[None], noisy])
    ball, landing = jax.tree.map(np.asarray, jax.jit(jax.vmap(tracking.track))(received))
    if not landing.landed.all():
        raise ValueError(f"truth: expected a ball that lands within {tracking.horizon:g} s")

    def point(antennas):
        return replace(tracking, antennas=antennas).track(received[1])[1].point

    slope = np.asarray(jax.jit(jax.jacrev(point))(tracking.antennas))
    if file is not None:
        _draw(file, tracking, received[1], ball, landing)
    found = _numbers(ball, landing, slope)
    return _text(found), found


def _numbers(ball: Located, landing: Landing, slope: np.ndarray) -> dict[str, Any]:
    deviation = np.sqrt(np.diagonal(ball.covariance[1]))
    return {
        "trials": len(landing.point) - 1,
        "position": ball.state.position[1], "position_error": deviation[:3],
        "velocity": ball.state.velocity[1], "velocity_error": deviation[3:],
        "landing": landing.point[1],
        "landing_error": np.sqrt(np.diagonal(landing.covariance[1])),
        "true_landing": landing.point[0],
        "rms_error": np.sqrt(np.mean((landing.point[1:] - landing.point[0]) ** 2, axis=0)),
        "bound": np.sqrt(np.diagonal(landing.covariance[1:].mean(0))),
        "landing_by_antenna": slope,
    }  # fmt: skip


def _text(found: dict[str, Any]) -> str:
    def row(name, unit):
        pairs = zip(found[name], found[f"{name}_error"])
        return f"{name} ({', '.join(f'{v:.4f} ± {e:.4f}' for v, e in pairs)}) {unit}"

    lines = [
        row("position", "m"),
        row("velocity", "m/s"),
        row("landing", "m"),
        "truly at ({:.4f}, {:.4f}) m".format(*found["true_landing"]),
        f"error of the landing over {found['trials']} noises, x and y: "
        "{:.2f}, {:.2f} mm; by the Cramér–Rao bound {:.2f}, {:.2f} mm".format(
            *(1e3 * found["rms_error"]), *(1e3 * found["bound"])
        ),
        "d landing / d antenna, mm per mm of x, y, z:",
    ]
    for number, columns in enumerate(np.moveaxis(found["landing_by_antenna"], 1, 0), 1):
        x, y = (" ".join(f"{value:7.3f}" for value in one) for one in columns)
        lines.append(f"  antenna {number}:  landing x {x}   landing y {y}")
    return "\n".join(lines)


def _draw(file, tracking: RadarTracking, received, ball: Located, landing: Landing) -> None:
    """Echoes over range and pulse, the flight from above, and the landings with their ellipse."""
    figure = new_figure(10.5, 3.2, dpi=200)
    echoes, above, zoom = figure.subplots(1, 3)

    radar = tracking.radar
    spans = np.linspace(0.0, 6.0, 400)
    frequencies = (radar.offset + np.arange(radar.pulse.size)) * float(radar.step)
    turns = np.exp(2j * np.pi * frequencies[:, None] * np.asarray(range_to_delay(radar, spans)))
    power = np.abs((np.asarray(received[:, 0]) * np.conj(radar.pulse)) @ turns) ** 2
    times = 1e3 * tracking.interval * np.arange(tracking.pulses)
    decibels = 10 * np.log10(power / power.max())
    echoes.pcolormesh(times, spans, decibels.T, vmin=-30, cmap="viridis", rasterized=True)
    start = jax.tree.map(lambda leaf: jnp.asarray(leaf[1]), ball.state)
    echoes.plot(times, np.asarray(tracking.distances(start))[:, 0], color="white", lw=1, ls="--")
    echoes.set(xlabel="pulse (ms)", ylabel="range (m)")
    plain(echoes, "echo at antenna 1 (dB), and the ball found")

    for surface in tracking.world.surfaces:
        if surface.name in ("table", "net") and not surface.driven:
            edge = outline(surface, np.asarray(surface.center), np.asarray(surface.rotation))
            hue = BY_NAME[surface.name]
            above.fill(edge[:, 0], edge[:, 1], facecolor=light(hue), edgecolor=hue, lw=0.8)
    above.plot(*np.asarray(tracking.antennas)[:, :2].T, "^", color=COLORS[1], label="antennas")
    flight = np.stack([ball.state.position[1, :2], landing.point[1]])
    above.plot(*flight[:1].T, "o", color="white", mec=INK, label="first pulse")
    above.plot(*flight.T, color=INK, lw=1)
    above.plot(*flight[1:].T, "x", color=INK, mew=2, label="landing")
    above.set(xlabel="x (m)", ylabel="y (m)", aspect="equal")
    above.legend(fontsize=7, frameon=False, loc="upper center", ncols=3)
    above.margins(y=0.25)
    plain(above, "from above")

    errors = 1e3 * (landing.point[1:] - landing.point[0])
    zoom.plot(*errors.T, ".", color=COLORS[0], ms=3, label=f"{len(errors)} noises")
    circle = np.linspace(0, 2 * np.pi, 100)
    root = np.linalg.cholesky(1e6 * landing.covariance[1:].mean(0))
    # 95 % of a normal law in the plane lie within 2.45 deviations.
    ellipse = root @ (2.4477 * np.stack([np.cos(circle), np.sin(circle)]))
    zoom.plot(*ellipse, color=COLORS[1], lw=1.2, label="95 % by the Cramér–Rao bound")
    zoom.set(xlabel="error in x (mm)", ylabel="error in y (mm)", aspect="equal")
    zoom.legend(fontsize=7, frameon=False, loc="upper left")
    zoom.margins(y=0.3)
    plain(zoom, "landing")
    save_figure(figure, file)
