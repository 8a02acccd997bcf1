"""Figures, animations and tables."""

from diffsim.report.plots import learning_curves, rallies, scene
from diffsim.report.replay import animate

__all__ = ["animate", "learning_curves", "rallies", "scene"]
