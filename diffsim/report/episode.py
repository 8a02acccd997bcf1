"""Moments of a step-wise task as pictures."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from diffsim.envs import Env, EnvState, PaddleEnv
from diffsim.report.picture import Picture
from diffsim.report.stage import outline


class EpisodePicture:
    """Draws states of a task: ball and paddles from the side and from above.

    Args:
        env: the task.

    Raises:
        ValueError: a task that is not played with paddles: what it looks like is not known.

    >>> from diffsim.envs import make
    >>> env = make("paddle-juggle")
    >>> pixels = EpisodePicture(env)(env.reset(jax.random.key(0)))
    >>> pixels.ndim, str(pixels.dtype)
    (3, 'uint8')
    """

    def __init__(self, env: Env):
        if not isinstance(env, PaddleEnv):
            raise ValueError(f"env: expected a task with paddles, got {type(env).__name__}")
        self.env = env
        self.driven = [surface for surface in env.world.surfaces if surface.driven]
        reach = np.asarray(env.reach)[:3]
        homes = [np.asarray(home)[:3] + side * reach for home in env.home for side in (-1, 1)]
        self.picture = Picture(env.world, [np.asarray(env.room), np.array(homes)])
        self.poses = jax.jit(env.poses)

    def __call__(self, state: EnvState) -> np.ndarray:
        """The pixels of a state that is not batched, (height, width, 3) uint8."""
        poses: Any = self.poses(state)
        discs = [
            outline(surface, np.asarray(pose.position), np.asarray(pose.rotation))
            for surface, pose in zip(self.driven, poses)
        ]
        time = int(state.steps) * self.env.period
        return self.picture.draw(np.asarray(state.ball.position), discs, f"t = {time:.2f} s")
