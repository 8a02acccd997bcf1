"""What the trainers do with a gradient: its length is limited, and the rate rises and falls."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from drift import Drift
from point import Point
from test_training_closed_loop import drift  # noqa: F401 (a fixture)
from test_training_closed_loop import settings as loop_settings
from test_training_loop import settings

from diffsim.training import ClosedLoop, Traced, Trainer

TRAINERS = {
    "open": lambda out, **changes: Trainer(Traced(Point()), settings(out, **changes)),
    "closed": lambda out, **changes: Trainer(ClosedLoop(Drift()), loop_settings(out, **changes)),
}
LEFT = {"open": 0.9, "closed": 0.7}  # of Adam's mean, at each update


@pytest.mark.parametrize("kind", TRAINERS)
def test_a_long_gradient_is_cut_and_a_short_one_is_not(tmp_path, kind):
    optimiser, slope = TRAINERS[kind](tmp_path, clip=0.5)._optimizer, jnp.array([3.0, 4.0])
    for gradient, cut in ((slope, 0.1), (0.01 * slope, 1.0)):
        with jax.numpy_dtype_promotion("standard"):
            _, state = optimiser.update(gradient, optimiser.init(gradient))
        mean = optax.tree.get(state, "mu")
        np.testing.assert_allclose(mean, (1 - LEFT[kind]) * cut * gradient, rtol=1e-6)


def rates(trainer, updates):
    """The size of each update for a gradient that stays as it is, which is Adam's rate."""
    gradient = jnp.full(1, 1e-3)
    state, sizes = trainer._optimizer.init(gradient), []
    with jax.numpy_dtype_promotion("standard"):
        for _ in range(updates):
            change, state = trainer._optimizer.update(gradient, state)
            sizes.append(-change.item())
    return np.array(sizes)


def test_the_rate_warms_up_and_falls_along_a_cosine_to_a_hundredth(tmp_path):
    got = rates(TRAINERS["open"](tmp_path, learning_rate=0.5), 25)
    fall = 0.01 + 0.99 * 0.5 * (1 + np.cos(np.pi * np.arange(19) / 18))
    expected = 0.5 * np.concatenate([[0, 0.5], fall, [0.01] * 4])
    np.testing.assert_allclose(got, expected, rtol=1e-3)


def test_the_rate_of_closed_loops_falls_evenly_to_a_hundredth(tmp_path):
    trainer = TRAINERS["closed"](tmp_path, learning_rate=0.5, steps=10)
    got = rates(trainer, 12)
    expected = 0.5 * np.maximum(1 - 0.99 * np.arange(12) / 10, 0.01)
    np.testing.assert_allclose(got, expected, rtol=1e-3)
