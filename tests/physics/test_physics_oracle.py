"""Scenes against an independent event-driven solution: values, Jacobians and the order."""

import tomllib
from pathlib import Path

import jax
import numpy as np
import oracle
import pytest

from diffsim.physics import scene as scenes

SCENES = sorted((Path(__file__).parent / "scenes").glob("*.toml"))


def load(path):
    text = path.read_text()
    return scenes.loads(text), tomllib.loads(text)


def final(scene):
    rollout = scenes.run(scene)
    assert int(rollout.status) == 0
    return np.concatenate(jax.tree.leaves(rollout.final)), rollout


def relative(ours, truth):
    """Largest error over the size of the vector or matrix block it belongs to."""
    ours, truth = np.asarray(ours), np.asarray(truth)
    return np.max(np.abs(ours - truth) / np.maximum(np.abs(truth), 1.0))


@pytest.mark.parametrize("path", SCENES, ids=lambda path: path.stem)
def test_scene_agrees_with_the_oracle(path):
    scene, data = load(path)
    truth, true, times = oracle.solve(data)
    fine, rollout = final(scene.replace(step=0.01))
    assert relative(fine, truth) < 1e-7
    assert np.allclose(rollout.impacts.time[: len(times)], times, atol=1e-8, rtol=0)
    assert int(rollout.impacts.valid.sum()) == len(times) >= 1
    coarse, _ = final(scene.replace(step=0.05))
    assert relative(coarse, truth) < 1e-4
    ours = scenes.jacobian(scene.replace(step=0.01))
    assert np.linalg.norm(ours - true) / np.linalg.norm(true) < 1e-6
    assert relative(ours, true) < 1e-6
