"""Tasks: a world, starts to draw, and a loss for what the paddle did; and a ball seen by radar."""

from diffsim.tasks.arm import ArmHitsTarget
from diffsim.tasks.base import HostTask, Task
from diffsim.tasks.hit_target import HitToTarget, Serves
from diffsim.tasks.radar import RadarTracking

ROBOTS = {"paddle": HitToTarget, "arm": ArmHitsTarget}

__all__ = [
    "ROBOTS",
    "ArmHitsTarget",
    "HitToTarget",
    "HostTask",
    "RadarTracking",
    "Serves",
    "Task",
]
