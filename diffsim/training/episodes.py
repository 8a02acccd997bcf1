"""How well a policy does in whole episodes of a step-wise task, with 95 % intervals."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffsim._intervals import Interval, mean_interval, wilson
from diffsim._types import Tree
from diffsim.envs import Env, EnvState
from diffsim.training.evaluate import in_chunks

_CHUNK = 64  # episodes played by one call


class Episodes:
    """Plays whole episodes of one task, compiled once.

    Args:
        env: the task.
        act: ``act(params, obs) -> action``.
    """

    def __init__(self, env: Env, act: Callable[[Any, jax.Array], jax.Array]):
        self.env = env

        def episode(params: Tree, start: EnvState) -> dict[str, jax.Array]:
            def step(carry, _):
                state, totals = carry
                after = env.step(state, act(params, state.obs))
                new = {"return": after.reward, **after.metrics}
                live = ~state.done
                return (after, {n: totals[n] + jnp.where(live, new[n], 0) for n in new}), None

            zero = jnp.zeros_like(start.reward)
            totals = dict.fromkeys(["return", *start.metrics], zero)
            (end, totals), _ = jax.lax.scan(step, (start, totals), length=env.limit)
            return totals | {"steps": end.steps, "done": end.done}

        self._play = jax.jit(jax.vmap(episode, (None, 0)))
        self._start = jax.jit(jax.vmap(env.reset))

    def play(self, params: Tree, key: jax.Array, count: int) -> dict[str, np.ndarray]:
        """The sums over each of ``count`` episodes, its ``steps`` and whether it was ``done``."""
        starts = self._start(jax.random.split(key, count))
        return in_chunks(partial(self._play, params), starts, _CHUNK)

    def evaluate(self, params: Tree, key: jax.Array, count: int = 1000) -> dict[str, Interval]:
        """``count`` fresh episodes, with 95 % intervals.

        The rate of those that last to the time limit has a Wilson interval, the means normal ones.

        Returns:
            ``survival_rate``, ``seconds`` played, ``return`` and the task's metrics, each summed
            over an episode.
        """
        played = self.play(params, key, count)
        lasted = int((~played.pop("done")).sum())
        played["seconds"] = self.env.period * played.pop("steps")
        means = {name: mean_interval(values) for name, values in played.items()}
        return {"survival_rate": wilson(lasted, count), **means}
