"""The penalty models tend to the impulse law, and to each other."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from one_surface import setup
from scipy.integrate import solve_ivp

from diffsim.physics import Ball, BallState, Compliant, Smoothed, World, simulate, table
from diffsim.physics.contact import penalty
from diffsim.physics.contact.penalty import damping_ratio
from diffsim.physics.proximity import Patch, Proximity
from diffsim.physics.vector import Vector

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


def near_by(depth, rate, margin):
    """How a ball of radius 0.02 stands to a face that it is in by ``depth``."""
    return Proximity(*map(jnp.asarray, (0.02 - depth, rate, 1.0, margin, np.zeros(3))))


@pytest.mark.parametrize("depth", [0.001, 0.019, 0.021, -0.001])
@pytest.mark.parametrize("rate", [-0.5, 0.5, 5.0])
@pytest.mark.parametrize("margin", [0.1, 1e-4, -1e-4])
def test_forces_are_their_formulas(depth, rate, margin):
    """N = max(k δ − c ġ, 0) in the ball's own depth, and the smooth one beside it."""
    stiffness, damping, kappa, ball = 1e3, 2.0, 2e3, Ball.create()
    found = Compliant(stiffness).normal_force(damping, near_by(depth, rate, margin), ball)
    inside = 0 < depth < 0.02 and margin >= 0
    hard = max(stiffness * depth - damping * rate, 0.0) if inside else 0.0
    assert float(found) == pytest.approx(hard, rel=1e-9)

    def sigmoid(x):
        return 1 / (1 + np.exp(-x))

    force = stiffness * np.logaddexp(0, kappa * depth) / kappa
    force -= damping * rate * sigmoid(kappa * depth)
    force *= sigmoid(kappa * force / stiffness) * sigmoid(kappa * margin)
    force *= np.tanh(kappa * max(0.02 - depth, 0.0))
    made = Smoothed(kappa, stiffness)
    found = made.normal_force(damping, near_by(depth, rate, margin), ball)
    assert float(found) == pytest.approx(force, rel=1e-9, abs=1e-12)


def test_friction_and_dashpot_are_their_formulas():
    """−μ N u_t / √(|u_t|² + v_s²) at the rim, and c = 2 ζ √(k m) unless it is given."""
    ball, n = Ball.create(), np.array([0.6, 0.0, 0.8])
    moving, velocity, spin = np.array([[0.1, 0.2, -0.3], [1.0, -2.0, 0.5], [30.0, 60.0, -90.0]])
    slip = velocity - 0.02 * np.cross(spin, n) - moving
    slip -= (slip @ n) * n
    vectors = (Vector.of(jnp.asarray(v)) for v in (n, moving, velocity, spin))
    found = penalty.coulomb_friction(ball, 0.3, *vectors, jnp.asarray(7.0), 0.4)
    exact = -0.3 * 7.0 * slip / np.sqrt(slip @ slip + 0.4**2)
    np.testing.assert_allclose(found.array, exact, rtol=1e-9)
    patch = Patch.of(table(0.6, 0.2))
    ratio = float(damping_ratio(jnp.asarray(0.6)))
    own = penalty.dashpot(Compliant(500.0), patch, 2.7e-3)
    assert float(own) == pytest.approx(2 * ratio * np.sqrt(500.0 * 2.7e-3), rel=1e-6)
    assert penalty.dashpot(Compliant(500.0, damping=3.0), patch, 2.7e-3) == 3.0


def test_a_contact_is_cut_in_thirty_steps_or_as_its_dashpot_asks():
    half = 0.999 * np.pi * np.sqrt(2.7e-3 / 1e4)
    assert penalty.substeps(Compliant(1e4), 2.7e-3, half) == 30
    assert penalty.substeps(Compliant(1e4), 2.7e-3, 0.5 * half) == 15
    assert penalty.substeps(Compliant(1e4), 2.7e-3, 1e-9) == 1
    stiff = Compliant(1e4, damping=2.7e-3 * 1e6)
    assert penalty.substeps(stiff, 2.7e-3, 1e-3) == 1000
    least = 5  # (step √(k/m) / 2 rounded up)
    step = 9.5 / np.sqrt(1e4 / 2.7e-3)
    assert penalty.substeps(Compliant(1e4, substeps=least), 2.7e-3, step) == least
    for few in (1, least - 1):
        with pytest.raises(ValueError, match=f"substeps: expected at least {least} for"):
            penalty.substeps(Compliant(1e4, substeps=few), 2.7e-3, step)


def test_a_paddle_that_moves_evenly_is_one_at_rest_seen_from_elsewhere():
    """In a vacuum, whatever the stage of a step at which it is asked where it is."""
    boost = jnp.array([0.7, -0.4, 0.9])
    start = setup(driven=True, two_sided=True, position=(0, 0, 0.03), velocity=(0.3, 0.1, -1.0),
                  spin=(5.0, 30.0, 1.0), restitution=0.8, friction=0.3)  # fmt: skip

    def end(start):
        return simulate(start.world, start.state, start.path, duration=0.1, step=0.02,
                        max_impacts=2, contact=Compliant(1e3))  # fmt: skip

    seen = start.replace(velocity=start.velocity + boost, center=start.center.at[1].set(boost))
    plain, other = end(start), end(seen)
    assert int(plain.impacts.valid.sum()) == int(other.impacts.valid.sum()) == 1
    moved = plain.final.position + 0.1 * boost
    np.testing.assert_allclose(other.final.position, moved, rtol=0, atol=1e-9)
    np.testing.assert_allclose(other.final.velocity, plain.final.velocity + boost, atol=1e-8)
    np.testing.assert_allclose(other.final.spin, plain.final.spin, atol=1e-6)
