"""What simulate promises: finite edge cases, statuses, dtypes, transformations, errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct
from one_surface import final, forward_jacobian, play, reverse_jacobian, setup

from diffsim.physics import (
    Ball,
    BallState,
    ConstantCoefficients,
    Pose,
    Status,
    Surface,
    World,
    floor,
    paddle,
    simulate,
    table,
)
from diffsim.physics.vector import Vector

R = 0.02


def moving(**changes):
    """A rough disk-less paddle, both faces; the kind of setup whose Jacobians are compiled."""
    start = {"restitution": 0.8, "friction": 0.2, "density": 1.2} | changes
    return setup(driven=True, two_sided=True, **start)


EDGE_CASES = {
    "grazing": {"position": (0, 0, R + 0.1), "velocity": (1.0, 0, np.sqrt(2 * 9.81 * 0.1)),
                "gravity": (0, 0, -9.81), "density": 0.0},
    "along the surface": {"position": (0, 0, R), "velocity": (1.0, 0, 0)},
    "patch edge": {"position": (0.3, 0.3, 0.5), "half_extents": (0.3, 0.3)},
    "zero speed, no gravity": {"gravity": (0, 0, 0)},
    "zero speed on the surface": {"position": (0, 0, R)},
    "no slip": {"velocity": (1.0, 0, -1.0), "spin": (0, 50.0, 0), "density": 0.0},
    "centre on the plane": {"position": (0, 0, 0), "velocity": (0, 0, -1.0)},
    "dead surface": {"restitution": 0.0, "velocity": (1.0, 0, -1.0)},
}  # fmt: skip


@pytest.mark.parametrize("case", EDGE_CASES)
def test_edge_cases_have_finite_values_and_gradients(case):
    start = moving(**EDGE_CASES[case])
    rollout = play(start)
    assert rollout.status == (Status.CROSSED if case == "centre on the plane" else Status.OK)
    forward, reverse = forward_jacobian(start), reverse_jacobian(start)
    for tree in (rollout, forward, reverse):
        assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(tree))
    for ours, other in zip(jax.tree.leaves(forward), jax.tree.leaves(reverse), strict=True):
        np.testing.assert_allclose(ours, other, atol=1e-9 * max(1, np.abs(ours).max()))


def test_a_ball_that_misses_the_patch_falls_through():
    inside, outside = (moving(position=(x, 0, 0.5), half_extents=(0.3, 0.3)) for x in (0.29, 0.31))
    assert play(inside).impacts.valid[0]
    missed = play(outside)
    assert not missed.impacts.valid.any()
    assert missed.impacts.surface.tolist() == [-1] * len(missed.impacts.surface)
    assert missed.final.position[2] < 0


def test_statuses():
    bounces = moving(position=(0, 0, 0.02001), restitution=1.0, density=0.0)
    assert play(bounces).status == Status.IMPACTS_EXHAUSTED  # 3 ms apart
    assert play(moving(velocity=(np.nan, 0, 0))).status == Status.NOT_FINITE


@pytest.mark.parametrize("speed", [1e4, 1e200])
def test_a_ball_too_fast_for_the_step_stops_there(speed):
    start = moving(velocity=(speed, 0, 0))
    rollout = play(start)
    assert rollout.status == Status.TOO_FAST
    np.testing.assert_array_equal(rollout.final.velocity, [speed, 0, 0])
    for tree in (rollout, forward_jacobian(start), reverse_jacobian(start)):
        assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(tree))


@struct.dataclass
class Wind:
    """Drag in air that moves at 30 m/s along x."""

    def __call__(self, ball, air, velocity, spin):
        return ConstantCoefficients()(ball, air, velocity - Vector(30.0, 0.0, 0.0), spin)


def test_a_ball_at_rest_is_not_too_fast_for_a_wind():
    world = World.create([], aerodynamics=Wind())
    rollout = simulate(world, BallState.create([0.0, 0.0, 1.0]), duration=0.2, step=0.1)
    assert rollout.status == Status.COARSE_STEP  # k |v| h = 0.4 in that wind
    assert 5 < rollout.final.velocity[0] < 30


@pytest.mark.parametrize("speed", [1e-8, 1e-3, 0.1])
def test_a_slow_ball_is_not_too_fast_in_single_precision(speed):
    start = BallState.create(*np.float32([[0, 0, 9], [speed, speed, 0], [3, 50, 100]]))
    world = World.create([], gravity=(0.0, 0.0, -9.81))
    assert simulate(world, start, duration=0.5, step=0.1).status == Status.OK


def test_the_record_is_consistent():
    rollout = play(moving(velocity=(1.0, 0, -1.0), spin=(0, 20.0, 30.0)))
    valid, impacts = np.asarray(rollout.impacts.valid), rollout.impacts
    assert valid.sum() >= 1
    assert np.all(valid[: valid.sum()])
    assert np.all(np.diff(impacts.time[valid]) > 0)
    assert np.all(np.asarray(impacts.surface)[valid] == 0)
    np.testing.assert_allclose(impacts.before.position, impacts.after.position, atol=1e-12)
    assert np.all(impacts.before.velocity[valid, 2] < 0)
    assert np.all(impacts.after.velocity[valid, 2] > 0)
    for first, last, leaf in zip(
        jax.tree.leaves(play(moving()).states),
        jax.tree.leaves(rollout.final),
        jax.tree.leaves(rollout.states),
        strict=True,
    ):
        assert leaf.shape == first.shape
        np.testing.assert_array_equal(leaf[-1], last)


def test_single_precision_follows_the_state():
    mixed = {"velocity": (1.0, 0.2, -1.0), "spin": (0, 50.0, 20.0)}
    single, double = (moving(**mixed, dtype=d) for d in (jnp.float32, jnp.float64))
    rollout = play(single)
    floats = [leaf.dtype for leaf in jax.tree.leaves(rollout) if leaf.dtype.kind == "f"]
    assert set(floats) == {jnp.dtype(jnp.float32)}
    # Rounding 1e-7 of a time near 0.2 s at 3 m/s, then of 80 operations; spin is 1/R larger.
    scale = np.repeat([1.0, 1.0, 1 / R], 3)
    ours = np.concatenate(jax.tree.leaves(rollout.final))
    np.testing.assert_allclose(ours / scale, final(double) / scale, rtol=0, atol=1e-5)


def test_single_precision_is_right_to_ten_micrometres():
    """Flights of 1 s over table and floor at the default step, spin and drag on."""
    low = jnp.array([1.0, -0.3, 0.9, -6.0, -0.5, -1.0, -50.0, -50.0, -50.0])
    high = jnp.array([1.3, 0.3, 1.3, -3.0, 0.5, 2.0, 50.0, 50.0, 50.0])
    drawn = jax.random.uniform(jax.random.key(0), (64, 9), jnp.float32, low, high)

    def fly(numbers):
        world = World.create([table(), floor()])
        world = jax.tree.map(lambda leaf: jnp.asarray(leaf, numbers.dtype), world)
        state = BallState(*jnp.split(numbers, 3))
        rollout = simulate(world, state, duration=1.0)
        return rollout.final.position, rollout.impacts.valid.sum(), rollout.status

    single, double = (jax.vmap(fly)(drawn.astype(d)) for d in (jnp.float32, jnp.float64))
    assert single[0].dtype == jnp.float32
    assert double[0].dtype == jnp.float64
    assert not np.any(single[2])
    assert not np.any(double[2])
    assert np.min(single[1]) >= 1
    np.testing.assert_allclose(single[0], double[0], rtol=0, atol=1e-5)


@pytest.mark.slow  # two minutes of compiling the widened code
def test_transformations_compose():
    """jit(vmap(grad)), grad(sum(vmap)), jvp and vjp against the compiled Jacobian."""
    template = moving(velocity=(1.0, 0.2, -1.0), spin=(0, 50.0, 20.0))
    velocities = template.velocity + jnp.array([[0.0, 0, 0], [0.3, -0.2, 0.5], [-1.0, 0, -2.0]])
    traces = []

    def height(velocity):
        traces.append(1)
        return jnp.sum(final(template.replace(velocity=velocity))[:3])

    true = np.stack([
        forward_jacobian(template.replace(velocity=v)).velocity[:3].sum(0) for v in velocities
    ])  # fmt: skip
    both = jax.jit(
        lambda vs: (
            jax.vmap(jax.grad(height))(vs),
            jax.grad(lambda v: jnp.sum(jax.vmap(height)(v)))(vs),
            jax.jvp(height, (vs[1],), (jnp.ones(3),))[1],
        )
    )
    each, summed, along = both(velocities)
    np.testing.assert_allclose(each, true, rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(summed, true, rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(along, true[1].sum(), rtol=1e-9)
    count = len(traces)
    both(velocities * 1.01)
    assert len(traces) == count


def test_new_values_do_not_retrace():
    traces, counts = [], []

    def place(center, time):
        traces.append(1)
        zero = jnp.zeros(3, time.dtype)
        return Pose(center, jnp.eye(3, dtype=time.dtype), zero, zero)

    world = World.create([paddle()])
    for height in (0.0, 0.1, 0.2):
        state = BallState.create([0.0, 0.0, 0.5 + height])
        path = jax.tree_util.Partial(place, jnp.array([0.0, 0.0, height]))
        rollout = simulate(world, state, path, duration=0.5, step=0.25, max_impacts=4)
        counts.append(len(traces))
        assert rollout.impacts.valid[0]
    assert counts[0] == counts[1] == counts[2] > 0


STATE = BallState(jnp.array([0.0, 0, 1]), jnp.zeros(3), jnp.zeros(3))
CALLS = {
    "world": (lambda: simulate(None, STATE, duration=1.0),
              TypeError, "world: expected a World, got NoneType"),
    "state": (lambda: simulate(World.create(), jnp.zeros(9), duration=1.0),
              TypeError, "state: expected a BallState, got"),
    "duration": (lambda: simulate(World.create(), STATE, duration=-1.0),
                 ValueError, "duration: expected a positive Python number, got -1.0"),
    "step": (lambda: simulate(World.create(), STATE, duration=1.0, step=float("nan")),
             ValueError, "step: expected a positive Python number, got nan"),
    "path missing": (lambda: simulate(World.create([paddle()]), STATE, duration=1.0),
                     ValueError, "path: expected one for each of 1 driven surfaces, got 0"),
    "path too many": (lambda: simulate(World.create(), STATE, lambda t: t, duration=1.0),
                      ValueError, "path: expected one for each of 0 driven surfaces, got 1"),
    "state shape": (
        lambda: simulate(World.create(), STATE.replace(spin=jnp.zeros(2)), duration=1.0),
        ValueError, "spin: expected shape (3,), got (2,)"),
    "state type": (lambda: BallState.create([0.0, 0, 1j]),
                   TypeError, "position: expected a floating dtype, got complex"),
    "state text": (lambda: BallState.create("up"),
                   TypeError, "position: expected real numbers, got 'up'"),
    "surface": (lambda: World.create(["table"]),
                TypeError, "surfaces: expected Surface records, got 'table'"),
    "gravity": (lambda: World.create(gravity=-9.81),
                ValueError, "gravity: expected shape (3,), got ()"),
    "mass": (lambda: Ball.create(mass=0.0),
             ValueError, "mass: expected in (0, inf], got 0.0"),
    "restitution": (lambda: Surface.create(restitution=1.6),
                    ValueError, "restitution: expected in [0, 1.5], got 1.6"),
    "friction": (lambda: Surface.create(friction=-0.1),
                 ValueError, "friction: expected in [0, inf], got -0.1"),
    "normal": (lambda: Surface.create(normal=(0, 0, 0)),
               ValueError, "normal: expected a direction, got the zero vector"),
    "u": (lambda: Surface.create(u=(0, 0, 2.0)),
          ValueError, "u: expected a direction across the normal, got [0.0, 0.0, 2.0] along it"),
    "extents": (lambda: Surface.create(half_extents=(1.0, 0.0)),
                ValueError, "half_extents: expected in (0, inf], got [1.0, 0.0]"),
}  # fmt: skip


@pytest.mark.parametrize("case", CALLS)
def test_bad_input_is_named(case):
    call, kind, message = CALLS[case]
    with pytest.raises(kind) as caught:
        call()
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_a_traced_duration_is_refused():
    def end(duration):
        return simulate(World.create(), STATE, duration=duration).final.position

    with pytest.raises(ValueError, match="duration: expected a positive Python number"):
        jax.jit(end)(1.0)


def test_velocity_and_spin_that_are_not_given_have_the_type_of_the_position(dtype):
    for given in ((), (np.ones(3, dtype),)):
        state = BallState.create(np.zeros(3, dtype), *given)
        assert {leaf.dtype for leaf in jax.tree.leaves(state)} == {jnp.dtype(dtype)}
