"""Gradients stay finite where a path cannot be followed far outside of the step."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffsim.physics import BallState, Pose, World, paddle, simulate


@pytest.mark.slow
def test_a_ball_slow_against_a_paddle_whose_path_overflows_in_the_past():
    """Where no impact is found, the search must not look where the path is infinite."""
    world = World.create([paddle()])

    def path(time):
        z = 1e-3 * jnp.exp(-20 * time)  # infinite in single precision 5 s ago
        rate, zero = -20 * z, jnp.zeros_like(time)
        still = jnp.zeros(3, time.dtype)
        return Pose(
            jnp.stack([zero, zero, z]), jnp.eye(3, dtype=time.dtype), still, still.at[2].set(rate)
        )

    def height(speed):
        zero = jnp.zeros_like(speed)
        state = BallState(
            jnp.stack([zero, zero, 1 + zero]),
            jnp.stack([zero, zero, speed]),
            jnp.zeros(3, speed.dtype),
        )
        rollout = simulate(world, state, path, duration=0.04, step=0.04, max_impacts=1)
        return rollout.final.position[2]

    slope = jax.jit(jax.grad(height))
    for speed in (0.37, 0.40, 0.43):  # 0.39 m/s is the apex at the end of the step
        np.testing.assert_allclose(slope(jnp.asarray(speed, jnp.float32)), 0.04, rtol=0.01)
