"""Training: one trainer, any player, any gradient estimator."""

from diffsim._intervals import Interval
from diffsim.training.checkpoint import Checkpoints
from diffsim.training.closed_loop import ClosedLoop, LoopSettings
from diffsim.training.episodes import Episodes
from diffsim.training.evaluate import evaluate
from diffsim.training.loop import Trainer, TrainState, train
from diffsim.training.player import Hosted, Player, Traced
from diffsim.training.policy import MLP
from diffsim.training.settings import RunSettings, Settings

__all__ = [
    "MLP",
    "Checkpoints",
    "ClosedLoop",
    "Episodes",
    "Hosted",
    "Interval",
    "LoopSettings",
    "Player",
    "RunSettings",
    "Settings",
    "Traced",
    "TrainState",
    "Trainer",
    "evaluate",
    "train",
]
