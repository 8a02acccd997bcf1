"""Sums over the classes, and the slopes: two passes over the logits each, H formed on the way.

With top the largest logit, e_j = exp(x_j − top) and q the sum of e without the top,
lse − x_j = (top − x_j) + log1p(q); at a single top k, dL/dx_k = ((S − h_k) − h_k q)/(1 + q) with
S − h_k summed without h_k: no digit is lost where the network is sure.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from diffsim.losses.base import Dense, Infogain, Peaked

CHUNK_BYTES = 1 << 19  # rows of H that are formed at once, when XLA cannot fuse them
LANES = 128  # partial sums kept side by side, which is what lets XLA vectorise several at once


class Kernel(NamedTuple):
    """Two functions: (x, labels, H) -> (losses, residual), and (x, labels, H, residual) -> dL/dx.

    A residual is a dict with at least ``top`` and ``log``, (n,) each: lse = top + log.
    """

    sums: Callable[[jax.Array, jax.Array, Any], tuple[jax.Array, dict[str, jax.Array]]]
    slopes: Callable[[jax.Array, jax.Array, Any, dict[str, jax.Array]], jax.Array]


def _lane_sums(*terms: jax.Array) -> tuple[jax.Array, ...]:
    """Sums over the last axis of several (n, C) at once, in one pass."""
    rows, classes = terms[0].shape
    lanes = min(LANES, classes)
    whole = classes // lanes * lanes

    def add(left, right):
        return tuple(a + b for a, b in zip(left, right))

    zeros = tuple(jnp.zeros((), t.dtype) for t in terms)
    blocks = tuple(t[:, :whole].reshape(rows, whole // lanes, lanes) for t in terms)
    # The barrier keeps the passes apart: XLA would write out exp to save computing it twice.
    partial = jax.lax.optimization_barrier(jax.lax.reduce(blocks, zeros, add, (1,)))
    if whole == classes:
        return tuple(jnp.sum(p, axis=1) for p in partial)
    return tuple(jnp.sum(p, 1) + jnp.sum(t[:, whole:], 1) for p, t in zip(partial, terms))


def _top(x: jax.Array) -> jax.Array:
    """The largest logit, kept from being computed again."""
    return jax.lax.optimization_barrier(jnp.max(x, axis=1))


def _row_sums(x, labels, infogain):
    top = _top(x)
    column = top[:, None]
    h = infogain.rows(labels)
    first = x == column
    lag = jnp.where(h != 0, h * (column - x), 0)
    q, ties, loss, others, own = _lane_sums(
        jnp.where(first, 0, jnp.exp(x - column)),
        jnp.where(first, 1, 0).astype(x.dtype),
        lag,
        jnp.where(first, 0, h),
        jnp.where(first, h, 0),
    )
    q = q + (ties - 1)
    log = jnp.log1p(q)
    residual = {"top": top, "log": log, "q": q, "others": others, "own": own, "ties": ties}
    return loss + (others + own) * log, residual


def _row_slopes(x, labels, infogain, residual):
    labels, top, q, others, own, ties = jax.lax.optimization_barrier(
        (labels, *(residual[k] for k in ("top", "q", "others", "own", "ties")))
    )
    scale = (others + own) / (1 + q)
    peak = (others - own * q) / (1 + q)
    column = jnp.where(ties == 1, top, jnp.inf)[:, None]
    slopes = jnp.exp(x - top[:, None]) * scale[:, None] - infogain.rows(labels)
    return jnp.where(x == column, peak[:, None], slopes)


ROWS = Kernel(_row_sums, _row_slopes)


def _peaked_sums(x, labels, infogain):
    peak, rest = infogain.parts(labels)
    top = _top(x)
    column = top[:, None]
    lag = top - x.at[jnp.arange(x.shape[0]), labels].get(mode="promise_in_bounds")
    hit = labels[:, None] == jax.lax.broadcasted_iota(labels.dtype, x.shape, 1)
    terms = [jnp.where(hit, 0, jnp.exp(x - column))]
    if rest is not None:
        terms.append(jnp.where(hit, 0, column - x))
    q, *lags = _lane_sums(*terms)
    log = jnp.log1p(q + (jnp.exp(-lag) - 1))
    loss = jnp.where(peak != 0, peak * (lag + log), 0)
    if rest is not None:
        beside = rest * (lags[0] + (x.shape[1] - 1) * log)
        loss = loss + jnp.where(rest != 0, beside, 0)
    return loss, {"top": top, "log": log, "q": q, "lag": lag}


def _peaked_slopes(x, labels, infogain, residual):
    top, q, lag = jax.lax.optimization_barrier(tuple(residual[k] for k in ("top", "q", "lag")))
    peak, rest = infogain.parts(labels)
    others = 0 if rest is None else (x.shape[1] - 1) * rest
    own = jnp.exp(-lag)
    total = own + q
    slopes = jnp.exp(x - top[:, None]) * ((peak + others) / total)[:, None]
    if rest is not None:
        slopes = slopes - rest[:, None]
    hit = labels[:, None] == jax.lax.broadcasted_iota(labels.dtype, x.shape, 1)
    return jnp.where(hit, ((others * own - peak * q) / total)[:, None], slopes)


PEAKED = Kernel(_peaked_sums, _peaked_slopes)


def chosen(infogain: Infogain) -> Kernel:
    """The kernel for a kind of H."""
    return PEAKED if isinstance(infogain, Peaked) else ROWS


def row_chunk(shape: tuple[int, int], infogain: Infogain, itemsize: int) -> int:
    """How many rows to take at once: all, unless rows of H have to be written out."""
    if isinstance(infogain, Dense | Peaked):
        return shape[0]
    return max(1, min(shape[0], CHUNK_BYTES // (itemsize * shape[1])))
