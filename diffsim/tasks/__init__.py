"""Tasks: a world, starts to draw, and a loss for what the paddle did; and a ball seen by radar."""

from typing import Any

from diffsim import _check
from diffsim.tasks.arm import ArmHitsTarget
from diffsim.tasks.base import HostTask, Serving, Task
from diffsim.tasks.hit_target import HitToTarget, Serves
from diffsim.tasks.radar import RadarTracking

TASKS: dict[str, Any] = {"paddle": HitToTarget, "arm": ArmHitsTarget}


def make(name: str, **settings: Any) -> Task:
    """The named task, with some of its settings changed.

    Raises:
        ValueError: no such name.

    >>> make("arm", target=(1.0, 0.2)).weight_count
    28
    >>> make("leg")
    Traceback (most recent call last):
    ...
    ValueError: name: expected one of paddle, arm, got 'leg'
    """
    return _check.named("name", name, TASKS).create(**settings)


__all__ = [
    "TASKS",
    "ArmHitsTarget",
    "HitToTarget",
    "HostTask",
    "RadarTracking",
    "Serves",
    "Serving",
    "Task",
    "make",
]
