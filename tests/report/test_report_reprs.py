"""Records are short in a terminal, and tell what matters."""

import jax
import jax.numpy as jnp
import numpy as np

from diffsim import delay, quadrature
from diffsim.gradients import Gaussian, ScoreFunction, estimate
from diffsim.invertible import Inversion, InversionStatus


def test_a_rollout_tells_its_impacts_and_its_status(rally):
    one = rally.one()
    assert repr(one).startswith("Rollout(states=(17,) to 0.8 s, impacts=[0.402, 0.6], final=[")
    assert repr(one).endswith("status=OK)")
    assert one._repr_html_().count("<tr>") == 3  # the heading, two impacts
    assert "impacts=4 in all" in repr(rally.rollouts)
    assert "status=2 OK" in repr(rally.rollouts)
    assert rally.rollouts._repr_html_().startswith("<code>Rollout(")


def test_a_traced_record_tells_its_shapes(rally):
    told = []
    jax.eval_shape(lambda r: told.append(repr(r) + r._repr_html_()), rally.one())
    assert told[0].startswith("Rollout(times=float64[17]")


def test_estimates_inversions_integrals_and_delays_fit_on_a_line():
    x = jnp.ones(3)
    score = ScoreFunction(samples=64, law=Gaussian(0.1))
    found = [estimate(lambda x: jnp.sum(x**2), score)(x, key=jax.random.key(0))]
    one = jnp.array(1e-9)
    found.append(Inversion(jnp.ones(100), one, one, jnp.array(InversionStatus.OK), one, one, one))
    grid = quadrature.sphere_grid(16, 8)
    found.append(quadrature.integrate(jnp.ones(grid.shape), grid))
    echoes, mask = np.array([1e-9, 2e-9, 0.0]), np.array([True, True, False])
    found.append(
        delay.DelayEstimate(
            delays=echoes, amplitudes=echoes + 1j, standard_error=echoes / 100,
            misfit=np.ones(3), residual=np.array(0.01), subspace_error=echoes / 50, mask=mask,
            resolved=mask, count=np.array(2),
            saturated=np.array(False), noise_variance=np.array(1e-4), criterion=np.zeros(4),
        )
    )  # fmt: skip
    for record in found:
        assert "\n" not in repr(record)
        assert len(repr(record)) < 300
    assert "degree=" in repr(found[2])
    assert "value=12.57" in repr(found[2])
    assert found[3]._repr_html_().count("<tr>") == 3  # the heading, two echoes
    assert "delays=[1e-09, 2e-09]" in repr(found[3])
