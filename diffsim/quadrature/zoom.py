"""The Möbius zoom: a conformal map of the sphere that spreads a narrow beam over half of it.

tan(γ/2) = s tan(γ'/2), γ the angle from the beam's axis; dΩ = λ² dΩ' with
λ = s / (cos²(γ'/2) + s² sin²(γ'/2)). A beam of width 1/√κ then looks the same for every κ.
"""

import numpy as np
from flax import struct


@struct.dataclass
class Zoom:
    """Where the beam points and how narrow it is.

    Attributes:
        theta: colatitude of the axis, rad.
        phi: longitude of the axis, rad.
        half_angle: the cap about the axis that is to fill half of the samples, rad; two to seven
            standard widths of the beam (1/√κ each for a von Mises–Fisher beam).
    """

    theta: float = struct.field(pytree_node=False)
    phi: float = struct.field(pytree_node=False)
    half_angle: float = struct.field(pytree_node=False)

    def stretch(self, theta: np.ndarray) -> np.ndarray:
        """λ at the colatitudes of the base grid, whose pole is the beam's axis."""
        s = np.tan(self.half_angle / 2)
        return s / (np.cos(theta / 2) ** 2 + (s * np.sin(theta / 2)) ** 2)

    def place(self, theta: np.ndarray, phi: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Colatitude and longitude in the world of points of the base grid."""
        s = np.tan(self.half_angle / 2)
        angle = 2 * np.arctan2(s * np.sin(theta / 2), np.cos(theta / 2))
        x, y, z = np.sin(angle) * np.cos(phi), np.sin(angle) * np.sin(phi), np.cos(angle)
        tilt, cosine = np.sin(self.theta), np.cos(self.theta)
        x, z = cosine * x + tilt * z, cosine * z - tilt * x
        return np.arctan2(np.hypot(x, y), z), (self.phi + np.arctan2(y, x)) % (2 * np.pi)
