"""Black-box simulators: train a network through code that JAX cannot trace."""

from diffsim.gradients.blackbox.box import BlackBox
from diffsim.gradients.blackbox.host import Penalty, Statistics

__all__ = ["BlackBox", "Penalty", "Statistics"]
