"""The smoothest motion through via points: quintic segments of least squared jerk."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from diffsim import _check
from diffsim.motion import base
from diffsim.motion.piecewise import Piecewise, quintic_segments

# Jerk at the cubic, quartic and quintic coefficients (rows) from the value, slope and curvature at
# both ends of a segment of width 1 (columns), and ∫ jerk² over it as a form in those coefficients.
_TOP = np.array(
    [
        [-10, -6, -1.5, 10, -4, 0.5],
        [15, 8, 1.5, -15, 7, -1],
        [-6, -3, -0.5, 6, -3, 0.5],
    ]
)
_ENERGY = _TOP.T @ np.array([[36, 72, 120], [72, 192, 360], [120, 360, 720]]) @ _TOP


@struct.dataclass
class MinimumJerk(base.Generator):
    """The path of least ∫ |q⃛|² dt from rest at home, through via points, to rest at an end point.

    Between its nodes such a path is quintic. With ``via_velocity`` the velocities at the via points
    are weights too and only the accelerations there are left to the minimum: one via point is
    then a hit (where, and how fast, at a set time), the end point its follow-through. Without via
    points it is home + (end − home)(10 s³ − 15 s⁴ + 6 s⁵).

    The weights are, for each via point, a row of displacement from home (in ``scale``) and, with
    ``via_velocity``, a row of velocity (in ``scale`` / duration); last the displacement of the end
    point, unless the path returns: then that is home.

    Attributes:
        via_times: rising, between 0 and duration, (vias,), s.
        via_velocity: whether the velocities at the via points are weights.
        returns: whether the end point is home.

    Source: T. Flash and N. Hogan, The coordination of arm movements, J. Neurosci. 5 (1985),
        the point-to-point and via-point solutions.
    """

    via_times: jax.Array
    via_velocity: bool = struct.field(pytree_node=False)
    returns: bool = struct.field(pytree_node=False)

    @classmethod
    def create(
        cls,
        via_times: Any = None,
        via_velocity: bool = True,
        returns: bool = False,
        **settings: Any,
    ) -> "MinimumJerk":
        """A minimum-jerk generator.

        Args:
            via_times: rising, between 0 and duration, (vias,), s; None is one, half way.
            via_velocity: make the velocities at the via points weights.
            returns: end at home, which takes a via point.
            settings: duration, home, normal and scale, see :func:`diffsim.motion.base.settings`.

        Raises:
            ValueError: a setting is out of range.

        >>> import jax.numpy as jnp
        >>> stroke = MinimumJerk.create(via_times=[0.4], duration=0.8)
        >>> weights = jnp.zeros((3, 6)).at[1, 2].set(4.0)  # hit at home, with 4 · 0.2 m / 0.8 s
        >>> round(float(stroke(weights.ravel())(0.4).velocity[2]), 4)
        1.0
        """
        common = base.settings(**settings)
        if via_times is None:
            via_times = common["duration"][None] / 2
        times = _check.floating("via_times", via_times)
        if times.ndim != 1:
            raise ValueError(f"via_times: expected shape (vias,), got {times.shape}")
        if returns and not times.size:
            raise ValueError("via_times: expected at least one for a path that returns, got none")
        if not any(isinstance(x, jax.core.Tracer) for x in (times, common["duration"])):
            ends = [0.0, *times.tolist(), float(common["duration"])]
            if not np.all(np.diff(ends) > 0):
                raise ValueError(f"via_times: expected rising between 0 and duration, got {ends}")
        times = times.astype(times.dtype)
        return cls(**common, via_times=times, via_velocity=via_velocity, returns=returns)

    @property
    def weight_count(self) -> int:
        return self.axes * ((1 + self.via_velocity) * len(self.via_times) + (not self.returns))

    def curve(self, weights: jax.Array) -> Piecewise:
        rows = self.displacements(weights)
        if self.returns:
            rows = jnp.concatenate([rows, jnp.zeros((1, self.axes), rows.dtype)])
        vias = len(self.via_times)
        one = jnp.ones(1, weights.dtype)
        knots = jnp.concatenate([0 * one, self.via_times / self.duration, one])

        # Three unknowns a node: value, slope and curvature in phase. Some are given.
        given = np.zeros((vias + 2, 3), bool)
        given[[0, -1]] = True
        given[:, : 1 + self.via_velocity] = True
        nodes = jnp.zeros((vias + 2, 3, self.axes), weights.dtype).at[0, 0].set(self.home)
        per_via = rows[:-1].reshape(vias, 1 + self.via_velocity, self.axes)
        nodes = nodes.at[1:-1, : 1 + self.via_velocity].set(per_via)
        nodes = nodes.at[1:, 0].add(self.home).at[-1, 0].add(rows[-1])
        if vias:
            nodes = _least_jerk(nodes, given, jnp.diff(knots))
        return Piecewise(quintic_segments(nodes, jnp.diff(knots)), knots)


def _least_jerk(nodes, given, widths):
    """Fill in the node values that are not given so that ∫ |jerk|² is least."""
    size = given.size
    energy = jnp.zeros((size, size), nodes.dtype)
    for i in range(len(given) - 1):
        units = jnp.tile(jnp.stack([jnp.ones_like(widths[i]), widths[i], widths[i] ** 2]), 2)
        block = jnp.asarray(_ENERGY, nodes.dtype) * units * units[:, None] / widths[i] ** 5
        energy = energy.at[3 * i : 3 * i + 6, 3 * i : 3 * i + 6].add(block)
    known, free = np.flatnonzero(given), np.flatnonzero(~given)
    flat = nodes.reshape(size, -1)
    force = jnp.matmul(energy[np.ix_(free, known)], flat[known], precision="highest")
    return (
        flat.at[free].set(-jnp.linalg.solve(energy[np.ix_(free, free)], force)).reshape(nodes.shape)
    )
