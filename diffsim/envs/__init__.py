"""Step-wise tasks on the event-driven physics: a policy sees the ball and steers the paddle.

>>> import jax, jax.numpy as jnp
>>> env = make("paddle-juggle")
>>> state = env.step(env.reset(jax.random.key(0)), jnp.zeros(len(env.actions)))
>>> state.obs.shape, state.reward.shape
((19,), ())

They are brax environments after ``import diffsim.envs.brax_adapter``, and Gymnasium vector
environments as :class:`diffsim.envs.gym_adapter.GymVectorEnv`.
"""

from typing import Any

from diffsim import _check
from diffsim.envs.base import Channel, Env, EnvState, channel_table, restart
from diffsim.envs.hit_target import HitToTargetLoop
from diffsim.envs.juggle import PaddleJuggle
from diffsim.envs.paddle import PaddleEnv
from diffsim.envs.rally import Rally

ENVS: dict[str, Any] = {
    "paddle-juggle": PaddleJuggle,
    "hit-to-target": HitToTargetLoop,
    "rally": Rally,
}


def make(name: str, **settings: Any) -> Env:
    """The named task, with some of its settings changed.

    Raises:
        ValueError: no such name.

    >>> make("paddle-juggle", height=0.3).limit
    250
    >>> make("tennis")
    Traceback (most recent call last):
    ...
    ValueError: name: expected one of paddle-juggle, hit-to-target, rally, got 'tennis'
    """
    return _check.named("name", name, ENVS).create(**settings)


__all__ = [
    "ENVS",
    "Channel",
    "Env",
    "EnvState",
    "HitToTargetLoop",
    "PaddleEnv",
    "PaddleJuggle",
    "Rally",
    "channel_table",
    "make",
    "restart",
]
