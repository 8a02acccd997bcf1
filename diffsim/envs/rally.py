"""Keep a rally going: two paddles at the two ends of a table, each in its turn by one policy."""

import jax
import jax.numpy as jnp
from flax import struct

from diffsim import _check
from diffsim.envs import court
from diffsim.envs.base import Channel, EnvState
from diffsim.envs.paddle import PaddleEnv
from diffsim.physics import BallState, Rollout, Status, World
from diffsim.physics.vector import choose
from diffsim.tasks import Serves

PACE = 3.0  # m/s; along the table after its bounce, at which a ball reaches the other paddle well


@struct.dataclass
class Rally(PaddleEnv):
    """Two paddles play together for as long as they can, by the rules of table tennis.

    The policy plays the paddle in turn and sees the court from its end, the other one goes home:
    half a turn about z takes either player's game to the other's. A stroke must follow exactly one
    bounce on the striker's half. It brings ``court.aim_quality`` towards the target, less twice
    ``court.edge_cost``, and its bounce v_x/(3 m/s), at most 1, as a ball that comes on slowly dies
    before the other paddle. Each step costs 0.3 times ``court.reach_cost`` of the paddle in turn.
    The episode is done by a fault, or when the ball is out: below z = 0.5 m, |x| > 2.4 m or
    |y| > 1.5 m.

    The policy sees what it does in :class:`HitToTargetLoop`, whose network can go on here.

    Attributes:
        serves: where the first ball, to paddle 1 (x < 0), comes from.
        target: (x, y) on the other half, seen from the striker's end, (2,), m.
    """

    serves: Serves
    target: jax.Array
    measured = ("strokes", "bounces")
    impacts = 2
    room = court.ROOM

    @classmethod
    def create(
        cls,
        world: World | None = None,
        serves: Serves | None = None,
        *,
        target=(1.0, 0.0),
        reach=(0.5, 0.8, 0.3, 0.6, 0.6),
        omega: float = 20.0,
        period: float = 0.04,
        limit: int = 750,
    ) -> "Rally":
        """The task with checked settings.

        Raises:
            ValueError: the world is not a table, a net and two driven paddles in this order; a
                wrong shape or sign.

        >>> env = Rally.create()
        >>> env.reset(jax.random.key(0)).obs.shape, len(env.actions)
        ((21,), 5)
        """
        return cls(
            **court.table_tennis(world, (-1, 1), reach, omega=omega, period=period, limit=limit),
            serves=Serves.create() if serves is None else serves,
            target=_check.in_range("target", _check.floating("target", target, (2,))),
        )

    @property
    def played(self) -> int:
        return 1

    @property
    def remembered(self) -> tuple[Channel, ...]:
        return court.TARGET

    def recall(self, memory):
        return [self.target]

    def steer(self, action, memory):
        still, aim = jnp.zeros_like(action), action * self._turned(memory["second"])
        return choose(memory["second"], jnp.stack([still, aim]), jnp.stack([aim, still]))

    def observe(self, ball, place, rate, memory):
        second = memory["second"]
        turned = self._turned(second)
        ball = jax.tree.map(lambda vector: vector * turned[:3], ball)
        place, rate = (choose(second, x[1:], x[:1]) * turned for x in (place, rate))
        return super().observe(ball, place, rate, memory)

    def _turned(self, second: jax.Array) -> jax.Array:
        """Signs of a paddle's coordinates seen from the end of the one in turn, (5,)."""
        sign = jnp.where(second, -1, 1).astype(self.home.dtype)
        return jnp.ones_like(self.reach).at[:2].set(sign)

    def serve(self, key: jax.Array) -> tuple[BallState, dict[str, jax.Array]]:
        level = jnp.asarray(court.LEVEL, self.home.dtype)
        ball = self.serves.sample(key, self.world.gravity, level)
        return ball, {"second": jnp.asarray(False), "bounced": jnp.asarray(False)}

    def judge(self, before: EnvState, after: EnvState, rollout: Rollout):
        second, bounced = before.memory["second"], before.memory["bounced"]
        near, home = (choose(second, x[1], x[0]) for x in (after.place, self.home))
        reward = -0.3 * court.reach_cost(after.ball, near, home)
        moved = [x for state in (before, after) for x in (state.place, state.rate)]
        ends = [choose(second, x[1, :3], x[0, :3]) for x in moved]
        strokes = bounces = jnp.zeros_like(reward)
        fault = jnp.asarray(False)
        for valid, time, surface, met, left in court.events(rollout):
            cost = court.edge_cost(met, time, self.period, ends, self.world)
            live, on_table = valid & ~fault, surface == court.TABLE
            bounce = live & on_table & ~bounced & ((met.position[0] > 0) == second)
            stroke = live & bounced & (surface == jnp.where(second, court.PADDLE + 1, court.PADDLE))
            fault |= live & (on_table | (surface >= court.PADDLE)) & ~bounce & ~stroke
            target = self.target * self._turned(second)[:2]
            quality = court.aim_quality(left, target, -self.world.gravity[2])
            pace = jnp.minimum(jnp.abs(left.velocity[0]) / PACE, 1)
            reward += jnp.where(stroke, quality - 2 * cost, 0)
            reward += jnp.where(bounce, pace, 0)
            strokes += stroke.astype(reward.dtype)
            bounces += bounce.astype(reward.dtype)
            second, bounced = second ^ stroke, (bounced | bounce) & ~stroke
        done = fault | court.out(after.ball) | (rollout.status != Status.OK)
        memory = {"second": second, "bounced": bounced}
        return memory, reward, done, {"strokes": strokes, "bounces": bounces}
