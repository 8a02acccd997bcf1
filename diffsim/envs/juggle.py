"""Keep a ball up with a paddle: long horizons, and chaotic ones."""

import jax
import jax.numpy as jnp
from flax import struct

from diffsim import _check
from diffsim.envs.base import EnvState
from diffsim.envs.paddle import PaddleEnv, fields
from diffsim.physics import BallState, Rollout, Status, World, paddle


@struct.dataclass
class PaddleJuggle(PaddleEnv):
    """Juggle a table-tennis ball on a paddle, each time to the same height over the same place.

    reward = 1 / (1 + q) while the ball is up,
    q = ((h − height)/0.25)² + |x|²/0.2² + |v|²/0.5² + |x − c|²/0.1² + effort |a|²,

    with h = z + v_z²/2g the height the ball would rise to in a vacuum, over the paddle's home; x
    and v the ball's horizontal position from home and velocity, c the paddle's centre. Every term
    has a slope wherever the ball is, so that also a paddle that misses learns where to go.

    The ball is lost, and the episode done, when it falls 0.3 m below home or strays 0.6 m from it,
    or when a stroke leaves it rising at less than 0.2 m/s: a ball carried or come to rest is not
    juggled.

    Attributes:
        height: to juggle to, over home, m.
        spread: half-widths of the box of starts: (x, y) position (m), (x, y) velocity (m/s) and
            height (m) about ``height``; and the standard deviation of each spin component (rad/s),
            (4,).
        effort: weight of the squared action.
    """

    height: jax.Array
    spread: jax.Array
    effort: jax.Array
    measured = ("strokes", "height")

    @classmethod
    def create(
        cls,
        world: World | None = None,
        *,
        height: float = 0.5,
        spread=(0.05, 0.2, 0.1, 5.0),
        effort: float = 0.01,
        reach=(0.3, 0.3, 0.15, 0.4, 0.4),
        omega: float = 20.0,
        period: float = 0.04,
        limit: int = 250,
    ) -> "PaddleJuggle":
        """The task with checked settings; by default ten seconds with a paddle of e = 0.78.

        Raises:
            ValueError: the world has not exactly one driven surface; a wrong shape or sign.

        >>> env = PaddleJuggle.create()
        >>> state = env.step(env.reset(jax.random.key(0)), jnp.zeros(5))
        >>> state.obs.shape, bool(state.done)
        ((19,), False)
        """
        world = World.create([paddle(0.08, 0.78, 0.4)]) if world is None else world
        scale = [[0.2] * 3, [1.0, 1.0, 3.0], [20.0] * 3]
        shared = fields(
            world,
            [[0.0, 0.0, 1.0, 0.0, 0.0]],
            [(0.0, 0.0, 1.0)],
            reach,
            omega,
            scale,
            (0.0, 0.0, 1.0 + height / 2),
            period,
            limit,
        )
        spread = _check.floating("spread", spread, (4,))
        return cls(
            **shared,
            height=_check.in_range("height", height, 0.0, open_low=True),
            spread=_check.in_range("spread", spread, 0.0),
            effort=_check.in_range("effort", effort, 0.0),
        )

    def serve(self, key: jax.Array) -> tuple[BallState, dict[str, jax.Array]]:
        box_key, spin_key = jax.random.split(key)
        box = jax.random.uniform(box_key, (5,), self.home.dtype, -1.0)
        zero, (place, speed, rise, spin) = jnp.zeros((1,), self.home.dtype), self.spread
        ball = BallState(
            self.home[0, :3] + jnp.append(place * box[:2], self.height + rise * box[4]),
            jnp.concatenate([speed * box[2:4], zero]),
            spin * jax.random.normal(spin_key, (3,), self.home.dtype),
        )
        return ball, {}

    def judge(self, before: EnvState, after: EnvState, rollout: Rollout):
        position, velocity = after.ball.position - self.home[0, :3], after.ball.velocity
        aside, centre = position[:2], (after.place[0] - self.home[0])[:2]
        fall = -self.world.gravity[2].astype(position.dtype)
        energy = position[2] + velocity[2] * jnp.abs(velocity[2]) / (2 * fall)
        aim = (after.place[0] - self.home[0]) / self.reach
        q = (
            ((energy - self.height) / 0.25) ** 2
            + jnp.sum((aside / 0.2) ** 2)
            + jnp.sum((velocity[:2] / 0.5) ** 2)
            + jnp.sum(((aside - centre) / 0.1) ** 2)
            + self.effort * jnp.sum(aim**2)
        )
        stroke = rollout.impacts.valid[0]
        dead = stroke & (rollout.impacts.after.velocity[0, 2] < 0.2)
        stray = (position[2] < -0.3) | (jnp.max(jnp.abs(aside)) > 0.6)
        done = stray | dead | (rollout.status != Status.OK)
        reward = jnp.where(done, 0.0, 1 / (1 + q))
        metrics = {"strokes": stroke.astype(reward.dtype), "height": energy}
        return before.memory, reward, done, metrics
