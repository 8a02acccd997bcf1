"""How gradients grow along a closed loop, in closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffsim import envs
from studies.growth import growth


@pytest.mark.slow
def test_growth_of_the_jacobian():
    """A ball in free flight over a still paddle: dx/dv = t, and the loop without policy."""
    env = envs.make("paddle-juggle", height=3.0)
    starts = jax.vmap(env.reset)(jax.random.split(jax.random.key(0), 3))
    norms, _ = growth(env, lambda _, obs: jnp.zeros(5), None, starts, 8)
    time = env.period * np.arange(1, 9)
    unit = np.asarray(env.ball_scale)[:2]
    moved = 9 + np.outer(time**2, unit[1] ** 2 / unit[0] ** 2).sum(axis=1)
    np.testing.assert_allclose(norms, np.tile(np.sqrt(moved), (3, 1)), rtol=0.05)  # drag
