"""Worlds by the batch: any number of a world may differ from ball to ball."""

import functools
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, PartitionSpec

from diffsim.physics import Air, Ball, BallState, Pose, Surface, World, simulate
from diffsim.physics.simulate import memory

# restitution, friction, drag, radius, gravity, tilt, height and speed
START = np.array([0.8, 0.2, 0.4, 0.02, 9.81, 0.05, 0.1, 1.0])


def end(numbers):
    """Final position and velocity, (6,), in a world of which every number is given."""
    e, friction, drag, radius, gravity, tilt, height, speed = numbers
    zero, one = jnp.zeros_like(e), jnp.ones_like(e)
    ground = Surface.create(
        center=jnp.stack([zero, zero, height]), normal=jnp.stack([tilt, zero, one]),
        restitution=e, friction=friction,
    )  # fmt: skip
    ball = Ball.create(drag_coefficient=drag, radius=radius)
    world = World.create(
        [ground], ball=ball, air=Air.create(1.2), gravity=jnp.stack([zero, zero, -gravity])
    )
    state = BallState.create(
        jnp.stack([zero, zero, 0.3 * one]), jnp.stack([speed, zero, -one]), jnp.zeros(3)
    )
    final = simulate(world, state, duration=0.3, step=0.1, max_impacts=3).final
    return jnp.concatenate([final.position, final.velocity])


def drawn(count):
    rng = np.random.default_rng(5)
    return jnp.asarray(START * (1 + 0.1 * rng.uniform(-1, 1, (count, len(START)))))


each = jax.jit(end)
every = jax.jit(jax.vmap(end))


SLOW = pytest.mark.slow


@pytest.mark.parametrize("count", [pytest.param(0, marks=SLOW), pytest.param(1, marks=SLOW), 5])
def test_a_batch_of_worlds_is_its_worlds(count):
    numbers = drawn(count)
    ends = every(numbers)
    assert ends.shape == (count, 6)
    for one, numbers_of_one in zip(ends, numbers, strict=True):
        np.testing.assert_allclose(one, each(numbers_of_one), rtol=1e-12, atol=1e-13)


def differences(numbers, step=1e-6):
    """d end/d numbers by central differences, (6, 8)."""
    moves = step * np.eye(len(START))
    return np.asarray(every(numbers + moves) - every(numbers - moves)).T / (2 * step)


@pytest.mark.slow  # a short form is the example of World.create
def test_gradients_of_a_batch_in_every_number():
    numbers = drawn(3)
    slopes = jax.jit(jax.vmap(jax.jacrev(end)))(numbers)
    for slope, numbers_of_one in zip(slopes, numbers, strict=True):
        np.testing.assert_allclose(slope, differences(numbers_of_one), rtol=1e-6, atol=1e-7)


def linearized(numbers):
    along = jax.linearize(end, numbers)[1]
    return jax.vmap(along, out_axes=1)(jnp.eye(len(START)))


def sharded(numbers):
    mesh = Mesh(np.array(jax.devices()[:1]), "i")
    spec = PartitionSpec("i")
    split = jax.shard_map(jax.vmap(end), mesh=mesh, in_specs=spec, out_specs=spec)
    return jax.jacfwd(lambda x: split(x[None])[0])(numbers)


TRANSFORMS = {
    "jacfwd": lambda: jax.jit(jax.jacfwd(end)),
    "linearize": lambda: jax.jit(linearized),
    "checkpoint": lambda: jax.jit(jax.jacrev(jax.checkpoint(end))),
    "scan": lambda: jax.jit(
        jax.jacrev(lambda x: jax.lax.scan(lambda c, row: (c, end(row)), 0.0, x[None])[1][0])
    ),
    "shard_map": lambda: jax.jit(sharded),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", TRANSFORMS)
def test_transforms_give_the_same_slopes(name):
    numbers = drawn(1)[0]
    np.testing.assert_allclose(
        TRANSFORMS[name]()(numbers), differences(numbers), rtol=1e-6, atol=1e-7
    )


@pytest.mark.slow
def test_hessian():
    numbers, step = drawn(1)[0], 1e-5
    slope = jax.jit(jax.jacfwd(lambda x: end(x)[2]))
    curvature = jax.jit(jax.hessian(lambda x: end(x)[2]))(numbers)
    moves = step * jnp.eye(len(START))
    true = np.stack([(slope(numbers + m) - slope(numbers - m)) / (2 * step) for m in moves])
    np.testing.assert_allclose(curvature, true, rtol=1e-4, atol=1e-4 * np.abs(true).max())


@pytest.mark.parametrize(
    ("steps", "room"),
    [(2000, 1000), pytest.param(8000, 4000, marks=SLOW), pytest.param(2000, 8000, marks=SLOW)],
)
def test_memory_is_linear_in_steps_and_impacts(steps, room):
    world = World.create([Surface.create(), Surface.create(driven=True, name="moves")])
    zero = jnp.zeros(3, jnp.float32)
    still = Pose(zero - 5, jnp.eye(3, dtype=zero.dtype), zero, zero)

    def flight(state):
        path = lambda t: still  # noqa: E731
        return simulate(world, state, path, duration=0.05 * steps, max_impacts=room)

    took = jax.jit(flight).lower(BallState.create(zero)).compile().memory_analysis()
    took = took.temp_size_in_bytes + took.output_size_in_bytes
    assert took == pytest.approx(memory(steps, room, driven=1), rel=0.25)  # by flags of XLA


@pytest.mark.slow
def test_arguments_may_be_donated():
    numbers = drawn(5)
    wanted = np.asarray(every(numbers))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # where no result fits into the donated memory
        given = functools.partial(jax.jit, donate_argnums=0)(jax.vmap(end))(numbers + 0)
    np.testing.assert_allclose(given, wanted, rtol=1e-12)
