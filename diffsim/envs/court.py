"""What the table-tennis tasks share: the court, its bounds, and how good a stroke is."""

from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from diffsim._linalg import safe_sqrt
from diffsim._types import ArrayLike
from diffsim.envs.base import Channel
from diffsim.envs.paddle import fields
from diffsim.physics import BallState, Rollout, World, net, paddle, table
from diffsim.physics.interpolate import hermite
from diffsim.physics.surfaces import NET_CLEARANCE, NET_HEIGHT, TABLE_HEIGHT

LEVEL = TABLE_HEIGHT + 0.02  # of the centre of a ball on the table, m
TABLE, NET, PADDLE = range(3)  # surfaces of the world in order; the second paddle is the next
ROOM = ((-2.4, -1.5, 0.5), (2.4, 1.5, 2.0))  # a ball that leaves it, but for upwards, is out, m
TARGET = (Channel("target x", "m", 1.0), Channel("target y", "m", 1.0))  # as a policy sees it
OVER_NET = LEVEL + NET_HEIGHT + NET_CLEARANCE  # of a ball that clears the net well, m


def aim_quality(ball: BallState, target: jax.Array, gravity: jax.Array) -> jax.Array:
    """1 / (1 + q) of a ball that has just left the paddle,  q = |l − target|²/0.5² + (low/0.1)².

    Args:
        ball: just after the stroke.
        target: (x, y) on the table, across the net, (2,), m.
        gravity: magnitude, m/s².

    Returns:
        (), from l, where it would land, and how much too low it would pass over the net, in a
        vacuum: a slope for every stroke, also for one that really ends in the net.

    >>> ball = BallState.create([-1.5, 0.0, 1.0], [6.0, 0.0, 1.3])
    >>> round(float(aim_quality(ball, jnp.asarray([0.9, 0.0]), jnp.asarray(9.81))), 2)
    0.96
    """
    x, v = ball.position, ball.velocity
    rise = v[2] ** 2 + 2 * gravity * (x[2] - LEVEL)
    time = (v[2] + safe_sqrt(jnp.maximum(rise, 0))) / gravity
    off = (x[:2] + v[:2] * time - target) / 0.5
    ahead = v[0] * jnp.sign(target[0])
    forward = ahead > 0.5
    crossing = jnp.where(forward, -x[0] * jnp.sign(target[0]) / jnp.where(forward, ahead, 1), 0)
    height = x[2] + v[2] * crossing - 0.5 * gravity * crossing**2
    low = jnp.where(forward, jnp.maximum(OVER_NET - height, 0), 0) / 0.1
    return 1 / (1 + jnp.sum(off**2) + low**2)


def reach_cost(ball: BallState, place: jax.Array, home: jax.Array) -> jax.Array:
    """How far a ball that passes a paddle's home is beside it: g (√(1 + d²/0.1²) − 1).

    Args:
        ball: now.
        place: of the paddle, (5,), its centre first.
        home: its resting place, (5,).

    Returns:
        (), d from the paddle's centre across x, g = e^{−(Δx/0.3)²} of the ball from home: as steep
        for a ball far to a side as for one that is near, and no cheaper for a paddle that retreats.

    >>> ball, home = BallState.create([-1.5, 0.0, 1.0]), jnp.asarray([-1.5, 0.0, 1.0, 0.0, 0.0])
    >>> [round(float(reach_cost(ball, home.at[1].set(y), home)), 2) for y in (0.0, 0.1, 0.6, 0.7)]
    [0.0, 0.41, 5.08, 6.07]
    """
    beside = ball.position[1:] - place[1:3]
    far = jnp.sqrt(1 + jnp.sum(beside**2) / 0.1**2) - 1
    return jnp.exp(-(((ball.position[0] - home[0]) / 0.3) ** 2)) * far


def edge_cost(
    ball: BallState, time: jax.Array, period: float, ends: Sequence[jax.Array], world: World
) -> jax.Array:
    """By how many radii R a paddle meets a ball further from its middle c than half of one.

    max(0, (|x − c| − r)/R − 1/2): no derivative shows that further out it would miss.

    Args:
        ball: at the impact.
        time: since the begin of the control step, s.
        period: of the step, s.
        ends: of the paddle's centre, its place and rate at the begin and at the end of the step.
        world: with the paddle.

    Returns:
        ().
    """
    middle, _ = hermite(time / period, period, *ends)
    off = safe_sqrt(jnp.sum((ball.position - middle) ** 2)) - world.ball.radius
    return jnp.maximum(off / world.surfaces[PADDLE].disk_radius - 0.5, 0)


def table_tennis(
    world: World | None, sides: tuple[int, ...], reach: ArrayLike, **rest: Any
) -> dict[str, Any]:
    """The settings of a task with paddles at the ends ``sides`` (sign of x) of a table.

    Raises:
        ValueError: the world is not a table, a net and as many driven paddles, in this order.
    """
    if world is None:
        paddles = [paddle(0.08, 0.78, 0.4, name=f"paddle {i + 1}") for i in range(len(sides))]
        world = World.create([table(0.9, 0.25), net(), *paddles])
    names = [surface.name for surface in world.surfaces]
    driven = [surface.driven for surface in world.surfaces]
    if names[:2] != ["table", "net"] or driven != [False, False, *(True for _ in sides)]:
        raise ValueError(
            f"world: expected table, net and {len(sides)} driven surfaces in order, got {names}"
        )
    made = fields(
        world,
        [[1.55 * side, 0.0, 0.98, 0.0, 0.0] for side in sides],
        [(-side, 0.0, 0.15) for side in sides],
        reach,
        ball_scale=((1.5,) * 3, (5.0,) * 3, (50.0,) * 3),
        ball_middle=(0.0, 0.0, 1.0),
        **rest,
    )
    # The second paddle is the first one turned by half a turn about z, its u and v as well.
    half = jnp.asarray([[-side, -side, 1.0] for side in sides], made["orientation"].dtype)
    return made | {"orientation": made["orientation"] * half[:, None]}


def out(ball: BallState) -> jax.Array:
    """Whether the ball has left the court: below z = 0.5 m, |x| > 2.4 m or |y| > 1.5 m."""
    x, y, z = ball.position
    (_, _, floor), (end, side, _) = ROOM
    return (z < floor) | (jnp.abs(x) > end) | (jnp.abs(y) > side)


def events(rollout: Rollout) -> Iterator[tuple[Any, ...]]:
    """Each impact in order: whether it is one, the time, the surface, the ball before and after."""
    impacts = rollout.impacts
    for row in range(impacts.valid.shape[0]):
        yield jax.tree.map(
            lambda leaf, r=row: leaf[r],
            (impacts.valid, impacts.time, impacts.surface, impacts.before, impacts.after),
        )
