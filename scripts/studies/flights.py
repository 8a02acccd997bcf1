"""Made flights with known constants: rallies over the net, seen with noise and gaps."""

import jax
import jax.numpy as jnp
import numpy as np

from diffsim._check import in_range
from diffsim.identification.observations import Observations
from diffsim.physics.interpolate import states_at
from diffsim.physics.simulate import simulate
from diffsim.physics.state import BallState
from diffsim.physics.world import World


def made(
    world: World,
    seed: int = 0,
    *,
    flights: int = 12,
    rate: float = 83.0,
    duration: float = 0.72,
    noise: float = 2e-3,
    missing: float = 0.1,
    spin: float = 60.0,
    spin_noise: float | None = 5.0,
) -> Observations:
    """Flights from one end of the table over the net, most with a bounce at the other end.

    Args:
        world: with the true constants; fixed surfaces only.
        seed: of the starts, the noise and the gaps.
        flights: how many.
        rate: samples a second, Hz.
        duration: of each flight, s.
        noise: standard deviation of a coordinate, m.
        missing: share of the samples that are lost.
        spin: standard deviation of a component of the spin, rad/s.
        spin_noise: standard deviation of a measured component, rad/s; None measures no spin.

    >>> made(World.create(), flights=2).positions.shape
    (2, 60, 3)
    """
    in_range("noise", noise, 0.0)
    random = np.random.default_rng(seed)
    low = np.array([-1.4, -0.4, 0.95, 3.5, -1.0, 1.2])
    high = np.array([-1.2, 0.4, 1.2, 6.0, 1.0, 2.5])
    starts = random.uniform(low, high, (flights, 6))
    spins = spin * random.normal(size=(flights, 3))
    times = np.arange(round(rate * duration)) / rate

    def one(start):
        ball = BallState(start[:3], start[3:6], start[6:])
        rollout = simulate(world, ball, duration=float(duration), step=0.01)
        seen = states_at(rollout, jnp.asarray(times))
        return jnp.stack([seen.position, seen.spin])

    play = jax.jit(jax.vmap(one))
    seen = np.array(play(jnp.asarray(np.c_[starts, spins])), float)
    scale = np.array([noise, 0.0 if spin_noise is None else spin_noise])
    seen += scale[:, None, None] * random.normal(size=seen.shape)
    lost = random.random((flights, len(times))) < missing
    seen = np.where(lost[:, None, :, None], np.nan, seen)
    return Observations.create(
        np.tile(times, (flights, 1)), seen[:, 0], None if spin_noise is None else seen[:, 1]
    )
