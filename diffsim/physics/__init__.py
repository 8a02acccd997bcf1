"""Ball/paddle physics: flight with drag and spin, and impacts located exactly in time."""

from diffsim.physics.contact.base import Impacts
from diffsim.physics.contact.compliant import Compliant
from diffsim.physics.contact.impulse import Impulse
from diffsim.physics.contact.smoothed import Smoothed
from diffsim.physics.flight import ConstantCoefficients, SpinRatioLift
from diffsim.physics.simulate import Rollout, Status, simulate
from diffsim.physics.state import Air, Ball, BallState, Pose
from diffsim.physics.surfaces import Surface, floor, net, net_cord, paddle, table, table_edges
from diffsim.physics.world import World

__all__ = [
    "Air",
    "Ball",
    "BallState",
    "Compliant",
    "ConstantCoefficients",
    "Impacts",
    "Impulse",
    "Pose",
    "Rollout",
    "Smoothed",
    "SpinRatioLift",
    "Status",
    "Surface",
    "World",
    "floor",
    "net",
    "net_cord",
    "paddle",
    "simulate",
    "table",
    "table_edges",
]
