"""MuJoCo's contact against the laws it stands for."""

import numpy as np
import pytest

from studies import mujoco_contact as study

pytestmark = pytest.mark.slow  # compiles or starts so much that the default run has no room


@pytest.mark.parametrize(
    ("asked", "spread"), [(0.5, 0.03), (0.78, 0.012), (0.9, 0.01), (0.97, 0.005)]
)
def test_restitution_is_the_one_asked_for(asked, spread):
    """At every speed, and within the error of the time step wherever in a step the ball arrives."""
    found = study.measured(asked, (0.5, 8.0), np.arange(6) / 6)
    np.testing.assert_allclose(found[0], found[1], rtol=1e-4)  # the speed does not matter
    np.testing.assert_allclose(found, asked, atol=spread)
    assert abs(found.mean() - asked) < 0.005
    assert np.ptp(found) > 1e-4  # what the phase does is there to see


def test_oblique_bounces_are_near_the_impulse_law():
    """Within 6 % of the speed before; the impulse law itself changes it by up to half."""
    for velocity, spin in study.OBLIQUE:
        wanted, turned = study.by_the_law(velocity, spin, 0.9, 0.25)
        got, spun = study.bounce(velocity, spin, restitution=0.9, friction=0.25)
        error = 0.06 * np.linalg.norm(velocity)
        np.testing.assert_allclose(got, wanted, atol=error)
        np.testing.assert_allclose(spun, turned, atol=error * 1.5 / 0.02)  # that slip, in spin
