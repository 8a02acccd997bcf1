"""The learned map from trajectory weights to landing points, inverted, in a short form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffsim.tasks import HitToTarget
from diffsim.training import landing


def test_landing_agrees_with_the_task():
    """NaN where the ball does not come back; both say so of a paddle at rest."""
    task = HitToTarget.create()
    serve = task.sample(jax.random.key(0))
    rest = jnp.zeros(task.weight_count)
    point = jax.jit(lambda w: landing.landing(task, w, serve))(rest)
    assert point.shape == (2,)
    assert np.all(np.isnan(point)) == (not bool(jax.jit(task.measures)(rest, serve)["legal"]))


@pytest.mark.slow
def test_inverted_model_hits_within_two_centimetres():
    """The whole comparison, smaller: nearer than the start by ten times, and mostly legal."""
    found = landing.compare(landing.Settings(targets=30, samples=8000, steps=4000))
    fine = np.isfinite(found["inverted"])
    assert fine.mean() > 0.6
    assert np.mean(found["inverted"][fine]) < min(0.02, 0.1 * np.mean(found["start"]))
    good = np.isfinite(found["again"])
    assert good.mean() > 0.9
    assert np.mean(found["aimed"][good]) < 0.5 * np.mean(found["nearest"])
    assert np.median(found["again"][good]) < 0.5 * np.median(found["aimed"][good])
    assert np.all(np.isfinite(found["optimised"]))
