"""Parametric paddle trajectories: a generator turns weights into a path of poses.

>>> import jax.numpy as jnp
>>> generator = GENERATORS["minimum-jerk"].create(duration=0.8, normal=(1.0, 0.0, 0.0))
>>> path = generator(0.1 * jnp.ones(generator.weight_count))
>>> pose = path(0.4)
>>> pose.position.shape, pose.rotation.shape
((3,), (3, 3))
"""

from diffsim.motion.base import Curve, Generator, Path
from diffsim.motion.bspline import BSpline
from diffsim.motion.dmp import DMP
from diffsim.motion.gaussian import WeightGaussian
from diffsim.motion.limits import Limits, effort, limit_penalty, load
from diffsim.motion.min_jerk import MinimumJerk
from diffsim.motion.polynomial import Polynomial
from diffsim.motion.promp import ProMP

GENERATORS: dict[str, type[Generator]] = {
    "polynomial": Polynomial,
    "minimum-jerk": MinimumJerk,
    "bspline": BSpline,
    "promp": ProMP,
    "dmp": DMP,
}

__all__ = [
    "DMP",
    "GENERATORS",
    "BSpline",
    "Curve",
    "Generator",
    "Limits",
    "MinimumJerk",
    "Path",
    "Polynomial",
    "ProMP",
    "WeightGaussian",
    "effort",
    "limit_penalty",
    "load",
]
