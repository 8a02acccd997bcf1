"""Tasks: a world, starts to draw, and a loss for what the paddle did; and a ball seen by radar."""

from diffsim.tasks.base import Task
from diffsim.tasks.hit_target import HitToTarget, Serves
from diffsim.tasks.radar import RadarTracking

__all__ = ["HitToTarget", "RadarTracking", "Serves", "Task"]
