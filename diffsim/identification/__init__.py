"""System identification: drag, spin lift, restitution and friction from observed flights."""

from diffsim.identification.fit import Identified, identify, parameter_names
from diffsim.identification.observations import Observations, read, write

__all__ = ["Identified", "Observations", "identify", "parameter_names", "read", "write"]
