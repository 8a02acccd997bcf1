"""Differentiable ball/paddle physics in JAX, and the gradients that go through it.

The public names of :mod:`diffsim.physics` are here too; the other parts are subpackages, loaded
when they are first named (``diffsim.motion``, ``diffsim.gradients``, …).
"""

import importlib as _importlib

from diffsim import physics
from diffsim.physics import *  # noqa: F403
from diffsim.physics import __all__ as _names

__version__ = "0.1.0"

_PARTS = (
    "delay",
    "envs",
    "gradients",
    "identification",
    "invertible",
    "losses",
    "motion",
    "quadrature",
    "report",
    "tasks",
    "training",
)
__all__ = ["physics", *_names, *_PARTS]


def __getattr__(name: str):
    if name in _PARTS:
        return _importlib.import_module(f"diffsim.{name}")
    raise AttributeError(f"module 'diffsim' has no attribute {name!r}")
