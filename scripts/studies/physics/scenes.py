"""Where balls fly, from where, and where they get to if a formula says so."""

from collections.abc import Callable

import numpy as np

from diffsim.physics import Air, World, floor, table

RESTITUTION = 0.9


def court() -> World:
    """A table over a floor, in air."""
    return World.create([table(RESTITUTION, 0.25), floor(RESTITUTION, 0.4)])


def plane() -> World:
    """A floor without friction, without air: what every peer can do, and what has a closed form."""
    return World.create([floor(RESTITUTION, 0.0)], air=Air.create(0.0))


WORLDS: dict[str, Callable[[], World]] = {"court": court, "plane": plane}


def starts(count: int) -> np.ndarray:
    """Position, velocity and spin of balls thrown towards the far side, (count, 9), in float32."""
    low = np.array([-1.3, -0.3, 0.9, 1.0, -0.5, -1.0, -60.0, -60.0, -60.0])
    high = np.array([-0.3, 0.3, 1.3, 5.0, 0.5, 2.0, 60.0, 60.0, 60.0])
    drawn = np.random.default_rng(0).random((count, 9))
    return (low + (high - low) * drawn).astype(np.float32)


def closed_form(rows: np.ndarray, seconds: float) -> np.ndarray:
    """Where balls over :func:`plane` are after so long, (n, 3), from their starts (n, 9).

    Bounce n is at t₁ + 2 u/g (e + … + eⁿ⁻¹) with t₁ = (v + u)/g, u² = v² + 2 g (z − r), and
    leaves with eⁿ u.
    """
    world = plane()
    g, e = -float(world.gravity[2]), float(world.surfaces[0].restitution)
    radius = float(world.ball.radius)
    z, v = rows[:, 2] - radius, rows[:, 5]
    u = np.sqrt(v**2 + 2 * g * z)
    left = seconds - (v + u) / g
    height = z + v * seconds - g * seconds**2 / 2
    while np.any(left >= 0):
        u = e * u
        height = np.where(left >= 0, u * left - g * left**2 / 2, height)
        left = left - np.where(left >= 0, 2 * u / g, 0)
    return np.column_stack([rows[:, :2] + rows[:, 3:5] * seconds, radius + height])
