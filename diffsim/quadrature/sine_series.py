"""The sine series on linspace(0, π, n), for samples that carry sinθ: Fejér's second rule / sinθ."""

import numpy as np

from diffsim.quadrature.clenshaw_curtis import Linspace
from diffsim.quadrature.fejer2 import Fejer2


class SineSeries(Linspace, Fejer2):
    """Fejér's second rule on the inner points; the samples at the poles are zero and drop out."""

    name = "sine-series"
    why = "samples on linspace(0, π) that include sinθ, so odd across the poles: their sine series"
    measures = ("included",)

    @property
    def degree(self) -> int:
        """Of the function without its sinθ: n-3 (n-2 if n is odd), from the n-2 inner points."""
        return Fejer2(self.n - 2, self.measure).degree

    @property
    def analysis(self) -> np.ndarray:
        return np.pad(Fejer2(self.n - 2, self.measure).analysis, ((0, 0), (1, 1)))
