"""A ball that slides and rolls on a fixed plane, against SciPy's solution of its equations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp

from diffsim.physics import Air, Ball, BallState, Status, Surface, World, simulate

R, A, MASS, MU, T = 0.05, 2 / 3, 0.02, 0.3, 1.0
KD, KM = (0.5 * 1.2 * c * np.pi * R**2 / MASS for c in (0.4, 0.6 * R))
NORMAL = np.array([0.02, -0.04, 1.0]) / np.linalg.norm([0.02, -0.04, 1.0])


def free(v, w):
    return np.array([0, 0, -9.81]) - KD * np.linalg.norm(v) * v + KM * np.cross(w, v)


def held(y, slides):
    """d(x, v, w)/dt under Coulomb's law, or with the force that keeps the ball rolling."""
    v, w = y[3:6], y[6:]
    a, slip = free(v, w), y[3:6] - R * np.cross(w, NORMAL)
    along, press = a - NORMAL * (NORMAL @ a), -NORMAL @ a
    force = -MU * press * slip / np.linalg.norm(slip) if slides else -along / (1 + 1 / A)
    assert press > 0
    assert slides or np.linalg.norm(force) < MU * press
    return np.concatenate([v, along + force, np.cross(force, NORMAL) / (A * R)])


def solved(v, w, duration=T):
    """Where the ball is after a while, and when its slip ends."""
    y, settings = np.concatenate([R * NORMAL, v, w]), {"rtol": 1e-11, "atol": 1e-13}
    end = lambda t, y: np.linalg.norm(y[3:6] - R * np.cross(y[6:], NORMAL)) - 1e-7  # noqa: E731
    end.terminal = True
    first = solve_ivp(lambda t, y: held(y, True), (0, duration), y, events=end, **settings)
    y, t = first.y[:, -1], first.t[-1]
    if t == duration:
        return y, t
    slip = y[3:6] - R * np.cross(y[6:], NORMAL)
    force = -slip / (1 + 1 / A)
    y[3:] += np.concatenate([force, np.cross(force, NORMAL) / (A * R)])
    return solve_ivp(lambda t, y: held(y, False), (t, duration), y, **settings).y[:, -1], t


def ours(v, w, step=0.05, duration=T, room=None):
    plane = Surface.create(normal=NORMAL, friction=MU, restitution=0.0)
    ball = Ball.create(MASS, R, A)
    world = World.create([plane], ball=ball, air=Air.create(1.2))
    start = BallState.create(jnp.asarray(R * NORMAL, v.dtype), v, w)
    return simulate(world, start, duration=duration, step=step, max_impacts=room)


def starts(count):
    """Velocities along the plane, and spins about any axis."""
    rng = np.random.default_rng(5)
    v, w = rng.normal(size=(2, count, 3)) * [[[1.0]], [[25.0]]]
    return v - (v @ NORMAL)[:, None] * NORMAL, w


def state(rollout):
    final = rollout.final
    return jnp.concatenate([final.position, final.velocity, final.spin], axis=-1)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_it_slides_and_rolls_as_the_equations_say(dtype):
    v, w = starts(12)
    true, ends = (np.stack(x) for x in zip(*[solved(*each) for each in zip(v, w)]))
    assert np.all(ends < T / 2)
    found = jax.jit(jax.vmap(ours))(jnp.asarray(v, dtype), jnp.asarray(w, dtype))
    assert np.all(found.status == Status.OK)
    error = np.abs(np.asarray(state(found)) - true).max(axis=0)
    unit = np.repeat([1.0, 1.0, 1 / R], 3)
    assert np.all(error < 3e-6 * unit)


def test_the_error_falls_with_the_fourth_power_of_the_step():
    v, w = (x[:1] for x in starts(1))
    w = np.cross(NORMAL, v) / R + 90 * NORMAL  # rolls, and the air turns it
    finest = state(jax.vmap(lambda *x: ours(*x, step=0.00625))(v, w))
    errors = [
        float(jnp.max(jnp.abs(state(jax.vmap(lambda *x, s=s: ours(*x, step=s))(v, w)) - finest)))
        for s in (0.1, 0.05)
    ]
    assert 3.5 < np.log2(errors[0] / errors[1]) < 5.5


def test_where_there_is_no_room_for_the_end_of_a_slip_that_is_told():
    v, w = (x[0] / 10 for x in starts(1))
    assert 0.02 < solved(v, w)[1] < 0.08
    roomy, tight = (ours(v, w, step=0.1, duration=0.1, room=n) for n in (9, 1))
    assert (roomy.status, tight.status) == (Status.OK, Status.COARSE_STEP)
    np.testing.assert_allclose(tight.final.position, roomy.final.position, atol=5e-3)
    apart = tight.final.velocity - R * np.cross(tight.final.spin, NORMAL)
    np.testing.assert_allclose(apart, 0, atol=1e-9)


@pytest.mark.parametrize("mode", [jax.jacfwd, jax.jacrev])
def test_slopes_through_the_end_of_the_slip(mode):
    """Against differences of SciPy's solution; across the plane the start is not varied."""
    v, w = (x[0] for x in starts(1))
    u = np.cross(NORMAL, [0.0, 1.0, 0.0])
    assert 0.1 < solved(v, w)[1] < 0.9 * T

    def moved(x, by):
        return (x[0] + by[0] * u, x[1] + by[1:])

    def difference(k, h=1e-3):
        one, other = (solved(*moved((v, w), s * h * scale[k]))[0] for s in (1, -1))
        return (one - other) / (2 * h)

    scale = np.diag([1.0, 20.0, 20.0, 20.0])
    true = np.stack([difference(k) for k in range(4)], axis=1)
    found = mode(lambda by: state(ours(*moved((v, w), by @ scale))))(jnp.zeros(4))
    unit = np.repeat([1.0, 1.0, 1 / R], 3)[:, None]
    assert np.max(np.abs(found - true) / unit) < 3e-5
