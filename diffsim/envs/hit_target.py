"""Return a serve to a target, seeing the ball and steering the paddle all the way."""

import jax
import jax.numpy as jnp
from flax import struct

from diffsim import _check
from diffsim._linalg import safe_sqrt
from diffsim.envs import court
from diffsim.envs.base import Channel, EnvState
from diffsim.envs.paddle import PaddleEnv
from diffsim.physics import BallState, Rollout, Status, World
from diffsim.tasks import Serves


@struct.dataclass
class HitToTargetLoop(PaddleEnv):
    """The closed loop of :class:`diffsim.tasks.HitToTarget`, with a target drawn at each start.

    While the ball comes, each step costs 0.3 times ``court.reach_cost``. The stroke brings
    ``court.aim_quality``, less twice ``court.edge_cost``; a landing on the far half
    2 / (1 + (error/0.3)²). The episode is done when the return lands, or the ball is out: below
    z = 0.5 m, |x| > 2.4 m or |y| > 1.5 m.

    Attributes:
        serves: where serves come from.
        targets: lowest and highest (x, y) of the target, (2, 2), m.
    """

    serves: Serves
    targets: jax.Array
    measured = ("strokes", "landed", "landing_error")
    impacts = 2
    room = court.ROOM

    @classmethod
    def create(
        cls,
        world: World | None = None,
        serves: Serves | None = None,
        *,
        targets=((0.6, -0.4), (1.1, 0.4)),
        reach=(0.5, 0.8, 0.3, 0.6, 0.6),
        omega: float = 20.0,
        period: float = 0.04,
        limit: int = 60,
    ) -> "HitToTargetLoop":
        """The task with checked settings.

        Raises:
            ValueError: the world is not a table, a net and a driven paddle in this order; a wrong
                shape or sign.

        >>> env = HitToTargetLoop.create()
        >>> env.reset(jax.random.key(0)).obs.shape
        (21,)
        """
        targets = _check.floating("targets", targets, (2, 2))
        return cls(
            **court.table_tennis(world, (-1,), reach, omega=omega, period=period, limit=limit),
            serves=Serves.create() if serves is None else serves,
            targets=_check.in_range("targets", targets),
        )

    @property
    def remembered(self) -> tuple[Channel, ...]:
        return court.TARGET

    def recall(self, memory):
        return [memory["target"]]

    def serve(self, key: jax.Array) -> tuple[BallState, dict[str, jax.Array]]:
        serve_key, target_key = jax.random.split(key)
        low, high = self.targets
        target = low + (high - low) * jax.random.uniform(target_key, (2,), low.dtype)
        ball = self.serves.sample(
            serve_key, self.world.gravity, jnp.asarray(court.LEVEL, low.dtype)
        )
        return ball, {"target": target, "struck": jnp.zeros((), bool)}

    def judge(self, before: EnvState, after: EnvState, rollout: Rollout):
        struck, target = before.memory["struck"], before.memory["target"]
        reward = jnp.where(
            struck, 0, -0.3 * court.reach_cost(after.ball, after.place[0], self.home[0])
        )
        strokes = landed = landing_error = jnp.zeros_like(reward)
        over = jnp.asarray(False)
        ends = [x[0, :3] for state in (before, after) for x in (state.place, state.rate)]
        for valid, time, surface, met, left in court.events(rollout):
            cost = court.edge_cost(met, time, self.period, ends, self.world)
            stroke = valid & ~over & ~struck & (surface == court.PADDLE)
            strokes += stroke.astype(reward.dtype)
            quality = court.aim_quality(left, target, -self.world.gravity[2])
            falls = valid & ~over & struck & (surface == court.TABLE)
            lands = falls & (met.position[0] > 0)
            landed += lands.astype(reward.dtype)
            error = safe_sqrt(jnp.sum((met.position[:2] - target) ** 2))
            landing_error += jnp.where(lands, error, 0)
            reward += jnp.where(stroke, quality - 2 * cost, 0)
            reward += jnp.where(lands, 2 / (1 + (error / 0.3) ** 2), 0)
            struck, over = struck | stroke, over | falls
        done = over | court.out(after.ball) | (rollout.status != Status.OK)
        memory = {"target": target, "struck": struck}
        metrics = {"strokes": strokes, "landed": landed, "landing_error": landing_error}
        return memory, reward, done, metrics
