"""Sums over the classes, and the slopes: two passes over the logits each, H formed on the way.

With top the largest logit, e_j = exp(x_j − top) and q the sum of e without the top,
lse − x_j = (top − x_j) + log1p(q); at a single top k, dL/dx_k = ((S − h_k) − h_k q)/(1 + q) with
S − h_k summed without h_k: no digit is lost where the network is sure.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from diffsim._types import Tree
from diffsim.losses.base import EVERY, DenseInfogain, Infogain, PeakedInfogain

CHUNK_BYTES = 1 << 19  # of logits that a CPU takes at once, where something else is written
FOLDS = (8, 7, 6, 5, 4)
VECTOR = 8


class Kernel(NamedTuple):
    """Three functions, of rows x (n, C) with labels (n,) in range.

    Attributes:
        losses: (x, labels, H) -> losses (n,).
        sums: (x, labels, H) -> losses (n,) and a residual, a dict with at least ``top`` and
            ``log``, (n,) each: lse = top + log.
        slopes: (x, labels, H, residual) -> dL/dx, (n, C).
    """

    losses: Callable[[jax.Array, jax.Array, Infogain], jax.Array]
    sums: Callable[[jax.Array, jax.Array, Infogain], tuple[jax.Array, dict[str, jax.Array]]]
    slopes: Callable[[jax.Array, jax.Array, Infogain, dict[str, jax.Array]], jax.Array]


def at_labels(array: jax.Array, labels: jax.Array) -> jax.Array:
    """array[i, labels[i]]."""
    rows = jnp.arange(labels.shape[0], dtype=labels.dtype)
    return array.at[rows, labels].get(mode="promise_in_bounds", unique_indices=True)


def _same(x: jax.Array, labels: jax.Array) -> jax.Array:
    """Where a class is the label, (n, C). Floats are compared: beside exp, integers are slow."""
    kind = x.dtype if x.shape[1] <= 1 << 24 else labels.dtype
    return jnp.arange(x.shape[1], dtype=labels.dtype).astype(kind) == labels.astype(kind)[:, None]


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


def _added(x: jax.Array) -> jax.Array:
    """The sum over the last axis, as a product: XLA does not vectorise a single sum."""
    return jnp.matmul(x, jnp.ones(x.shape[-1], x.dtype), precision=jax.lax.Precision.HIGHEST)


# An operation, the same over the last axis, and its neutral element.
_ADD, _MAX = (jnp.add, _added, 0), (jnp.maximum, lambda x: jnp.max(x, axis=-1), -jnp.inf)


def _pass(terms: Callable, classes: int, monoids: Sequence) -> tuple[jax.Array, ...]:
    """Several (n, C) reduced over the classes in one pass; ``terms(slice)`` forms them."""
    operations, over, neutral = zip(*monoids)

    def total(arrays):
        return tuple(reduced(a) for reduced, a in zip(over, arrays))

    folds, width = _fold(classes)
    whole = folds * width
    if whole == 0:
        return total(terms(EVERY))
    blocks = tuple(t.reshape(t.shape[0], folds, width) for t in terms(slice(0, whole)))

    def both(left, right):
        return tuple(f(a, b) for f, a, b in zip(operations, left, right))

    start = tuple(jnp.asarray(e, t.dtype) for e, t in zip(neutral, blocks))
    # The barrier keeps the passes apart: XLA would write out exp to save computing it twice.
    found = total(jax.lax.optimization_barrier(jax.lax.reduce(blocks, start, both, (1,))))
    return found if whole == classes else both(found, total(terms(slice(whole, classes))))


def _top(x: jax.Array) -> jax.Array:
    """The largest logit, kept from being computed again."""
    return jax.lax.optimization_barrier(jnp.max(x, axis=1))


def _together(terms: Callable, classes: int, monoids: Sequence) -> tuple[jax.Array, ...]:
    """What ``_pass`` gives for sums, written plainly."""
    return tuple(jnp.sum(t, axis=1) for t in terms(EVERY))


def _row_sums(x, labels, infogain):
    # In blocks, as what the folds leave has to be written, and should stay near.
    return by_chunks(lambda x, k: _block_sums(x, k, infogain), _fitting(x, CHUNK_BYTES), x, labels)


def _block_sums(x, labels, infogain, reduce=_pass):
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

    q, ties, loss, others, own = reduce(terms, x.shape[1], 5 * [_ADD])
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
    return jnp.where(x == column, peak[:, None], slopes)


def _plain_sums(x, labels, infogain):
    return _block_sums(x, labels, infogain, _together)


ROWS = Kernel(lambda *args: _row_sums(*args)[0], _row_sums, _row_slopes)
PLAIN = Kernel(lambda *args: _plain_sums(*args)[0], _plain_sums, _row_slopes)


def _top_and_lags(x, at):
    """The largest logit and Σ_j (top − x_j), in one pass.

    The differences are taken to the label's logit: if it stands out, so does the loss.
    """
    anchor = jnp.where(jnp.isfinite(at), at, 0)
    top, lags = _pass(
        lambda part: (x[:, part], anchor[:, None] - x[:, part]), x.shape[1], [_MAX, _ADD]
    )
    return top, lags + x.shape[1] * (top - anchor)


def _peaked_sums(x, labels, infogain, keep=True):
    peak, rest = infogain.parts(labels)
    at = at_labels(x, labels)
    top, lags = (_top(x), None) if rest is None else _top_and_lags(x, at)
    same = _same(x, labels)

    def beside(part):
        return jnp.where(same[:, part], 0, jnp.exp(x[:, part] - top[:, None]))

    if keep:  # as optax does: no fusion can both sum and scale it
        others = jax.lax.optimization_barrier(beside(EVERY))
        q = jnp.sum(others, axis=1)
    else:  # the second sum is not used, but with it XLA vectorises the first
        others = None
        q, _ = _pass(lambda part: (beside(part), x[:, part]), x.shape[1], 2 * [_ADD])
    lag = top - at
    log = jnp.log1p(q + (jnp.exp(-lag) - 1))
    extra = peak if rest is None else peak - rest
    loss = jnp.where(extra != 0, extra * (lag + log), 0)
    if rest is not None:
        loss = loss + jnp.where(rest != 0, rest * (lags + x.shape[1] * log), 0)
    return loss, {"top": top, "log": log, "q": q, "lag": lag, "beside": others}


def _peaked_slopes(x, labels, infogain, residual):
    q, own = residual["q"], jnp.exp(-residual["lag"])
    peak, rest = infogain.parts(labels)
    rest = jnp.zeros_like(q) if rest is None else rest
    others = (x.shape[1] - 1) * rest
    slopes = residual["beside"] * ((peak + others) / (own + q))[:, None] - rest[:, None]
    at_label = (others * own - peak * q) / (own + q)
    return jnp.where(_same(x, labels), at_label[:, None], slopes)


PEAKED = Kernel(
    lambda x, labels, h: _peaked_sums(x, labels, h, keep=False)[0], _peaked_sums, _peaked_slopes
)


class Form(NamedTuple):
    """How to compute: a kernel, and about how many bytes of logits it takes at once."""

    kernel: Kernel
    bytes: int | None = None

    def rows(self, x: jax.Array) -> int:
        """How many rows to take at once, of x (n, C)."""
        return x.shape[0] if self.bytes is None else _fitting(x, self.bytes)


# The form by platform and kind of H. Value and gradient over optax's integer cross-entropy:
# - one core, dense: these 1.4–2.6, written plainly 2.4–8, as PLAIN 2–16; peaked: 1.0–1.4;
# - H200, dense: written plainly .9–2.2, in a CPU's blocks 7–36, as a Triton kernel 11 and more.
#   PLAIN reads less than what was timed there; itself it was not. Nor was anything on a TPU.
# Other kinds write rows of H out: a CPU's cache holds few, an accelerator's memory many.
FORMS: dict[str, dict[type, Form]] = {
    "cpu": {
        DenseInfogain: Form(ROWS),
        PeakedInfogain: Form(PEAKED),
        Infogain: Form(ROWS, CHUNK_BYTES),
    },
    "default": {
        DenseInfogain: Form(PLAIN),
        PeakedInfogain: Form(PLAIN),
        Infogain: Form(PLAIN, 1 << 28),
    },
}


def forms(infogain: Infogain) -> dict[str, Form]:
    """By platform, the form for a kind of H."""
    kinds = type(infogain).__mro__
    return {name: next(row[k] for k in kinds if k in row) for name, row in FORMS.items()}


def by_chunks(f: Callable, size: int, *arrays: jax.Array) -> Tree:
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


def _fitting(x: Tree, size: int) -> int:
    """About how many rows are worth so many bytes, if possible a divisor; all of them if few."""
    if x.size * x.dtype.itemsize <= 4 * size:
        return max(1, x.shape[0])
    most = max(1, size // (x.dtype.itemsize * x.shape[1]))
    return next((d for d in range(most, most // 2, -1) if x.shape[0] % d == 0), most)
