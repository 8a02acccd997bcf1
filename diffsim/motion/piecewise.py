"""A piecewise polynomial in phase: what most generators turn their weights into."""

import math

import jax
import jax.numpy as jnp
from flax import struct


@struct.dataclass
class Piecewise:
    """q(s) = Σ_k c[i, k] u^k on segment i, with u running from -1/2 to 1/2 along it.

    So the powers are small and their sum rounds least: in single precision a spline of degree 7
    from 0 is off by 1e-5 of itself.

    Attributes:
        coefficients: c, (segments, degree + 1, axes), lowest power first.
        knots: phases of the segment ends, (segments + 1,), from 0 to 1; None spaces them evenly.
    """

    coefficients: jax.Array
    knots: jax.Array | None = None

    @property
    def breaks(self) -> jax.Array:
        """Phases between the segments, (segments - 1,)."""
        segments = self.coefficients.shape[0]
        if self.knots is None:
            return jnp.arange(1, segments).astype(self.coefficients.dtype) / segments
        return self.knots[1:-1]

    def __call__(self, phase: jax.Array) -> jax.Array:
        """Coordinates (axes,) at a phase in [0, 1]."""
        segments = self.coefficients.shape[0]
        if segments == 1:
            return _polynomial(self.coefficients[0], phase - 0.5)
        if self.knots is None:
            index = jnp.clip((phase * segments).astype(int), 0, segments - 1)
            local = phase * segments - index.astype(phase.dtype)
        else:
            index = jnp.sum(phase >= self.knots[1:-1])
            begin = self.knots[index]
            local = (phase - begin) / (self.knots[index + 1] - begin)
        return _polynomial(self.coefficients[index], local - 0.5)


def centred(coefficients: jax.Array) -> jax.Array:
    """Coefficients of u from those of u + 1/2, along the last axis but one, lowest power first.

    >>> centred(jnp.array([[0.0], [0.0], [1.0]])).ravel().tolist()  # (u + 1/2)²
    [0.25, 1.0, 1.0]
    """
    powers = range(coefficients.shape[-2])
    matrix = [[math.comb(m, k) * 0.5 ** max(m - k, 0) for m in powers] for k in powers]
    return jnp.matmul(jnp.asarray(matrix, coefficients.dtype), coefficients, precision="highest")


def quintic_segments(nodes: jax.Array, widths: jax.Array | float) -> jax.Array:
    """Coefficients of the quintics that meet given values, slopes and curvatures at their ends.

    Args:
        nodes: value and first and second derivative in phase at each node, (segments + 1, 3, axes).
        widths: of the segments, in phase, (segments,), or one for all.

    Returns:
        Coefficients for a :class:`Piecewise`, (segments, 6, axes).
    """
    width = jnp.asarray(widths, nodes.dtype).reshape(-1, 1)
    start, slope, bend = nodes[:-1, 0], width * nodes[:-1, 1], width**2 * nodes[:-1, 2]
    gap = nodes[1:, 0] - start - slope - bend / 2
    slope_gap = width * nodes[1:, 1] - slope - bend
    bend_gap = width**2 * nodes[1:, 2] - bend
    from_zero = [
        start,
        slope,
        bend / 2,
        10 * gap - 4 * slope_gap + bend_gap / 2,
        -15 * gap + 7 * slope_gap - bend_gap,
        6 * gap - 3 * slope_gap + bend_gap / 2,
    ]
    return centred(jnp.stack(from_zero, axis=1))


def _polynomial(coefficients, local):
    """Σ_k c_k u^k by Horner's rule: one body, and no loop."""
    step = lambda total, coefficient: (coefficient + local * total, None)  # noqa: E731
    first = coefficients[-1] + 0 * local
    return jax.lax.scan(step, first, coefficients[:-1], reverse=True, unroll=True)[0]
