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


def opened(out, **changes):
    return Trainer(Traced(Point()), settings(out, **changes))


TRAINERS = {
    "open": lambda out, **changes: opened(out, optimizer="adam", **changes),
    "closed": lambda out, **changes: Trainer(
        ClosedLoop(Drift()), loop_settings(out, optimizer="adam", **changes)
    ),
}
LEFT = {"open": 0.9, "closed": 0.7}  # of Adam's mean, at each update


@pytest.mark.parametrize("kind", TRAINERS)
def test_a_long_gradient_is_cut_and_a_short_one_is_not(tmp_path, kind):
    optimiser, slope = TRAINERS[kind](tmp_path, clip=0.5)._optimizer, jnp.array([3.0, 4.0])
    for gradient, cut in ((slope, 0.1), (0.01 * slope, 1.0)):
        with jax.numpy_dtype_promotion("standard"):
            _, state = optimiser.update(gradient, optimiser.init(gradient), gradient)
        mean = optax.tree.get(state, "mu")
        np.testing.assert_allclose(mean, (1 - LEFT[kind]) * cut * gradient, rtol=1e-6)


def rates(trainer, updates, gradient):
    """The size of each update for a gradient that stays as it is: Adam's rate, if it is one."""
    state, sizes = trainer._optimizer.init(gradient), []
    with jax.numpy_dtype_promotion("standard"):
        for _ in range(updates):
            change, state = trainer._optimizer.update(gradient, state, gradient)
            sizes.append(float(jnp.linalg.norm(change)))
    return np.array(sizes)


TILTED = np.diag([3.0, 1.0, 0.3]) @ np.linalg.qr(np.ones((3, 3)) + np.eye(3))[0]


@pytest.mark.parametrize(
    ("optimizer", "gradient"), [("adam", np.full(1, 1e-3)), ("muon", 1e-3 * TILTED)]
)
def test_the_rate_warms_up_and_falls_along_a_cosine(tmp_path, optimizer, gradient):
    got = rates(opened(tmp_path, learning_rate=0.5, optimizer=optimizer), 25, jnp.array(gradient))
    if optimizer == "muon":  # the rate times three singular values near 1
        assert got[1] == pytest.approx(0.5 * 0.5 * np.sqrt(3), rel=0.2)
        got *= 0.25 / got[1]
    fall = 0.01 + 0.99 * 0.5 * (1 + np.cos(np.pi * np.arange(19) / 18))
    expected = 0.5 * np.concatenate([[0, 0.5], fall, [0.01] * 4])
    np.testing.assert_allclose(got, expected, rtol=1e-3)


def test_muon_gives_a_matrix_singular_values_near_the_rate(tmp_path):
    """Whatever those of the gradient: five steps of Newton and Schulz leave 0.7 to 1.2 of it."""
    optimiser, gradient = opened(tmp_path, learning_rate=0.5, steps=5)._optimizer, jnp.array(TILTED)
    with jax.numpy_dtype_promotion("standard"):
        change, _ = optimiser.update(gradient, optimiser.init(gradient), gradient)
    values = np.linalg.svd(change / 0.5)[1]
    assert values.min() > 0.6
    assert values.max() < 1.25


@pytest.mark.parametrize(("optimizer", "rate"), [("muon", 0.03), ("adam", 0.003)])
def test_a_rate_left_open_is_the_one_that_suits_the_optimizer(tmp_path, optimizer, rate):
    left = settings(tmp_path, optimizer=optimizer, learning_rate=None)
    assert left.filled().learning_rate == rate
    assert settings(tmp_path, optimizer=optimizer, learning_rate=0.1).filled().learning_rate == 0.1


def test_the_rate_of_closed_loops_falls_evenly_to_a_hundredth(tmp_path):
    trainer = TRAINERS["closed"](tmp_path, learning_rate=0.5, steps=10)
    got = rates(trainer, 12, jnp.full(1, 1e-3))
    expected = 0.5 * np.maximum(1 - 0.99 * np.arange(12) / 10, 0.01)
    np.testing.assert_allclose(got, expected, rtol=1e-3)
