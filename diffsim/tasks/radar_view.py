"""A serve as antennas around the table hear it: what a network sees in the place of the ball."""

from dataclasses import replace
from typing import Any

import jax
from flax import struct

from diffsim.physics import BallState, World, simulate
from diffsim.tasks.radar import RadarTracking


@struct.dataclass
class RadarView:
    """Antennas that track a ball up to now: echoes → delays → ranges → state.

    The pulses are heard over the last (P − 1) · interval seconds, for which the ball is flown
    back, and the state found at the first of them is flown on to now. The spin is not seen.

    Attributes:
        tracking: the antennas and what they send.
    """

    tracking: RadarTracking

    @classmethod
    def create(cls, *, pulses: int = 8, interval: float = 0.01, **settings: Any) -> "RadarView":
        """The view of a :class:`RadarTracking` with these settings.

        >>> RadarView.create().tracking.pulses
        8
        """
        return cls(RadarTracking.create(pulses=pulses, interval=interval, **settings))

    def __call__(self, key: jax.Array, ball: BallState) -> BallState:
        """The ball as it is found from noisy echoes, its spin zero.

        Args:
            key: of the noise.
            ball: as it is.
        """
        tracking = self.tracking
        watched = (tracking.pulses - 1) * tracking.interval
        earlier = flown_back(tracking.world, ball, watched)
        found = tracking.locate(tracking.ranges(tracking.listen(earlier, key))).state
        return _flown(tracking.world, found, watched)


def flown_back(world: World, ball: BallState, time: float) -> BallState:
    """Where a ball in free flight was, by its motion in reversed time.

    With u = −v and s = −t, dv/dt = g − k |v| v + m w × v is du/ds = g + k |u| u + m (−w) × u:
    a flight whose drag pushes, with the opposite spin.

    Args:
        world: its surfaces are left out.
        ball: at the end.
        time: how long before, s.

    >>> import jax.numpy as jnp
    >>> ball = BallState.create([1.3, 0.0, 1.1], [-6.0, 0.0, 1.0], [0.0, 50.0, 0.0])
    >>> again = _flown(World.create(), flown_back(World.create(), ball, 0.1), 0.1)
    >>> bool(jnp.allclose(again.position, ball.position, atol=1e-5))
    True
    """
    reverse = replace(world.ball, drag_coefficient=-world.ball.drag_coefficient)
    turned = BallState(ball.position, -ball.velocity, -ball.spin)
    before = _flown(replace(world, ball=reverse), turned, time)
    return BallState(before.position, -before.velocity, -before.spin)


def _flown(world: World, ball: BallState, time: float) -> BallState:
    free = replace(world, surfaces=())
    return simulate(free, ball, duration=time, step=0.05).final
