"""Training: one loop, any task, any gradient estimator; in one trajectory or step by step."""

from diffsim.training.checkpoint import Checkpoints
from diffsim.training.closed_loop import LoopSettings, LoopTrainer
from diffsim.training.episodes import Episodes
from diffsim.training.evaluate import Measure, evaluate
from diffsim.training.loop import Trainer, TrainState, train
from diffsim.training.policy import MLP
from diffsim.training.settings import Settings

__all__ = [
    "MLP",
    "Checkpoints",
    "Episodes",
    "LoopSettings",
    "LoopTrainer",
    "Measure",
    "Settings",
    "TrainState",
    "Trainer",
    "evaluate",
    "train",
]
