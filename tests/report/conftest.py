"""Rollouts in closed form, and a short rally that the report tests draw."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffsim.physics import (
    BallState,
    Impacts,
    Pose,
    Rollout,
    Status,
    World,
    floor,
    net,
    paddle,
    table,
)

GRAVITY = np.array([0.0, 0.0, -9.81])
ROOM = 4  # for impacts


def vacuum_rollout(position, velocity, impacts: Sequence[tuple], duration, step) -> Rollout:
    """A ball in a vacuum that gets a new velocity at each impact (time, surface, velocity)."""
    arcs = [(0.0, np.asarray(position, float), np.asarray(velocity, float))]

    def fly(arc, t):
        start, x, v = arc
        h = t - start
        return x + v * h + GRAVITY * h**2 / 2, v + GRAVITY * h

    sides: list[tuple] = []
    for time, _, after in impacts:
        x, before = fly(arcs[-1], time)
        sides.append((x, before, np.asarray(after, float)))
        arcs.append((time, x, sides[-1][2]))
    times = np.linspace(0, duration, round(duration / step) + 1)
    grid = [fly([arc for arc in arcs if arc[0] <= t][-1], t) for t in times]

    def state(rows):
        x, v = (np.array([row[i] for row in rows]) for i in (0, 1))
        return BallState(x, v, np.zeros_like(x))

    unused = [(np.zeros(3),) * 3] * (ROOM - len(impacts))
    rows = [*sides, *unused]
    return Rollout(
        times=times,
        states=state(grid),
        impacts=Impacts(
            time=np.array([time for time, *_ in impacts] + [0.0] * len(unused)),
            surface=np.array([surface for _, surface, _ in impacts] + [-1] * len(unused)),
            before=state(rows),
            after=state([(x, after) for x, _, after in rows]),
            valid=np.arange(ROOM) < len(impacts),
        ),
        final=jax.tree.map(lambda leaf: leaf[-1], state(grid)),
        status=np.array(Status.OK),
    )


@pytest.fixture(scope="session", name="vacuum_rollout")
def vacuum_rollout_fixture():
    """:func:`vacuum_rollout`, for tests that make their own."""
    return vacuum_rollout


class Rally(NamedTuple):
    """What a simulator took and gave: two rollouts in one batch, with one path."""

    world: World
    rollouts: Rollout
    path: object

    def one(self) -> Rollout:
        """The first rollout."""
        return jax.tree.map(lambda leaf: leaf[0], self.rollouts)


@pytest.fixture(scope="session")
def rally() -> Rally:
    """Two balls from the right bounce on the table and meet the paddle at t = 0.6 s.

    They differ in their y only, the second keeping to y = −0.4 m.
    """
    world = World.create([table(), net(), floor(), paddle(0.08, 0.8, 0.4)])
    face = jnp.array([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])  # normal along x

    def path(t):
        speed = jnp.array([1.5, 0.0, 0.0])
        return Pose(jnp.array([-2.272, 0.1, 1.063]) + speed * t, face, speed, 0 * speed)

    bounce = 0.40197  # 1.05 + 1.3 t − g t²/2 = 0.78, the table's height and the ball's radius
    balls = [
        vacuum_rollout(
            [1.45, y, 1.05],
            [-5.0, -drift, 1.3],
            [(bounce, 0, [-4.0, -drift, 2.4]), (0.6, 3, [4.0, 0.0, 1.0])],
            duration=0.8,
            step=0.05,
        )
        for y, drift in ((0.3, 0.35), (-0.4, 0.0))
    ]
    return Rally(world, jax.tree.map(lambda *leaves: np.stack(leaves), *balls), path)
