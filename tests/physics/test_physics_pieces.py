"""Paths as polynomial pieces: how close, where they break, and a status where they are not it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffsim.motion import GENERATORS
from diffsim.physics import BallState, Pose, Status, World, paddle, simulate
from diffsim.physics.pieces import boundaries, pieces, rates
from diffsim.physics.proximity import coordinates


@pytest.mark.parametrize("name", GENERATORS)
def test_pieces_follow_the_path(name):
    """At the default step, to 1e-9 m and, 8 cm from the centre, in direction; end included."""
    generator = GENERATORS[name].create(duration=0.83, normal=(1.0, 0.0, 0.2))
    weights = jax.random.normal(jax.random.key(1), (generator.weight_count,))
    path, grid = generator(weights), jnp.linspace(0.0, 1.2, 25)
    ends, where = boundaries((path,), grid)
    np.testing.assert_array_equal(ends[where], grid)
    series, miss = pieces(path, ends[:-1], ends[1:])
    assert miss < 2e-8
    for share in (0.001, 0.31, 0.77, 0.999):
        length = jnp.diff(ends)
        x = jnp.full_like(length, 2 * share - 1)
        jets = rates(jnp.moveaxis(series, 0, -1), x, length / 2, 2)
        poses = jax.vmap(path)(ends[:-1] + share * length)
        true = jnp.moveaxis(jnp.stack(jax.vmap(coordinates)(poses)), 1, -1)
        error = jnp.abs(jets - true)[..., length > 1e-9].max(axis=-1)
        for part, bounds in ((slice(3), (1e-9, 1e-7)), (slice(3, 12), (1.2e-8, 5e-6))):
            assert error[0, part].max() < bounds[0]
            assert error[1, part].max() < bounds[1]


def lifted(height, speed):
    """A level paddle at a height that moves up at a speed, both functions of time."""

    def path(t):
        zero = jnp.zeros_like(t)
        up = jnp.stack([zero, zero, jnp.ones_like(t)])
        return Pose(up * height(t), jnp.eye(3, dtype=t.dtype), up * speed(t), 0 * up)

    return path


PATHS = {
    "smooth": (lambda t: 0.1 * jnp.sin(9 * t), lambda t: 0.9 * jnp.cos(9 * t), Status.OK),
    "too fast": (
        lambda t: 0.01 * jnp.sin(1200 * t), lambda t: 12 * jnp.cos(1200 * t), Status.ROUGH_PATH),
    "jumps": (lambda t: jnp.where(t > 0.13, 0.1, 0.0), lambda t: 0 * t, Status.ROUGH_PATH),
    "wrong speed": (lambda t: 0.1 * t, lambda t: 0 * t, Status.ROUGH_PATH),
    "not finite": (lambda t: jnp.log(0.1 - t), lambda t: 1 / (t - 0.1), Status.NOT_FINITE),
}  # fmt: skip


@pytest.mark.parametrize("name", PATHS)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64], ids=["f32", "f64"])
def test_a_path_that_is_not_followed_has_a_status(name, dtype):
    height, speed, status = PATHS[name]
    start = BallState.create(jnp.asarray([0.0, 0.0, 0.8], dtype))
    rollout = simulate(World.create([paddle()]), start, lifted(height, speed), duration=0.3)
    assert rollout.status == status
