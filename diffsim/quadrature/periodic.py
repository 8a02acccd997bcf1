"""The periodic trapezoid in longitude, with the symmetries that fold its points and the rings'.

Exact for cos mφ and sin mφ up to m = n-1; cos nφ aliases to 1.
L. N. Trefethen and J. A. C. Weideman, SIAM Review 56 (2014) 385.
"""

import numpy as np
from flax import struct


@struct.dataclass
class Symmetry:
    """What the caller declares about f, so that only part of the sphere need be sampled.

    Attributes:
        equator: f(π-θ, φ) = f(θ, φ): sample θ <= π/2.
        mirror: f(θ, 2φ₀-φ) = f(θ, φ) about the first meridian φ₀: sample half the turn, ends
            included.
        fold: f(θ, φ + 2π/fold) = f(θ, φ): sample one part of ``fold``.

    Both ``equator`` and ``mirror`` leave a quarter of the samples.
    """

    equator: bool = struct.field(pytree_node=False, default=False)
    mirror: bool = struct.field(pytree_node=False, default=False)
    fold: int = struct.field(pytree_node=False, default=1)

    def rows(self, n: int) -> np.ndarray:
        """For each of the n rings of the whole sphere, the sampled ring it equals."""
        i = np.arange(n)
        return np.minimum(i, n - 1 - i) if self.equator else i

    def columns(self, n: int) -> np.ndarray:
        """For each of the n meridians of the whole turn, the sampled meridian it equals."""
        part = n // self.fold
        j = np.arange(n) % part
        return np.minimum(j, (part - j) % part) if self.mirror else j


def fold(weights: np.ndarray, orbits: np.ndarray) -> np.ndarray:
    """Add up the weights of points that hold the same sample."""
    return np.bincount(orbits, weights)


def longitudes(n: int, start: float = 0.0) -> np.ndarray:
    """φ_j = φ₀ + 2πj/n; 2π itself is not repeated."""
    return start + 2 * np.pi * np.arange(n) / n


def weights(n: int) -> np.ndarray:
    """2π/n each."""
    return np.full(n, 2 * np.pi / n)


def degree(n: int) -> int:
    """n-1."""
    return n - 1
