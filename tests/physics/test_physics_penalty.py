"""The penalty models tend to the impulse law, and to each other."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp

from diffsim.physics import BallState, Compliant, Smoothed, World, simulate, table
from diffsim.physics.contact.penalty import damping_ratio

WORLD = World.create([table(0.8, 0.25)])
SERVE = BallState.create([-0.5, 0.0, 1.0], [2.0, 0.3, -1.0], [0.0, 50.0, 10.0])


def final(contact=None):
    rollout = simulate(WORLD, SERVE, duration=0.3, contact=contact)
    assert int(rollout.status) == 0
    assert int(rollout.impacts.valid.sum()) == 1
    return np.concatenate([rollout.final.position, rollout.final.velocity]), rollout


def test_compliant_tends_to_the_impulse_law():
    exact, law = final()
    errors = []
    for stiffness in (1e3, 1e4, 1e5):
        soft, rollout = final(Compliant(stiffness))
        errors.append(np.abs(soft - exact).max())
        # The ball is in touch from the moment at which the law would have acted.
        assert float(rollout.impacts.time[0]) == pytest.approx(float(law.impacts.time[0]), abs=2e-4)
    assert errors[2] < errors[0] / 5
    assert errors[2] < 0.02


def test_smoothed_tends_to_compliant():
    sharp, _ = final(Compliant(1e3))
    errors = [np.abs(final(Smoothed(kappa, 1e3))[0] - sharp).max() for kappa in (1e3, 1e4)]
    assert errors[1] < errors[0] / 5


@pytest.mark.parametrize("restitution", [0.01, 0.135, 0.5, 0.8, 1.0, 1.2])
def test_damping_ratio_gives_the_restitution(restitution):
    ratio = float(damping_ratio(jnp.asarray(restitution)))

    def force(_, y):  # spring and dashpot of unit mass and stiffness; it ends the contact
        return y[0] + 2 * ratio * y[1]

    force.terminal, force.direction = True, -1
    contact = solve_ivp(
        lambda t, y: [y[1], -force(t, y)], (0, 50), [0.0, 1.0], events=force,
        method="DOP853", rtol=1e-11, atol=1e-13,
    )  # fmt: skip
    assert contact.status == 1
    assert -contact.y[1, -1] == pytest.approx(restitution, rel=1e-7)
    step = 1e-5
    slope = jax.grad(damping_ratio)(jnp.asarray(restitution))
    ends = [damping_ratio(jnp.asarray(restitution + sign * step)) for sign in (1, -1)]
    assert float(slope) == pytest.approx(float(ends[0] - ends[1]) / (2 * step), rel=1e-4)


def test_traced_stiffness_asks_for_substeps():
    with pytest.raises(ValueError, match="substeps: expected a number"):
        jax.jit(lambda k: simulate(WORLD, SERVE, duration=0.3, contact=Compliant(k)))(1e4)
