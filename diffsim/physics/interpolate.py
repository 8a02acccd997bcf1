"""A rollout at any time: cubic pieces between its grid points, broken at its impacts."""

import jax
import jax.numpy as jnp

from diffsim import _check
from diffsim.physics.contact.base import Impacts
from diffsim.physics.simulate import Rollout
from diffsim.physics.state import BallState


def hermite(u, length, x0, v0, x1, v1):
    """Position and velocity at u in [0, 1] of the cubic through two states ``length`` s apart.

    x = (1 − u)²[(1 + 2u) x₀ + u h v₀] + u²[(3 − 2u) x₁ − (1 − u) h v₁],  v = x′(u)/h;
    arithmetic only, so for NumPy and JAX arrays alike. ``length`` must not be 0.

    >>> hermite(0.5, 2.0, 0.0, 1.0, 2.0, 1.0)  # an even motion
    (1.0, 1.0)
    """
    x = (1 - u) ** 2 * ((1 + 2 * u) * x0 + u * length * v0)
    x += u**2 * ((3 - 2 * u) * x1 - (1 - u) * length * v1)
    v = (1 - u) * (1 - 3 * u) * v0 + u * (3 * u - 2) * v1 + 6 * u * (1 - u) * (x1 - x0) / length
    return x, v


def states_at(rollout: Rollout, times: jax.Array) -> BallState:
    """The ball of one rollout at ``times``, just after where an impact happens at that time.

    Position and velocity by :func:`hermite` between the neighbouring grid points and impacts
    (error O(h⁴) and O(h³) in the rollout's step h), spin linearly. Differentiable, the times of
    the impacts included. Times outside the rollout give its first or final state.

    Args:
        rollout: of one ball; ``jax.vmap`` for more.
        times: (k,), s.

    Returns:
        leaves (k, 3).

    Raises:
        ValueError: ``times`` is not one axis; ``rollout`` is a batch.

    >>> from diffsim.physics import World, simulate
    >>> drop = BallState.create([0.0, 0.0, 0.88])
    >>> rollout = simulate(World.create(), drop, duration=0.2)
    >>> states_at(rollout, jnp.array([0.06])).position[0, 2].round(3).item()  # 0.88 − ½ g t²
    0.862
    """
    times = _check.floating("times", times)
    if times.ndim != 1:
        raise ValueError(f"times: expected shape (k,), got {times.shape}")
    if rollout.times.ndim != 1:
        raise ValueError(f"rollout: expected one, got a batch {rollout.times.shape[:-1]}")
    impacts, grid = rollout.impacts, rollout.times
    count = grid.shape[0] - 1
    hits = jnp.where(impacts.valid, impacts.time, jnp.inf)
    times = jnp.clip(times.astype(grid.dtype), grid[0], grid[-1])

    def one(time):
        cell = jnp.clip((time / grid[-1] * count).astype(int), 0, count - 1)
        hit = jnp.sum(hits <= time)  # impacts so far
        last, coming = jnp.maximum(hit - 1, 0), jnp.minimum(hit, hits.shape[0] - 1)
        from_hit = (hit > 0) & (hits[last] > grid[cell])
        to_hit = (hit < hits.shape[0]) & (hits[coming] < grid[cell + 1])
        t0, start = _choose(from_hit, impacts, "after", last, rollout, cell)
        t1, end = _choose(to_hit, impacts, "before", coming, rollout, cell + 1)
        apart = t1 > t0
        length = jnp.where(apart, t1 - t0, 1.0)
        u = jnp.where(apart, (time - t0) / length, 0.0)
        x, v = hermite(
            u, length, start.position, start.velocity, end.position, end.velocity
        )  # fmt: skip
        return BallState(x, v, start.spin + u * (end.spin - start.spin))

    return jax.vmap(one)(times)


def _choose(hit, impacts: Impacts, side: str, index, rollout: Rollout, cell):
    """Time and state of an impact's side where ``hit``, else of a grid point."""
    of_hit = (impacts.time[index], jax.tree.map(lambda x: x[index], getattr(impacts, side)))
    of_grid = (rollout.times[cell], jax.tree.map(lambda x: x[cell], rollout.states))
    return jax.tree.map(lambda a, b: jnp.where(hit, a, b), of_hit, of_grid)
