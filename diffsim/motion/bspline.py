"""A clamped uniform B-spline for each coordinate."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from diffsim.motion import base
from diffsim.motion.piecewise import Piecewise


@struct.dataclass
class BSpline(base.Generator):
    """q(t) = Σ_j B_j(t/duration) p_j with B_j of one degree on a clamped uniform knot vector.

    The first two control points are home, which starts the path there at rest; the others are
    home + scale w_j, one row of six weights each, and the path ends at the last; or, where it
    returns, the last two are home again, where it comes to rest. With degree = control_points + 3
    that is one polynomial, a Bézier curve.

    Attributes:
        control_points: number of those set by weights.
        degree: of the spline; 3 gives a continuous acceleration.
        returns: whether the path ends at rest at home.

    Source: C. de Boor, A Practical Guide to Splines, ch. IX, eqs. 14–15 (rev. ed. 2001).
    """

    control_points: int = struct.field(pytree_node=False)
    degree: int = struct.field(pytree_node=False)
    returns: bool = struct.field(pytree_node=False)

    @classmethod
    def create(
        cls, control_points: int = 6, degree: int = 3, returns: bool = False, **settings: Any
    ) -> "BSpline":
        """A B-spline generator.

        Args:
            control_points: number of those set by weights, at least degree − 1, or two fewer
                where the path returns, and 1.
            degree: at least 2.
            returns: end at rest at home.
            settings: duration, home, normal and scale, see :func:`diffsim.motion.base.settings`.

        Raises:
            ValueError: a setting is out of range.

        >>> import jax.numpy as jnp
        >>> path = BSpline.create(control_points=4)(jnp.ones(24))
        >>> [round(float(x), 4) for x in path(1.0).position]  # the last control point
        [0.2, 0.2, 0.2]
        """
        degree = base.count("degree", degree, 2)
        least = max(degree - 1 - 2 * returns, 1)
        points = base.count("control_points", control_points, least)
        return cls(
            **base.settings(**settings), control_points=points, degree=degree, returns=returns
        )

    @property
    def weight_count(self) -> int:
        return self.axes * self.control_points

    def curve(self, weights: jax.Array) -> Piecewise:
        rows = self.displacements(weights)
        still = jnp.zeros((2, self.axes), rows.dtype)
        rows = jnp.concatenate([still, rows, still[: 2 * self.returns]])
        matrices = jnp.asarray(span_matrices(len(rows), self.degree), weights.dtype)
        near = np.arange(len(matrices))[:, None] + np.arange(self.degree + 1)
        rows = self.home + rows[near]
        coefficients = jnp.einsum("ikj,ijc->ikc", matrices, rows, precision="highest")
        return Piecewise(coefficients)


@functools.cache
def span_matrices(points: int, degree: int) -> np.ndarray:
    """Power-basis coefficients of the clamped uniform B-splines on each of their spans.

    The recursion of Cox and de Boor, run on polynomials in u from -1/2 to 1/2 along the span:
    B_{j,d} = (t − t_j)/(t_{j+d} − t_j) B_{j,d−1}
    + (t_{j+d+1} − t)/(t_{j+d+1} − t_{j+1}) B_{j+1,d−1}.

    Args:
        points: number of basis functions.
        degree: of them.

    Returns:
        (spans, degree + 1, degree + 1) with spans = points − degree; entry [i, k, j] is
        the coefficient of u^k in basis function i + j on span i.

    >>> span_matrices(2, 1).tolist()
    [[[0.5, 0.5], [-1.0, 1.0]]]
    """
    spans = points - degree
    knots = np.clip(np.arange(-degree, spans + degree + 1), 0, spans)  # in units of one span
    matrices = np.zeros((spans, degree + 1, degree + 1))
    for span in range(spans):
        basis = {span + degree: np.array([1.0])}  # by first knot; powers of u, lowest first
        for d in range(1, degree + 1):
            raised = {}
            for j in range(span + degree - d, span + degree + 1):
                total = np.zeros(d + 1)
                if j in basis:
                    width = knots[j + d] - knots[j]
                    total += np.convolve(basis[j], [span + 0.5 - knots[j], 1]) / width
                if j + 1 in basis:
                    width = knots[j + d + 1] - knots[j + 1]
                    total += np.convolve(basis[j + 1], [knots[j + d + 1] - span - 0.5, -1]) / width
                raised[j] = total
            basis = raised
        matrices[span] = np.stack([basis[span + j] for j in range(degree + 1)], axis=1)
    return matrices
