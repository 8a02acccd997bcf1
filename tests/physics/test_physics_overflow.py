"""Gradients stay finite where the search for an impact finds none and could be led far astray."""

import jax
import jax.numpy as jnp
import numpy as np

from diffsim.physics import BallState, World, floor, native, simulate


def test_a_ball_at_its_apex_over_the_floor():
    """There the gap's rate is tiny: a Newton step from it leaves the arc by millions of steps."""
    world, dtype = World.create([floor()]), jnp.float32

    def height(speed):
        state = BallState(
            *(jnp.stack([0 * speed, 0 * speed, z]) for z in (1 + 0 * speed, speed, 0 * speed))
        )
        return simulate(world, state, duration=0.04, step=0.04, max_impacts=1).final.position[2]

    apex = jnp.asarray(0.04 * 9.81, dtype)
    speeds = apex + jnp.linspace(-1e-3, 3e-3, 2001, dtype=dtype)
    slopes = native.function(lambda speeds: jax.lax.map(jax.grad(height), speeds))(speeds)
    np.testing.assert_allclose(slopes, 0.04, rtol=0.01)
