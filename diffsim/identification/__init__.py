"""System identification: drag, spin lift, restitution and friction from observed flights."""

from diffsim.identification.fit import Identified, identify
from diffsim.identification.observations import Observations, read, write
from diffsim.identification.parameters import parameter_names
from diffsim.identification.verdict import FlightFit, explains, fit_warnings, flight_fits

__all__ = [
    "FlightFit",
    "Identified",
    "Observations",
    "explains",
    "fit_warnings",
    "flight_fits",
    "identify",
    "parameter_names",
    "read",
    "write",
]
