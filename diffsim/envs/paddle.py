"""What the paddle tasks share: servo-driven paddles, one control step of physics, the tables."""

import abc
import dataclasses
import math
from collections.abc import Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from diffsim import _check
from diffsim._types import ArrayLike
from diffsim.envs.base import Channel, Env, EnvState, strong
from diffsim.envs.servo import Servo
from diffsim.motion.rotation import facing
from diffsim.physics import BallState, Pose, Rollout, World, simulate
from diffsim.physics.vector import choose

AXES = ("x", "y", "z", "tilt u", "tilt v")


@struct.dataclass
class PaddleEnv(Env):
    """Base of the paddle tasks: physics of a step, observation of ball and paddles, absorbing end.

    An action is, for each paddle, where its centre and its two tilts should go, relative to home
    in units of ``reach``; a critically damped servo takes it there. Its records have one dtype, in
    which everything is computed.

    Attributes:
        world: with one driven surface for each paddle.
        home: resting place of each paddle: centre (m) and two tilts (rad), (paddles, 5).
        orientation: world-from-surface rotation of each at tilt zero, (paddles, 3, 3).
        reach: largest displacement from home, (5,), m and rad.
        omega: ω of the servo, 1/s.
        ball_scale: scale of the observed ball position, velocity and spin, (3, 3), m, m/s, rad/s.
        ball_middle: the position observed as zero, (3,), m.
        period: of control, s.
        limit: control steps of an episode.
    """

    world: World
    home: jax.Array
    orientation: jax.Array
    reach: jax.Array
    omega: jax.Array
    ball_scale: jax.Array
    ball_middle: jax.Array
    period: float = struct.field(pytree_node=False)
    limit: int = struct.field(pytree_node=False)
    measured: ClassVar[tuple[str, ...]] = ()  # names of the metrics
    impacts: ClassVar[int] = 1  # room for impacts in one control step

    @property
    def paddles(self) -> int:
        return self.home.shape[0]

    @property
    def played(self) -> int:
        """How many of the paddles the policy sees and steers at a time, the first ones."""
        return self.paddles

    @property
    def actions(self) -> tuple[Channel, ...]:
        units = ("m", "m", "m", "rad", "rad")
        return tuple(
            Channel(f"paddle {p + 1} target {axis}", unit, float(scale), float(offset))
            for p, home in enumerate(np.asarray(self.home)[: self.played])
            for axis, unit, scale, offset in zip(AXES, units, np.asarray(self.reach), home)
        )

    @property
    def observations(self) -> tuple[Channel, ...]:
        scales, middle = np.asarray(self.ball_scale), np.asarray(self.ball_middle)
        kinds = (
            ("position", "m", middle),
            ("velocity", "m/s", 0 * middle),
            ("spin", "rad/s", 0 * middle),
        )
        ball = [
            Channel(f"ball {kind} {axis}", unit, float(scale), float(offset))
            for (kind, unit, offsets), row in zip(kinds, scales)
            for axis, scale, offset in zip("xyz", row, offsets)
        ]
        place = [c._replace(name=c.name.replace(" target", "")) for c in self.actions]
        rate = [
            Channel(f"{c.name} rate", f"{c.unit}/s", c.scale * float(self.omega) / 2) for c in place
        ]
        return (*ball, *place, *rate, *self.remembered)

    @property
    def remembered(self) -> tuple[Channel, ...]:
        """Channels of the memory, in the order of :meth:`recall`."""
        return ()

    def recall(self, memory: dict[str, jax.Array]) -> list[jax.Array]:
        """What the policy sees of the memory."""
        return []

    def steer(self, action: jax.Array, memory: dict[str, jax.Array]) -> jax.Array:
        """Where an action sends each paddle, relative to home in units of reach, (paddles, 5)."""
        return action.reshape(self.home.shape)

    def observe(self, ball: BallState, place, rate, memory) -> jax.Array:
        """What the policy sees, (observations,)."""
        position, velocity, spin = self.ball_scale
        parts = [
            (ball.position - self.ball_middle) / position,
            ball.velocity / velocity,
            ball.spin / spin,
            ((place - self.home[: self.played]) / self.reach).ravel(),
            (rate / (self.reach * (self.omega / 2))).ravel(),
            *(jnp.atleast_1d(part).astype(place.dtype) for part in self.recall(memory)),
        ]
        return jnp.concatenate(parts)

    @property
    def room(self) -> Any:
        """Two corners of the box in which the ball is played: what a picture holds, (2, 3), m."""
        return self.ball_middle + 2 * jnp.stack([-self.ball_scale[0], self.ball_scale[0]])

    def poses(self, state: EnvState) -> tuple[Pose, ...]:
        """Where the paddles are."""
        now = jnp.zeros_like(self.omega)
        return tuple(
            Servo(place, rate, place, self.omega, orientation)(now)
            for place, rate, orientation in zip(state.place, state.rate, self.orientation)
        )

    @abc.abstractmethod
    def serve(self, key: jax.Array) -> tuple[BallState, dict[str, jax.Array]]:
        """The ball and the memory at the start."""

    @abc.abstractmethod
    def judge(
        self, before: EnvState, after: EnvState, rollout: Rollout
    ) -> tuple[dict[str, jax.Array], jax.Array, jax.Array, dict[str, jax.Array]]:
        """Memory, reward, done and metrics of a step that took ``before`` to ``after``."""

    def reset(self, key: jax.Array) -> EnvState:
        return strong(self._start(*self.serve(key)))

    def _start(self, ball: BallState, memory: dict[str, jax.Array]) -> EnvState:
        still = jnp.zeros_like(self.home)
        obs = self.observe(ball, self.home, still, memory)
        zero = jnp.zeros((), self.home.dtype)
        done, count = jnp.asarray(False), jnp.zeros((), jnp.int32)
        metrics = dict.fromkeys(self.measured, zero)
        return EnvState(ball, self.home, still, memory, obs, zero, done, count, metrics)

    def step(self, state: EnvState, action: jax.Array) -> EnvState:
        """See :class:`Env`.

        Raises:
            ValueError: the action has another shape than (actions,), or is concrete and not finite;
                a traced one that is not finite ends the episode with a reward of NaN.
            TypeError: the action is not real.
        """
        count = len(AXES) * self.played
        action = _check.floating("action", action, (count,)).astype(self.home.dtype)
        action = _check.in_range("action", action)
        # A finished episode is put out of harm's way before the step as well as after it: the
        # derivative of a branch not taken must be finite.
        still = BallState(self.ball_middle, *jnp.zeros((2, 3), self.home.dtype))
        parked = self._start(still, state.memory)
        moved = self._moved(choose(state.done, parked, state), action)
        kept = dataclasses.replace(state, reward=jnp.zeros_like(state.reward))
        return strong(choose(state.done, kept, moved))

    def flight(self, state: EnvState, action: jax.Array) -> tuple[Rollout, tuple[Servo, ...]]:
        """What an action leads to in one period, and how the paddles move meanwhile."""
        targets = self.home + self.reach * self.steer(jnp.clip(action, -1, 1), state.memory)
        servos = tuple(
            Servo(state.place[p], state.rate[p], targets[p], self.omega, self.orientation[p])
            for p in range(self.paddles)
        )
        rollout = simulate(
            self.world,
            state.ball,
            servos,
            duration=self.period,
            step=self.period,
            max_impacts=self.impacts,
        )
        return rollout, servos

    def _moved(self, state: EnvState, action: jax.Array) -> EnvState:
        rollout, servos = self.flight(state, action)
        ends = [servo.at(jnp.asarray(self.period, self.home.dtype)) for servo in servos]
        place, rate = (jnp.stack(parts) for parts in zip(*ends, strict=True))
        after = dataclasses.replace(
            state, ball=rollout.final, place=place, rate=rate, steps=state.steps + 1
        )
        memory, reward, done, metrics = self.judge(state, after, rollout)
        obs = self.observe(after.ball, place, rate, memory)
        finite = jnp.isfinite(action).all()
        reward, done = jnp.where(finite, reward, jnp.nan), done | ~finite
        return dataclasses.replace(
            after, memory=memory, obs=obs, reward=reward, done=done, metrics=metrics
        )


