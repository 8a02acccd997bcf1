"""Tasks: a world, starts to draw, and a loss for what the paddle did."""

from diffsim.tasks.arm import ArmHitsTarget
from diffsim.tasks.base import HostTask, Task
from diffsim.tasks.hit_target import HitToTarget, Serves

ROBOTS = {"paddle": HitToTarget, "arm": ArmHitsTarget}

__all__ = ["ROBOTS", "ArmHitsTarget", "HitToTarget", "HostTask", "Serves", "Task"]
