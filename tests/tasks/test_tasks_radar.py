"""A radar tracks a ball: exactness, derivatives from antenna and echo to landing, and its error."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffsim import delay
from diffsim.delay.radar import Radar, delay_to_range, range_to_delay
from diffsim.physics import BallState, Paddle, World, table
from diffsim.tasks import RadarTracking
from diffsim.tasks.radar import Ranges

TRUTH = BallState.create([1.25, 0.2, 1.1], [-5.0, 0.3, 1.2])
DRAWS, STEP = 300, 1e-4
# Compiling takes longer than running.
QUICK = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}


def tracking(**options):
    world = World.create([table()])
    return RadarTracking.create(world, Radar.create(32, 20e6, noise=0.02), pulses=6, **options)


def chain(antennas, received):
    return replace(tracking(), antennas=antennas).track(received)


@pytest.fixture(scope="module")
def cases():
    """The chain on one batch: no noise, antennas moved, differences, and many noises."""
    setup = tracking()
    listen = jax.jit(setup.listen)
    noises = np.stack([listen(TRUTH, key) for key in jax.random.split(jax.random.key(1), DRAWS)])
    moved = setup.antennas + 0.1 * jax.random.normal(jax.random.key(2), (4, 3))
    clean = np.asarray(listen(TRUTH))
    rows = [(setup.antennas, clean), (moved, replace(setup, antennas=moved).listen(TRUTH))]
    directions = [(np.eye(12)[k].reshape(4, 3), 0 * clean) for k in range(12)]
    directions += [(np.zeros((4, 3)), noise - clean) for noise in noises[1:4]]
    for sign in (STEP, -STEP):
        rows += [(setup.antennas + sign * a, noises[0] + sign * r) for a, r in directions]
    rows += [(setup.antennas, noise) for noise in noises]
    batch = jax.tree.map(lambda *leaves: jnp.stack(leaves), *rows)
    run = jax.jit(jax.vmap(chain), compiler_options=QUICK)
    ball, landing = jax.tree.map(np.asarray, run(*batch))
    return directions, clean, noises, ball, landing


def test_exact_without_noise_wherever_the_antennas_stand(cases):
    *_, ball, landing = cases
    assert np.all(landing.landed)
    for row in (0, 1):
        np.testing.assert_allclose(ball.state.position[row], TRUTH.position, atol=1e-9)
        np.testing.assert_allclose(ball.state.velocity[row], TRUTH.velocity, atol=1e-8)
    np.testing.assert_allclose(landing.point[0], landing.point[1], atol=1e-9)


def test_derivatives_from_antenna_and_echo_to_landing(cases):
    directions, clean, noises, _, landing = cases
    setup = tracking()

    @partial(jax.jit, compiler_options=QUICK)
    def slopes(received, directions):
        def point(*inputs):
            return chain(*inputs)[1].point

        inputs = setup.antennas, received
        forward = jax.vmap(lambda d: jax.jvp(point, inputs, d)[1])(directions)
        return forward, jax.vmap(jax.vjp(point, *inputs)[1])(jnp.eye(2))

    along = jax.tree.map(lambda *leaves: jnp.stack(leaves), *directions)
    forward, (to_antennas, to_echo) = slopes(noises[0], along)
    points = landing.point[2 : 2 + 2 * len(directions)].reshape(2, -1, 2)
    difference = (points[0] - points[1]) / (2 * STEP)
    np.testing.assert_allclose(forward, difference, rtol=1e-5, atol=1e-6)
    # Reverse mode holds the conjugate of the complex derivative.
    backward = np.einsum("oax,dax->do", to_antennas, along[0])
    backward += np.einsum("opan,dpan->do", to_echo, along[1]).real
    np.testing.assert_allclose(backward, forward, rtol=1e-9, atol=1e-12)
    # Moving every antenna in the plane, with the same echoes, moves the landing with them.
    np.testing.assert_allclose(to_antennas.sum(1)[:, :2], np.eye(2), atol=1e-9)

    # Maximum likelihood is efficient: white noise through the derivative is the bound.
    _, (_, to_echo) = slopes(clean, along)
    flat = np.asarray(to_echo).reshape(2, -1)
    variance = 0.5 * float(setup.radar.noise) ** 2 * (flat @ flat.conj().T).real
    np.testing.assert_allclose(variance, bound(setup), rtol=1e-5)


def bound(setup):
    """Covariance of the landing: the Cramér–Rao bound of each range, through the Jacobian."""
    distances = setup.distances(TRUTH)

    def deviation(distance):
        variance = delay.cramer_rao_bound(
            range_to_delay(setup.radar, distance[None]),
            distance[None, None] ** -4,
            setup.radar.noise**2,
            setup.radar.step * jnp.arange(32.0),
        )
        return delay_to_range(setup.radar, jnp.sqrt(variance[0, 0]))

    deviations = jax.vmap(jax.vmap(deviation))(distances)
    run = jax.jit(lambda r: setup.landing(setup.locate(r)).covariance, compiler_options=QUICK)
    return run(Ranges(distances, deviations))


def test_landing_error_is_the_predicted_one(cases):
    *_, ball, landing = cases
    found = jax.tree.map(lambda leaf: leaf[-DRAWS:], landing)
    predicted = np.asarray(bound(tracking()))
    root = np.linalg.inv(np.linalg.cholesky(predicted))
    errors = (found.point - landing.point[0]) @ root.T
    # Entries of the mean of 300 Wishart matrices: 1 ± 0.08 on the diagonal, 0 ± 0.06 off it.
    np.testing.assert_allclose(errors.T @ errors / DRAWS, np.eye(2), atol=0.25)
    np.testing.assert_allclose(errors.mean(0), 0, atol=4 / DRAWS**0.5)
    claimed = root @ found.covariance.mean(0) @ root.T
    np.testing.assert_allclose(claimed, np.eye(2), atol=0.05)
    # 24 ranges less six unknowns; the estimated deviations add their own spread.
    assert ball.misfit[-DRAWS:].mean() == pytest.approx(18, rel=0.1)


def test_bad_input():
    paddled = World.create([table(), Paddle(0.08, 0.8, 0.4)])
    cases = {
        r"world: expected no driven surface, got 1": lambda: RadarTracking.create(paddled),
        r"antennas: expected shape \(A, 3\), got \(3,\)": lambda: tracking(antennas=(0, 0, 1)),
        r"antennas: expected finite": lambda: tracking(antennas=[(0, 0, np.nan)]),
        r"pulses: .* got 6 pulses of 0 antennas": lambda: tracking(antennas=np.zeros((0, 3))),
        r"interval: expected a positive": lambda: tracking(interval=0.0),
        r"received: expected shape \(6, 4, 32\)": lambda: tracking().ranges(jnp.ones((6, 32))),
    }
    for message, call in cases.items():
        with pytest.raises(ValueError, match=message):
            call()
