"""The floor of an unseen spin, where it is known in closed form."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffsim.physics import BallState
from diffsim.training import Traced
from diffsim.training.floor import rows, spin_floor

SPIN, LEVER = 10.0, 0.01  # rad/s, m for each rad/s


class Line:
    """A ball that lands at w + LEVER spin on a line, to be aimed at 0."""

    serves = types.SimpleNamespace(spin=SPIN)
    weight_count = 1

    def sample(self, key):
        return BallState.create(jax.random.normal(key, (3,)))

    def observe(self, start):
        return start.position

    def landing(self, weights, start):
        return weights[0] + LEVER * start.spin[0]

    def loss(self, weights, start):
        return self.landing(weights, start) ** 2

    def measures(self, weights, start):
        return {"landing_error": jnp.abs(self.landing(weights, start)), "legal": True}


def test_the_unseen_spin_costs_its_mean_size_and_a_seen_one_nothing():
    policy = lambda seen: 0.3 + 0.0 * seen[:1]  # noqa: E731
    key = jax.random.key(0)
    found = spin_floor(Traced(Line()), serves=32, spins=32, updates=300)(policy, key)
    # The best w is 0, and E|LEVER s| = LEVER SPIN sqrt(2/π): 8 cm, by 1024 draws to 2.4 %.
    exact = 100 * LEVER * SPIN * np.sqrt(2 / np.pi)
    drawn = jax.random.normal(jax.random.split(jax.random.split(key)[1])[0], (32 * 32, 3))
    of_these = 100 * LEVER * SPIN * float(np.mean(np.abs(drawn[:, 0])))
    assert of_these == pytest.approx(exact, rel=0.1)
    assert found["unknown_spin_cm"].value == pytest.approx(of_these, rel=3e-3)  # w is not quite 0
    assert found["unknown_spin_cm"].low < found["unknown_spin_cm"].value
    assert found["known_spin_cm"].value < 0.05 * exact
    assert [name for name, _ in rows(found)] == [
        "least error, spin unseen",
        "least error, spin seen",
    ]
    assert rows(found)[0][1].startswith(f"{found['unknown_spin_cm'].value:.1f} cm [")
