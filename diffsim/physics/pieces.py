"""Paths as data: before the flight, the pose of each driven surface becomes polynomial pieces.

On each interval of time the twelve coordinates of a pose (centre, and the columns of its
rotation) are polynomials Σ_m c_m xᵐ, x from -1 to 1 along the interval. They come from the rates at
``NODES`` Gauss–Chebyshev nodes, interpolated and integrated, so that surface speeds are as exact as
the path's own. No code of a path runs inside the flight.
"""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from diffsim.physics.device import call
from diffsim.physics.proximity import coordinates
from diffsim.physics.state import Pose

NODES = 8
ROUGH = 1e-6  # m: pieces further from their path than this, and than rounding, are not it
_AT = np.cos(np.pi * (np.arange(NODES) + 0.5) / NODES)[::-1].copy()


# Coefficients 1 to NODES of x ↦ ∫ rate from the rates at the nodes, and values from them less c_0.
_INTEGRATE = np.linalg.inv(np.vander(_AT, increasing=True)) / np.arange(1, NODES + 1)[:, None]
_VALUES = np.vander(_AT, NODES + 1, increasing=True)[:, 1:]


def boundaries(paths: tuple[Callable, ...], times: jax.Array) -> tuple[jax.Array, ...]:
    """Ends of the intervals: the grid and the breaks of the paths between, in order.

    Args:
        times: the grid, (n + 1,), s.

    Returns:
        (K + 1,), s, and where the grid is among them, (n + 1,) int.
    """
    found = [jnp.ravel(path.breaks) for path in paths if hasattr(path, "breaks")]
    if not any(part.size for part in found):
        return times, jnp.arange(times.shape[0], dtype=jnp.int32)
    breaks = jnp.clip(jax.lax.stop_gradient(jnp.concatenate(found)), times[0], times[-1])
    before = jnp.sum(breaks[:, None] < times, axis=0, dtype=jnp.int32)
    grid = jnp.arange(times.shape[0], dtype=jnp.int32) + before
    return jnp.sort(jnp.concatenate([times, breaks])), grid


def pieces(
    path: Callable[[jax.Array], Pose], begin: jax.Array, end: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """The series of one path on intervals, and the largest miss of its samples.

    Args:
        begin, end: of the intervals, (K,), s.

    Returns:
        coefficients (K, 12, NODES + 1), m and 1, and the miss (), in the same units: how far a
        pose of the path is from its series, less what rounding explains.
    """
    at = nodes(begin, end)
    value, rate = (x.reshape(*at.shape, 12).swapaxes(1, 2) for x in sampled(path, jnp.ravel(at)))
    series = fitted(value, rate, (end - begin) / 2)
    miss = jnp.abs(value - series[..., :1] - _product(series[..., 1:], _VALUES.T))
    epsilon = 50 * float(jnp.finfo(at.dtype).eps)
    miss = jnp.max(miss) - epsilon * (1 + jnp.max(jnp.abs(value)))
    if epsilon > ROUGH:  # then the last coefficient, as T_N begins with 2^(N-1) x^N, tells more
        miss = jnp.maximum(miss, jnp.max(jnp.abs(series[..., -1])) / (4 * 2 ** (NODES - 1)))
    return series, jax.lax.stop_gradient(miss)


def nodes(begin: jax.Array, end: jax.Array) -> jax.Array:
    """Times at which a path is asked, (K, NODES), s."""
    return begin[:, None] + (end - begin)[:, None] / 2 * (1 + jnp.asarray(_AT, begin.dtype))


def fitted(value: jax.Array, rate: jax.Array, half: jax.Array) -> jax.Array:
    """Series (K, 12, NODES + 1) from coordinates and rates at the nodes, (K, 12, NODES)."""
    rest = _product(half[:, None, None] * rate, _INTEGRATE.T)
    first = jnp.mean(value - _product(rest, _VALUES.T), axis=-1, keepdims=True)
    return jnp.concatenate([first, rest], axis=-1)


def sampled(path, times: jax.Array) -> tuple[jax.Array, ...]:
    """Coordinates and their rates at times (n,), each (n, 12)."""
    pose = jax.tree.map(lambda leaf: leaf.astype(times.dtype), jax.vmap(path)(times))
    return jax.vmap(coordinates)(pose)


def _product(rows, matrix):
    return jnp.matmul(rows, jnp.asarray(matrix, rows.dtype), precision=jax.lax.Precision.HIGHEST)


@functools.partial(call, static=(3,))
def rates(coefficients: jax.Array, x: jax.Array, half: jax.Array, orders: int) -> jax.Array:
    """Coordinates and their first time derivatives, (orders, 12, …, B).

    Args:
        coefficients: of the interval, (12, NODES + 1, …, B).
        x: in [-1, 1], (…, B).
        half: half the length of the interval, (B,), s; where it is 0, so are the rates.
        orders: how many, the coordinates themselves included.
    """
    inverse = jnp.where(half > 0, 1 / jnp.where(half > 0, half, 1.0), 0.0)

    # Horner's rule for a polynomial and its derivatives over k!: p ← p x + c, p' ← p' x + p
    def add(found, coefficient):
        lower = (coefficient, *found[:-1])
        return tuple(p * x + q for p, q in zip(found, lower, strict=True)), None

    start = (0 * (coefficients[:, 0] + x),) * orders  # varies over devices as they do
    found = jax.lax.scan(add, start, jnp.moveaxis(coefficients, 1, 0), reverse=True, unroll=True)[0]
    return jnp.stack([p * (math.factorial(k) * inverse**k) for k, p in enumerate(found)])
