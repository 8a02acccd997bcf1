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

CHUNK_BYTES = 1 << 19  # of logits that are taken at once, where something else is written
FOLDS = (8, 7, 6, 5, 4)
VECTOR = 8


class Kernel(NamedTuple):
    """Three functions, of rows x (n, C) with labels (n,) in range.

    Attributes:
        losses: (x, labels, H) -> losses (n,).
        sums: (x, labels, H) -> losses (n,) and a residual, a dict with at least ``top`` and
            ``log``, (n,) each: lse = top + log.
        slopes: (x, labels, H, residual) -> dL/dx in two parts, (n, C), and (n,) or None to be
            added at the labels: a scatter last of all keeps everything before it in one pass.
    """

    losses: Callable[[jax.Array, jax.Array, Any], jax.Array]
    sums: Callable[[jax.Array, jax.Array, Any], tuple[jax.Array, dict[str, jax.Array]]]
    slopes: Callable[
        [jax.Array, jax.Array, Any, dict[str, jax.Array]], tuple[jax.Array, jax.Array | None]
    ]


def at_labels(array: jax.Array, labels: jax.Array) -> jax.Array:
    """array[i, labels[i]]."""
    return _indexed(array, labels).get(**_TRUST)


_TRUST: dict[str, Any] = {"mode": "promise_in_bounds", "unique_indices": True}


def _indexed(array, labels):
    return array.at[jnp.arange(labels.shape[0], dtype=labels.dtype), labels]


