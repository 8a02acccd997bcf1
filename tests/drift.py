"""A step-wise task that costs nothing: a point that drifts away unless it is pushed back."""

import jax
import jax.numpy as jnp
from flax import struct

from diffsim.envs import Channel, Env, EnvState
from diffsim.physics import BallState


@struct.dataclass
class Drift(Env):
    """A point that drifts away unless it is pushed back; lost beyond 2, or NaN for ``poison``."""

    period: float = struct.field(pytree_node=False, default=0.1)
    limit: int = struct.field(pytree_node=False, default=20)
    poison: bool = struct.field(pytree_node=False, default=False)

    @classmethod
    def create(cls, **settings):
        return cls(**settings)

    @property
    def observations(self):
        return tuple(Channel(axis, "m", 1.0) for axis in "xy")

    @property
    def actions(self):
        return tuple(Channel(f"push {axis}", "m", 1.0) for axis in "xy")

    def reset(self, key):
        x = jax.random.uniform(key, (2,), minval=-1.0)
        return self._state(x, jnp.zeros(()), jnp.zeros((), jnp.int32))

    def _state(self, x, reward, steps):
        done, ball = jnp.sum(x**2) > 4, BallState(jnp.append(x, 0.0), jnp.zeros(3), jnp.zeros(3))
        reward = jnp.where(done, 0, reward)
        nothing = jnp.zeros((1, 5))
        return EnvState(ball, nothing, nothing, {}, x, reward, done, steps, {"far": reward})

    def step(self, state, action):
        x = 1.3 * state.obs + 0.5 * action
        reward = 1 / (1 + jnp.sum(x**2))
        after = self._state(x, jnp.where(self.poison, jnp.nan, reward), state.steps + 1)
        kept = state.replace(reward=jnp.zeros(()))
        return jax.tree.map(lambda a, b: jnp.where(state.done, a, b), kept, after)
