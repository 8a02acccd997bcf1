"""Tasks whose simulator is a black box on the host: what the training loop asks of it."""

from typing import Any, TypeGuard

import jax
import numpy as np

from diffsim.gradients.blackbox import BlackBox
from diffsim.tasks import HostTask

_boxes: dict[int, tuple[Any, BlackBox]] = {}


def is_host(task: Any) -> TypeGuard[HostTask]:
    """Whether the task's loss is a simulator's, not one that JAX can trace."""
    return hasattr(task, "simulator")


def box(task: HostTask) -> BlackBox:
    """The simulator of a task with its workers, one for each task."""
    if id(task) not in _boxes:  # the task is kept with its id, so that the id stays its own
        names = task.terms + task.measures

        def total(found):
            return sum(float(found[name]) for name in task.terms)

        output = {name: np.zeros(()) for name in names}
        made = BlackBox(task.simulator, output=output, loss=total, workers=task.workers)
        _boxes[id(task)] = task, made
    return _boxes[id(task)][1]


def results(
    task: HostTask, weights: jax.Array, starts: Any, *, real: bool
) -> dict[str, np.ndarray]:
    """The terms of the loss of each row, or, in the real world, the measures."""
    found = box(task).results(weights, starts, world(weights, real))
    names = task.measures if real else task.terms
    kinds = {"hit": bool, "legal": bool}
    return {name: found[name].astype(kinds.get(name, float)) for name in names}


def world(rows: Any, real: bool) -> np.ndarray:
    """Which world, for each row."""
    return np.full(len(rows), real)
