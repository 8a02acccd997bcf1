"""The contract of a step-wise task: pure functions of one state, batched from outside."""

import abc
import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import struct

from diffsim._types import Tree
from diffsim.physics import BallState
from diffsim.physics.vector import choose


class Channel(NamedTuple):
    """One number that a policy sees or sets: physical value = offset + scale · number.

    Attributes:
        name: what it is.
        unit: of the physical value.
        scale: physical value of 1, less the offset.
        offset: physical value of 0.
    """

    name: str
    unit: str
    scale: float
    offset: float = 0.0


@struct.dataclass
class EnvState:
    """One moment of an episode, and what the step that led to it brought.

    Attributes:
        ball: the ball.
        place: of each paddle: centre (m) and two tilts (rad), (paddles, 5).
        rate: its time derivative, (paddles, 5).
        memory: what else the task must remember, a dict of arrays.
        obs: what the policy sees, (observations,), of order 1.
        reward: of the last step, ().
        done: whether the episode ended by the rules of the task, () bool.
        steps: control steps since the reset, () int32.
        metrics: the task's own numbers about the last step, each ().
    """

    ball: BallState
    place: jax.Array
    rate: jax.Array
    memory: dict[str, jax.Array]
    obs: jax.Array
    reward: jax.Array
    done: jax.Array
    steps: jax.Array
    metrics: dict[str, jax.Array]


class Env(abc.ABC):
    """A frozen record of settings with ``reset`` and ``step``, both pure functions of one state.

    ``step`` may be differentiated in state and action. An episode that is done stays as it is,
    with reward 0; :func:`restart` puts a fresh start in its place.

    Attributes:
        period: time of a control step, s.
        limit: control steps after which an episode is cut (by :func:`restart` or a wrapper).
    """

    period: float
    limit: int

    @property
    @abc.abstractmethod
    def observations(self) -> tuple[Channel, ...]:
        """The observation table."""

    @property
    @abc.abstractmethod
    def actions(self) -> tuple[Channel, ...]:
        """The action table; each action is clipped to [-1, 1]."""

    @abc.abstractmethod
    def reset(self, key: jax.Array) -> EnvState:
        """A start drawn at random."""

    @abc.abstractmethod
    def step(self, state: EnvState, action: jax.Array) -> EnvState:
        """The state one period later under an action (actions,)."""


def restart(env: Env, outcome: EnvState, fresh: EnvState) -> tuple[EnvState, jax.Array]:
    """A fresh start in the place of an episode that ended, else ``outcome`` itself.

    No gradient crosses from one episode to the next. The fresh start takes over the reward and
    the metrics of the step that ended the episode.

    Args:
        outcome: what a step led to.
        fresh: from ``env.reset``.

    Returns:
        the state to go on from, and whether the episode ended by its rules or its limit, ().

    >>> from diffsim.envs import PaddleJuggle
    >>> env = PaddleJuggle.create(limit=1)
    >>> outcome = env.step(env.reset(jax.random.key(0)), jnp.zeros(5))
    >>> state, ended = restart(env, outcome, env.reset(jax.random.key(1)))
    >>> bool(ended), int(outcome.steps), int(state.steps)
    (True, 1, 0)
    """
    ended = outcome.done | (outcome.steps >= env.limit)
    fresh = dataclasses.replace(fresh, reward=outcome.reward, metrics=outcome.metrics)
    return choose(ended, fresh, outcome), ended


def strong(tree: Tree) -> Tree:
    """Without weak types: a step's output is then like its input, so that a loop compiles once."""

    def convert(leaf):
        number = jnp.issubdtype(leaf.dtype, jnp.number)
        return jax.lax.convert_element_type(leaf, leaf.dtype) if number else leaf

    return jax.tree.map(convert, tree)


def channel_table(channels: tuple[Channel, ...]) -> str:
    """A table of channels as text, one line each.

    >>> print(channel_table((Channel("ball x", "m", 0.2), Channel("ball z", "m", 0.5, 1.0))))
    ball x  m  0 ± 0.2
    ball z  m  1 ± 0.5
    """
    names = max(len(c.name) for c in channels)
    units = max(len(c.unit) for c in channels)
    return "\n".join(
        f"{c.name:{names}}  {c.unit:{units}}  {c.offset:g} ± {c.scale:g}" for c in channels
    )
