"""Integration over the sphere of samples on a grid, with the rule that fits grid and measure."""

from diffsim.quadrature.grid import Grid, recognise, sphere_grid
from diffsim.quadrature.parity import Flag, explain
from diffsim.quadrature.periodic import Symmetry
from diffsim.quadrature.refinement import Refined, refine, suggest
from diffsim.quadrature.sphere import Integral, Weights, integrate, weights
from diffsim.quadrature.table import RULES, make
from diffsim.quadrature.zoom import Zoom

__all__ = [
    "RULES",
    "Flag",
    "Grid",
    "Integral",
    "Refined",
    "Symmetry",
    "Weights",
    "Zoom",
    "explain",
    "integrate",
    "make",
    "recognise",
    "refine",
    "sphere_grid",
    "suggest",
    "weights",
]
