"""Tasks: a world, starts to draw, and a loss for what the paddle did."""

from diffsim.tasks.base import Task
from diffsim.tasks.hit_target import HitToTarget, Serves

__all__ = ["HitToTarget", "Serves", "Task"]
