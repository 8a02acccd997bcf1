"""A radar tracks a ball: exactness, derivatives from antenna and echo to landing, and its error."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffsim import delay
from diffsim.delay.radar import Radar, delay_to_range, range_to_delay
from diffsim.physics import BallState, World, paddle, table
from diffsim.tasks import RadarTracking
from diffsim.tasks.radar import Ranges

TRUTH = BallState.create([1.25, 0.2, 1.1], [-5.0, 0.3, 1.2])
STEP = 1e-4
# Compiling takes longer than running.
QUICK = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}


def tracking(**options):
    world = World.create([table()])
    return RadarTracking.create(world, Radar.create(32, 20e6, noise=0.02), pulses=6, **options)


def chain(antennas, received):
    return replace(tracking(), antennas=antennas).track(received)


def echoes(count, seed=1):
    """What the antennas receive: without noise, and with several noises."""
    listen = jax.jit(tracking().listen)
    keys = jax.random.split(jax.random.key(seed), count)
    return np.asarray(listen(TRUTH)), np.stack([listen(TRUTH, key) for key in keys])


@partial(jax.jit, compiler_options=QUICK)
def slopes(antennas, received, *directions):
    """The chain, its derivatives forward along the directions, and in reverse to the inputs."""

    def point(*inputs):
        ball, landing = chain(*inputs)
        return landing.point, (landing.point, ball.state)  # no covariance: less to compile

    _, push, found = jax.linearize(point, antennas, received, has_aux=True)
    pull = jax.linear_transpose(push, antennas, received)
    return found, jax.vmap(push)(*directions), jax.vmap(pull)(jnp.eye(2))


@pytest.mark.slow
def test_from_antenna_and_echo_to_landing():
    setup, (clean, noises) = tracking(), echoes(24)
    directions = (
        jnp.eye(12).reshape(12, 4, 3),
        jnp.asarray(np.roll(noises[:12], 1, axis=0) - clean),
    )
    base = setup.antennas, jnp.asarray(noises[0])
    _, forward, (to_antennas, to_echo) = slopes(*base, *directions)

    def moved(k, step):
        inputs = [x + step * d[k] for x, d in zip(base, directions)]
        return slopes(*inputs, *directions)[0][0]

    for k in (2, 4, 9):
        difference = (moved(k, STEP) - moved(k, -STEP)) / (2 * STEP)
        # The likelihood's minimum is found to about 1e-10 m, a step apart.
        np.testing.assert_allclose(forward[k], difference, rtol=1e-5, atol=1e-5)
    backward = np.einsum("oax,dax->do", to_antennas, directions[0])
    backward += np.einsum("opan,dpan->do", to_echo, directions[1]).real
    np.testing.assert_allclose(backward, forward, rtol=1e-9, atol=1e-12)
    # Moving every antenna in the plane, with the same echoes, moves the landing with them.
    np.testing.assert_allclose(to_antennas.sum(1)[:, :2], np.eye(2), atol=1e-9)

    # Without noise: exact, wherever the antennas stand.
    aside = setup.antennas + 0.1 * directions[0][5] + 0.2 * directions[0][1]
    (landing, state), *_ = slopes(setup.antennas, clean, *directions)
    (same, again), *_ = slopes(aside, replace(setup, antennas=aside).listen(TRUTH), *directions)
    for found in (state, again):
        np.testing.assert_allclose(found.position, TRUTH.position, atol=1e-9)
        np.testing.assert_allclose(found.velocity, TRUTH.velocity, atol=1e-8)
    np.testing.assert_allclose(same, landing, atol=1e-9)

    # White noise through the derivative predicts the errors: χ² of 48 degrees of freedom over 24.
    flat = np.asarray(to_echo).reshape(2, -1)
    variance = 0.5 * float(setup.radar.noise) ** 2 * (flat @ flat.conj().T).real
    points = np.stack([slopes(setup.antennas, x, *directions)[0][0] for x in noises])
    errors = (points - landing) @ np.linalg.inv(np.linalg.cholesky(variance)).T
    assert 1.0 < np.sum(errors**2) / len(noises) < 3.5  # 2 ± 0.4


@pytest.mark.slow
def test_landing_error_is_the_one_predicted_by_the_bound():
    """Cramér–Rao bound of each range, through the Jacobian, against 1000 noises."""
    setup, (clean, noises) = tracking(), echoes(1000, seed=2)
    run = jax.jit(jax.vmap(partial(chain, setup.antennas)))
    ball, landing = jax.tree.map(np.asarray, run(np.concatenate([noises, clean[None]])))
    distances = setup.distances(TRUTH)

    def deviation(distance):
        variance = delay.cramer_rao_bound(
            range_to_delay(setup.radar, distance[None]),
            distance[None, None] ** -4,
            setup.radar.noise**2,
            setup.radar.step * jnp.arange(32.0),
        )
        return delay_to_range(setup.radar, jnp.sqrt(variance[0, 0]))

    ranges = Ranges(distances, jax.vmap(jax.vmap(deviation))(distances))
    predicted = jax.jit(lambda r: setup.landing(setup.locate(r)).covariance)(ranges)
    root = np.linalg.inv(np.linalg.cholesky(predicted))
    errors = (landing.point[:-1] - landing.point[-1]) @ root.T
    # Entries of the mean of 1000 Wishart matrices: 1 ± 0.045 on the diagonal, 0 ± 0.03 off it.
    np.testing.assert_allclose(errors.T @ errors / len(errors), np.eye(2), atol=0.15)
    np.testing.assert_allclose(errors.mean(0), 0, atol=0.13)
    claimed = root @ landing.covariance[:-1].mean(0) @ root.T
    np.testing.assert_allclose(claimed, np.eye(2), atol=0.05)
    # 24 ranges less six unknowns; the estimated deviations add their own spread.
    assert landing.landed.all()
    assert ball.misfit[:-1].mean() == pytest.approx(18, rel=0.1)


def test_bad_input():
    paddled = World.create([table(), paddle(0.08, 0.8, 0.4)])
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
