"""Figures, animations and tables."""

from diffsim.report.plots import comparison, learning_curves, rallies, scene
from diffsim.report.replay import animate

__all__ = ["animate", "comparison", "learning_curves", "rallies", "scene"]
