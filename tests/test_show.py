"""Records are short in a terminal, and tell what matters."""

import jax
import jax.numpy as jnp
import numpy as np

from diffsim import delay, quadrature
from diffsim.gradients import Gaussian, ScoreFunction, estimate
from diffsim.invertible import Dense, invert
from diffsim.physics import BallState, World, simulate


def drop(height):
    start = BallState.create(jnp.zeros(3).at[2].set(height))
    return simulate(World.create(), start, duration=0.2)


def test_a_rollout_tells_its_impacts_and_its_status():
    many = jax.jit(jax.vmap(drop))(jnp.array([0.88, 0.9, 2.0]))
    one = jax.tree.map(lambda leaf: leaf[0], many)  # 10 cm in 0.1428 s, but for the air
    assert repr(one).startswith("Rollout(states=(5,) to 0.2 s, impacts=[0.1431], final=[0, 0, ")
    assert repr(one).endswith("status=OK)")
    assert one._repr_html_().count("<tr>") == 2  # the heading, one impact
    assert "impacts=2 in all" in repr(many)
    assert "status=3 OK" in repr(many)
    assert many._repr_html_().startswith("<code>Rollout(")


def test_a_traced_record_tells_its_shapes():
    told = []

    def final(height):
        rollout = drop(height)
        told.append(repr(rollout) + rollout._repr_html_())
        return rollout.final.position

    jax.eval_shape(final, 0.88)
    assert told[0].startswith("Rollout(times=float")


def test_estimates_inversions_integrals_and_delays_fit_on_a_line():
    x = jnp.ones(3)
    score = ScoreFunction(samples=64, law=Gaussian(0.1))
    found = [estimate(lambda x: jnp.sum(x**2), score)(x, key=jax.random.key(0))]
    found.append(invert(Dense(jnp.eye(100)), jnp.ones(100)))
    grid = quadrature.sphere_grid(16, 8)
    found.append(quadrature.integrate(jnp.ones((8, 16)), grid))
    f = np.arange(64)
    samples = delay.FrequencySamples.create(np.exp(-2j * np.pi * f * 0.2))
    found.append(delay.estimate_delays(samples, 3))
    for record in found:
        assert "\n" not in repr(record)
        assert len(repr(record)) < 300
    assert "degree=" in repr(found[2])
    assert "value=12.57" in repr(found[2])
    assert found[3]._repr_html_().count("<tr>") == 1 + int(found[3].count)