def _fold(classes: int) -> tuple[int, int]:
    """(f, n): sum f blocks of n classes side by side, and the few that are left apart.

    XLA vectorises several sums in one pass if they are over a leading axis short enough to be
    unrolled, with whole vectors behind it; entries outside of whole vectors are slow, and those
    left over slower still (found by timing).
    """

    def cost(pair):
        return pair[0] * (pair[1] % VECTOR) + 4 * (classes - pair[0] * pair[1])

    exact = [(f, classes // f) for f in FOLDS]
    return min(exact + [(f, n // VECTOR * VECTOR) for f, n in exact], key=cost)


def _pass_sums(terms: Callable, classes: int) -> tuple[jax.Array, ...]:
    """Sums over the classes of several (n, C) at once, in one pass; ``terms(slice)`` forms them."""
    folds, width = _fold(classes)
    whole = folds * width
    if whole == 0:
        return tuple(jnp.sum(t, axis=1) for t in terms(slice(None)))
    blocks = tuple(t.reshape(t.shape[0], folds, width) for t in terms(slice(0, whole)))

    def add(left, right):
        return tuple(a + b for a, b in zip(left, right))

    zeros = tuple(jnp.zeros((), t.dtype) for t in blocks)
    # The barrier keeps the passes apart: XLA would write out exp to save computing it twice.
    sums = jax.lax.optimization_barrier(jax.lax.reduce(blocks, zeros, add, (1,)))
    if whole == classes:
        return tuple(jnp.sum(s, axis=1) for s in sums)
    rest = terms(slice(whole, classes))
    return tuple(jnp.sum(s, axis=1) + jnp.sum(t, axis=1) for s, t in zip(sums, rest))


def _top(x: jax.Array) -> jax.Array:
    """The largest logit, kept from being computed again."""
    return jax.lax.optimization_barrier(jnp.max(x, axis=1))


def _row_sums(x, labels, infogain):
    # In blocks, as what the folds leave has to be written, and should stay near.
    return by_chunks(lambda *block: _block_sums(*block, infogain), _fitting(x), x, labels)


def _block_sums(x, labels, infogain):
    top = _top(x)
    # A zero that depends on x and H: every term must, as lax.reduce of several arrays cannot be
    # differentiated when only some change, and a second derivative through lax.map does that.
    zero = (0 * (top + infogain.rows(labels, slice(0, 1))[:, 0]))[:, None]
    column = top[:, None] + zero

    def terms(part):
        y, h = x[:, part], infogain.rows(labels, part)
        first = y == column
        return (
            jnp.where(first, 0, jnp.exp(y - column)),
            jnp.where(first, 1 + zero, 0),
            jnp.where(h != 0, h * (column - y), 0),
            jnp.where(first, zero, h),
            jnp.where(first, h + zero, 0),
        )

    q, ties, loss, others, own = _pass_sums(terms, x.shape[1])
    q = q + (ties - 1)
    log = jnp.log1p(q)
    residual = {"top": top, "log": log, "q": q, "others": others, "own": own, "ties": ties}
    # This second use of the top keeps XLA from writing it out C times before the first.
    loss = jnp.where(jnp.isfinite(top), loss + (others + own) * log, jnp.nan)
    return loss, residual


def _row_slopes(x, labels, infogain, residual):
    labels, top, q, others, own, ties = jax.lax.optimization_barrier(
        (labels, *(residual[k] for k in ("top", "q", "others", "own", "ties")))
    )
    scale = (others + own) / (1 + q)
    peak = (others - own * q) / (1 + q)
    column = jnp.where(ties == 1, top, jnp.inf)[:, None]
    slopes = jnp.exp(x - top[:, None]) * scale[:, None] - infogain.rows(labels)
    return jnp.where(x == column, peak[:, None], slopes), None


ROWS = Kernel(lambda *args: _row_sums(*args)[0], _row_sums, _row_slopes)


def _peaked_losses(x, labels, infogain):
    def block(x, labels):
        # A comparison of integers beside exp is slow, and so is one sum alone (found by timing).
        column, kind = _top(x)[:, None], x.dtype if x.shape[1] < 1 << 24 else labels.dtype
        classes, own = jnp.arange(x.shape[1], dtype=kind), labels.astype(kind)[:, None]

        def terms(part):
            y = x[:, part]
            return jnp.where(classes[part] == own, 0, jnp.exp(y - column)), column - y

        return _peaked_loss(x, labels, infogain, column[:, 0], *_pass_sums(terms, x.shape[1]))[0]

    return by_chunks(block, _fitting(x), x, labels)


def _peaked_sums(x, labels, infogain):
    top = _top(x)
    column = top[:, None]
    # exp is kept, as optax does: no fusion can both sum and scale it. The label's own is left out.
    beside = _indexed(jnp.exp(x - column), labels).set(0, **_TRUST)
    beside = jax.lax.optimization_barrier(beside)
    if infogain.parts(labels)[1] is not None:
        q, lags = _pass_sums(lambda part: (beside[:, part], column - x[:, part]), x.shape[1])
    else:
        q, lags = jnp.sum(beside, axis=1), None
    loss, residual = _peaked_loss(x, labels, infogain, top, q, lags)
    return loss, {**residual, "beside": beside}


def _peaked_loss(x, labels, infogain, top, q, lags):
    """Losses from q = Σ exp(x_j − top) without the label's own and lags = Σ (top − x_j)."""
    peak, rest = infogain.parts(labels)
    lag = top - at_labels(x, labels)
    log = jnp.log1p(q + (jnp.exp(-lag) - 1))
    extra = peak if rest is None else peak - rest
    loss = jnp.where(extra != 0, extra * (lag + log), 0)
    if rest is not None:
        loss = loss + jnp.where(rest != 0, rest * (lags + x.shape[1] * log), 0)
    return loss, {"top": top, "log": log, "q": q, "lag": lag}


def _peaked_slopes(x, labels, infogain, residual):
    q, lag = residual["q"], residual["lag"]
    peak, rest = infogain.parts(labels)
    own = jnp.exp(-lag)
    if rest is None:
        scale = peak / (own + q)
        return residual["beside"] * scale[:, None], -scale * q
    others = (x.shape[1] - 1) * rest
    slopes = residual["beside"] * ((peak + others) / (own + q))[:, None] - rest[:, None]
    return slopes, (others * own - peak * q) / (own + q) + rest


PEAKED = Kernel(_peaked_losses, _peaked_sums, _peaked_slopes)


def chosen(infogain: Infogain) -> Kernel:
    """The kernel for a kind of H."""
    return PEAKED if isinstance(infogain, Peaked) else ROWS


def by_chunks(f: Callable, size: int, *arrays: jax.Array) -> Any:
    """f over blocks of rows, one after the other, the last one shorter."""
    count = arrays[0].shape[0]
    if count <= size:
        return f(*arrays)
    whole = count // size * size
    blocks = tuple(a[:whole].reshape(-1, size, *a.shape[1:]) for a in arrays)
    out = jax.lax.map(lambda block: f(*block), blocks)
    out = jax.tree.map(lambda a: a.reshape(whole, *a.shape[2:]), out)
    if whole == count:
        return out
    rest = f(*(a[whole:] for a in arrays))
    return jax.tree.map(lambda a, b: jnp.concatenate([a, b]), out, rest)


def _fitting(x: Any) -> int:
    """How many rows of x are worth CHUNK_BYTES."""
    return max(1, CHUNK_BYTES // (x.dtype.itemsize * x.shape[1]))


def row_chunk(x: Any, infogain: Infogain) -> int:
    """How many rows to take at once: all, unless rows of H have to be written out."""
    return x.shape[0] if isinstance(infogain, Dense | Peaked) else _fitting(x)
