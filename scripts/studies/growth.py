"""How fast gradients grow along a closed loop: the size of d(ball at t)/d(ball at 0)."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffsim.envs import EnvState, PaddleEnv
from diffsim.physics import BallState
from diffsim.training.closed_loop import LoopSettings
from diffsim.training.loop import Trainer
from studies import harness


def growth(
    env: PaddleEnv, act: Callable, params: Any, starts: EnvState, length: int
) -> tuple[np.ndarray, float]:
    """Frobenius norms of the Jacobian of the ball along played episodes, and their growth rate.

    The ball is taken in the units of ``env.ball_scale``. The policy answers to the disturbance: a
    loop that it holds stable has a rate below zero, a chaotic one a positive rate, the largest
    Lyapunov exponent as ``length`` grows.

    Args:
        act: ``act(params, obs) -> action``, using every leaf of ``params``.
        starts: leaves (n, …).
        length: control steps.

    Returns:
        norms (n, length), NaN from where an episode ended; and the rate, 1/s: the slope of the
        median of their logarithms over the second half of the steps.
    """

    def balls(moved, params, start):
        shift = BallState(*(env.ball_scale * moved))
        start = start.replace(ball=jax.tree.map(jnp.add, start.ball, shift))

        def step(state, _):
            after = env.step(state, act(params, state.obs))
            ball = jnp.stack(jax.tree.leaves(after.ball)) / env.ball_scale
            return after, (ball, after.done)

        return jax.lax.scan(step, start, length=length)[1]

    def sizes(params, start):
        still = jnp.zeros((3, 3), env.home.dtype)
        jacobian, done = jax.jacfwd(balls, has_aux=True)(still, params, start)
        return jnp.where(done, jnp.nan, jnp.sqrt(jnp.sum(jacobian**2, axis=(1, 2, 3, 4))))

    norms = np.asarray(jax.jit(jax.vmap(sizes, (None, 0)))(params, starts))
    half = np.arange(length // 2, length)
    middle = np.nanmedian(np.log(norms[:, half]), axis=0)
    return norms, float(np.polyfit(env.period * half, middle, 1)[0])


def benchmark(folder: Path, steps: int = 200, starts: int = 32, seed: int = 0) -> harness.Found:
    """How fast d(ball at t)/d(ball at 0) grows along the episodes of a trained policy.

    Args:
        folder: folder of a run of train_closed_loop.py.
        steps: control steps to follow.
        starts: episodes.
        seed: seed of the starts.
    """
    trainer = Trainer.restored(folder, LoopSettings)
    env: Any = trainer.player.env
    begin = jax.vmap(env.reset)(jax.random.split(jax.random.key(seed), starts))
    norms, rate = growth(env, trainer.player.act, trainer.state.params["network"], begin, steps)
    rows = (
        {"seconds": step * env.period, "median size": float(np.nanmedian(norms[:, step - 1]))}
        for step in range(steps // 8, steps + 1, steps // 8)
    )
    return harness.show(f"size of the Jacobian, growing by {rate:.2f} per second", rows)
