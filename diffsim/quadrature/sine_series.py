"""The sine series on linspace(0, π, n), for samples that carry sinθ: Fejér's second rule / sinθ."""

import numpy as np

from diffsim.quadrature import clenshaw_curtis, fejer2
from diffsim.quadrature.base import Band, Rule, interpolatory


def degree(n: int, measure: str) -> int:
    """Of the function without its sinθ: n-3 (n-2 if n is odd), from the n-2 inner points."""
    return fejer2.degree(n - 2, measure)


def analysis(n: int, measure: str, extent: Band) -> np.ndarray:
    """Fejér's coefficients of the inner samples; those at the poles are zero and drop out."""
    return np.pad(fejer2.analysis(n - 2, measure, extent), ((0, 0), (1, 1)))


RULE = Rule(
    name="sine-series",
    why="samples on linspace(0, π) that include sinθ, so odd across the poles: their sine series",
    measures=("included",),
    nodes=clenshaw_curtis.nodes,
    degree=degree,
    weights=interpolatory(analysis, fejer2.moments),
    analysis=analysis,
    basis=fejer2.basis,
    moments=fejer2.moments,
    nested=True,
)
