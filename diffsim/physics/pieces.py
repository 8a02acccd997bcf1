"""Paths as data: before the flight, the pose of each driven surface becomes polynomial pieces.

On each interval of time the twelve coordinates of a pose (centre, and the columns of its
rotation) are Chebyshev series Σ_m c_m T_m(x), x from -1 to 1 along the interval. They come
from the rates at ``NODES`` Gauss–Chebyshev nodes, integrated term by term, so that surface speeds
are as exact as the path's own. No code of a path runs inside the flight.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from diffsim.physics.lanes import call
from diffsim.physics.proximity import coordinates
from diffsim.physics.state import Pose

NODES = 8
ROUGH = 1e-6  # m: pieces further from their path than this, and than rounding, are not it
_AT = np.cos(np.pi * (np.arange(NODES) + 0.5) / NODES)[::-1].copy()


def _series() -> np.ndarray:
    """Coefficients 1 to NODES of x ↦ ∫ rate from the rates at the nodes, (NODES, NODES)."""
    values = np.cos(np.arange(NODES)[:, None] * np.arccos(_AT)) * 2 / NODES
    values[0] /= 2  # rate = Σ_m values[m] T_m
    padded = np.vstack([values[:1] * 2, values[1:], np.zeros((2, NODES))])
    order = np.arange(1, NODES + 1)[:, None]
    return (padded[:-2] - padded[2:]) / (2 * order)


_INTEGRATE = _series()
_VALUES = np.cos(np.arange(1, NODES + 1) * np.arccos(_AT)[:, None])  # (nodes, 1 to NODES)


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
    rounding = 50 * float(jnp.finfo(at.dtype).eps) * (1 + jnp.max(jnp.abs(value)))
    return series, jax.lax.stop_gradient(jnp.max(miss) - rounding)


def nodes(begin: jax.Array, end: jax.Array) -> jax.Array:
    """Times at which a path is asked, (K, NODES), s."""
    return begin[:, None] + (end - begin)[:, None] / 2 * (1 + jnp.asarray(_AT, begin.dtype))


def fitted(value: jax.Array, rate: jax.Array, half: jax.Array) -> jax.Array:
    """Series (K, 12, NODES + 1) from coordinates and rates at the nodes, (K, 12, NODES)."""
    rest = _product(half[:, None, None] * rate, _INTEGRATE.T)
    return jnp.concatenate([jnp.mean(value, axis=-1, keepdims=True), rest], axis=-1)


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
    one, zero = jnp.ones_like(x), jnp.zeros_like(x)
    inverse = jnp.where(half > 0, 1 / jnp.where(half > 0, half, 1.0), 0.0)
    twice = 2 * jnp.arange(orders).astype(x.dtype).reshape(-1, *[1] * x.ndim)

    # T_{m+1} = 2 x T_m - T_{m-1},  T'_{m+1} = 2 T_m + 2 x T'_m - T'_{m-1}, and so on
    def add(carry, coefficient):
        before, now, total = carry
        total = total + before[:, None] * coefficient
        lower = jnp.concatenate([zero[None], now[:-1]])
        return (now, 2 * x * now - before + twice * lower, total), None

    first = jnp.stack([one, *[zero] * (orders - 1)])
    second = jnp.stack([x, one, *[zero] * (orders - 2)])
    shape = jnp.broadcast_shapes(x.shape, coefficients.shape[2:])
    start = first, second, jnp.zeros((orders, 12, *shape), x.dtype)
    found = jax.lax.scan(add, start, jnp.moveaxis(coefficients, 1, 0), unroll=True)[0][2]
    return jnp.stack([found[0], *[found[k] * inverse**k for k in range(1, orders)]])