def fields(
    world: World,
    homes: Sequence[Sequence[float]],
    normals: Sequence[ArrayLike],
    reach: ArrayLike,
    omega: float,
    ball_scale: ArrayLike,
    ball_middle: ArrayLike,
    period: float,
    limit: int,
) -> dict[str, Any]:
    """The checked settings every paddle task has, by field name.

    Raises:
        ValueError: not one home and normal for each driven surface of the world; a wrong shape or
            sign.
    """
    count = world.driven_count
    if not count == len(homes) == len(normals):
        raise ValueError(
            f"world: expected {len(homes)} driven surfaces, one for each paddle, got {count}"
        )
    if not (0 < period < math.inf and isinstance(limit, int) and limit > 0):
        raise ValueError(f"period, limit: expected positive numbers, got {period}, {limit}")
    reach = _check.floating("reach", reach, (5,))
    return {
        "world": world,
        "home": _check.in_range("home", _check.floating("home", homes, (count, 5))),
        "orientation": jnp.stack([facing(_check.direction("normal", n)) for n in normals]),
        "reach": _check.in_range("reach", reach, 0.0, open_low=True),
        "omega": _check.in_range("omega", omega, 0.0, open_low=True),
        "ball_scale": jnp.broadcast_to(_check.floating("ball_scale", ball_scale), (3, 3)),
        "ball_middle": _check.floating("ball_middle", ball_middle, (3,)),
        "period": float(period),
        "limit": limit,
    }
