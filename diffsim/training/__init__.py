"""Training: one loop, any task, any gradient estimator."""

from diffsim.training.checkpoint import Checkpoints
from diffsim.training.evaluate import Measure, evaluate
from diffsim.training.loop import Trainer, TrainState, train
from diffsim.training.policy import MLP
from diffsim.training.settings import Settings

__all__ = [
    "MLP",
    "Checkpoints",
    "Measure",
    "Settings",
    "TrainState",
    "Trainer",
    "evaluate",
    "train",
]
