"""The softmax-infogain loss: a matrix H says how much of a label counts for which class."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from diffsim._check import floating
from diffsim._types import ArrayLike
from diffsim.losses.base import DenseInfogain, Infogain
from diffsim.losses.derivatives import losses
from diffsim.losses.kernels import Form, Kernel, by_chunks, forms

# How the sum of the losses is normalised: (counted labels, all labels, first axis) -> divisor.
REDUCTIONS: dict[str, Callable] = {
    "valid": lambda valid, full, batch: valid,
    "full": lambda valid, full, batch: full,
    "batch": lambda valid, full, batch: batch,
    "sum": lambda valid, full, batch: 1,
}


def _checked_infogain(infogain: ArrayLike | Infogain, classes: int, dtype: DTypeLike) -> Infogain:
    """H as a record in the dtype of the sums, with as many columns as there are classes."""
    record = infogain if isinstance(infogain, Infogain) else DenseInfogain.create(infogain)
    if record.shape[1] != classes:
        raise ValueError(
            f"infogain: expected {classes} columns, one for each class, got shape {record.shape}"
        )

    def cast(leaf):
        return leaf.astype(dtype) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf

    return jax.tree.map(cast, record)


def _checked_mask(where: ArrayLike, shape: tuple[int, ...]) -> jax.Array | None:
    if where is None:
        return None
    mask = jnp.asarray(where)
    if mask.dtype != bool or mask.shape != shape:
        raise ValueError(f"where: expected booleans {shape}, got {mask.dtype} {mask.shape}")
    return mask


def _checked_labels(labels: ArrayLike, shape: tuple[int, ...], count: int, mask: jax.Array | None):
    """Labels in range, and which were; an error where labels are concrete and were not."""
    labels = jnp.asarray(labels)
    if not jnp.issubdtype(labels.dtype, jnp.integer) or labels.shape != shape:
        raise ValueError(
            f"labels: expected integers {shape}, or probabilities with an axis of {count} labels, "
            f"got {labels.dtype} {labels.shape}"
        )
    good = (labels >= 0) & (labels < count)
    if mask is not None:
        good |= ~mask
    if not isinstance(good, jax.core.Tracer) and not np.all(good):
        bad = np.asarray(labels)[~np.asarray(good)]
        raise ValueError(
            f"labels: expected in [0, {count}), got {bad[:5].tolist()}; where=labels != IGNORED "
            "leaves some out"
        )
    # Clipped in the labels' own type, in which the number of classes itself may not fit.
    top = min(count - 1, jnp.iinfo(labels.dtype).max)
    return jnp.clip(labels, 0, top).astype(jnp.int32), good


def softmax_infogain(
    logits: ArrayLike,
    labels: ArrayLike,
    infogain: ArrayLike | Infogain,
    *,
    axis: int = -1,
    where: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    reduction: str | None = "valid",
    kernel: Kernel | None = None,
) -> jax.Array:
    """Cross-entropy of softmax(x) in which a label k counts H[k, j] for class j.

    L = −Σ_j H[k, j] log softmax(x)_j,  dL/dx_j = softmax(x)_j Σ_i H[k, i] − H[k, j].

    Derivatives of any order and mode exist in logits, H and soft labels. Sums are in float32
    where the logits are bfloat16 or float16, and the loss is float32 then. A label out of range
    is an error, under ``jit`` a loss and gradient of NaN for its row. A class whose logit is −inf
    and whose H is 0 is left out: it has no derivative in x, H and soft labels.

    Args:
        logits: x, (..., C, ...) with classes along ``axis``.
        labels: integers in [0, K) in the shape of the logits without ``axis``, or floating
            probabilities of the K labels along ``axis`` (soft labels: H then acts on their mean).
        infogain: H, (K, C) similarities of label and class, or one of the records that write it
            short: ``SmoothingInfogain``, ``SparseInfogain``, …. For distances see
            :func:`~diffsim.losses.from_distances`.
        axis: of the classes; negative counts from the end.
        where: booleans like integer labels; False leaves an example out, whatever its label and
            logits.
        weights: (K,), a factor for each label; it does not enter the divisor.
        reduction: the sum of the losses is divided by: "valid", the examples that ``where``
            keeps; "full", all examples; "batch", the length of the first axis; "sum", 1; (never
            by less than 1). None returns every loss, 0 where left out.
        kernel: how to compute; None chooses by the kind of H and the platform that it runs on.

    Returns:
        (), or the shape of integer labels if ``reduction`` is None.

    Raises:
        ValueError: shapes that do not fit, labels out of range, a non-finite H.
        TypeError: a wrong dtype.

    Warns:
        UserWarning: H looks like distances (see :meth:`DenseInfogain.create`).

    Source: Caffe's InfogainLoss (Jia et al. 2014, https://arxiv.org/abs/1408.5093), whose
    normalisations these are.

    >>> H = jnp.array([[1.0, 0.5, 0.0], [0.5, 1.0, 0.0], [0.0, 0.0, 1.0]])  # cat, dog, car
    >>> guess_dog, guess_car = jnp.array([0.0, 4.0, 0.0]), jnp.array([0.0, 0.0, 4.0])
    >>> bool(softmax_infogain(guess_dog, 0, H) < softmax_infogain(guess_car, 0, H))
    True
    """
    x = floating("logits", logits)
    if not -x.ndim <= axis < x.ndim:
        raise ValueError(f"axis: expected in [{-x.ndim}, {x.ndim}), got {axis}")
    x = jnp.moveaxis(x, axis, -1)
    labels = jnp.asarray(labels)
    if jnp.issubdtype(labels.dtype, jnp.floating) and labels.ndim == x.ndim:
        labels = jnp.moveaxis(labels, axis, -1)

    rows = _rows(x, x.shape[-1], labels, infogain, where, weights, reduction)
    return _total(_losses(rows.x, rows.labels, rows.infogain, kernel), rows, reduction)


def softmax_cross_entropy_with_infogain(
    logits: ArrayLike,
    labels: ArrayLike,
    infogain: ArrayLike | Infogain,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    """:func:`softmax_infogain` of each example, not reduced: as optax's cross-entropies are.

    >>> logits, labels = jnp.array([[0.0, 0.0], [2.0, 0.0]]), jnp.array([0, 1])
    >>> softmax_cross_entropy_with_infogain(logits, labels, jnp.eye(2)).round(3)
    Array([0.693, 2.127], dtype=...)
    """
    return softmax_infogain(logits, labels, infogain, axis=axis, where=where, reduction=None)


def softmax_infogain_head(
    features: ArrayLike,
    classifier: ArrayLike,
    labels: ArrayLike,
    infogain: ArrayLike | Infogain,
    *,
    chunk: int = 128,
    where: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    reduction: str | None = "valid",
) -> jax.Array:
    """:func:`softmax_infogain` of features @ classifier, with ``chunk`` rows of logits at a time.

    The logits of all rows are never held: the backward pass computes each chunk again. They are
    products of the network's own layer, at JAX's default precision.

    Args:
        features: (..., d).
        classifier: (d, C), in the dtype of the features.
        labels, infogain, where, weights, reduction: as in :func:`softmax_infogain`.
        chunk: rows of logits held at a time; memory is chunk x C numbers.

    Returns:
        As :func:`softmax_infogain`.

    Raises:
        ValueError, TypeError: as there, and for shapes that cannot be multiplied.

    Source: logits in chunks as in Liger Kernel (Hsu et al. 2024, https://arxiv.org/abs/2410.10989).

    >>> features, classifier = jnp.ones((4, 2)), jnp.ones((2, 3))
    >>> softmax_infogain_head(features, classifier, jnp.arange(4) % 3, jnp.eye(3)).round(4).item()
    1.0986...
    """
    features, classifier = floating("features", features), floating("classifier", classifier)
    if features.ndim == 0 or classifier.ndim != 2 or classifier.shape[0] != features.shape[-1]:
        raise ValueError(
            "features, classifier: expected (..., d) and (d, C), got "
            f"{features.shape} and {classifier.shape}"
        )
    if features.dtype != classifier.dtype:
        raise TypeError(f"classifier: expected {features.dtype}, got {classifier.dtype}")
    if chunk < 1:
        raise ValueError(f"chunk: expected at least 1, got {chunk}")

    labels = jnp.asarray(labels)
    every = _rows(features, classifier.shape[1], labels, infogain, where, weights, reduction)

    @jax.checkpoint
    def part(rows, labels):
        x = jnp.matmul(rows, classifier, preferred_element_type=_sums_dtype(rows.dtype))
        return _losses(x, labels, every.infogain, None)

    return _total(by_chunks(part, chunk, every.x, every.labels), every, reduction)


def _sums_dtype(dtype: DTypeLike) -> DTypeLike:
    return dtype if jnp.dtype(dtype).itemsize >= 4 else jnp.dtype(jnp.float32)


@functools.partial(jax.jit, static_argnames="kernel", inline=True)
def _losses(x, labels, infogain, kernel):
    """The losses (n,) of rows x (n, C), in the form for the platform and the kind of H."""

    def block(form, x, labels):
        return losses(form.kernel, x.astype(_sums_dtype(x.dtype)), labels, infogain)

    def part(form, x, labels):
        return by_chunks(functools.partial(block, form), form.rows(x), x, labels)

    found = {"default": Form(kernel)} if kernel else forms(infogain)
    branches = {platform: functools.partial(part, form) for platform, form in found.items()}
    return jax.lax.platform_dependent(x, labels, **branches)


class _Rows(NamedTuple):
    """What was given, checked, as rows of integer labels in range."""

    x: jax.Array  # (n, C), or (n, d) before the classifier
    labels: jax.Array  # (n,)
    infogain: Infogain
    shape: tuple[int, ...]
    weights: jax.Array | None
    mask: jax.Array | None
    good: jax.Array | None  # labels that were in range, where that is not known to be all


def _rows(x, classes, labels, infogain, where, weights, reduction) -> _Rows:
    if reduction is not None and reduction not in REDUCTIONS:
        known = ", ".join(REDUCTIONS)
        raise ValueError(f"reduction: expected None or one of {known}, got {reduction!r}")
    shape, dtype = x.shape[:-1], _sums_dtype(x.dtype)
    record = _checked_infogain(infogain, classes, dtype)
    mask = _checked_mask(where, shape)
    count = record.shape[0]
    if weights is not None:
        weights = floating("weights", weights, (count,)).astype(dtype)
    good = None
    if jnp.issubdtype(labels.dtype, jnp.floating):
        if labels.shape != (*shape, count):
            raise ValueError(f"labels: expected shape {(*shape, count)}, got {labels.shape}")
        if mask is not None:
            labels = jnp.where(mask[..., None], labels, 0)
        soft = labels.reshape(-1, count).astype(dtype)
        soft = soft if weights is None else soft * weights
        record = DenseInfogain(record.mixed(soft))
        labels, weights = jnp.arange(soft.shape[0]), None
    else:
        labels, good = _checked_labels(labels, shape, count, mask)
    if mask is not None:
        x = jnp.where(mask[..., None], x, 0)
    x = x.reshape(-1, x.shape[-1])
    return _Rows(x, labels.reshape(-1), record, shape, weights, mask, good)


def _total(loss: jax.Array, rows: _Rows, reduction: str | None) -> jax.Array:
    """The reduced loss, from the losses (n,) of the rows."""
    if rows.weights is not None:
        loss = loss * rows.weights[rows.labels]
    loss, mask = loss.reshape(rows.shape), rows.mask
    if rows.good is not None:  # a factor, so that gradients are NaN too
        loss = loss * jnp.where(rows.good, 1, jnp.nan).astype(loss.dtype)
    if mask is not None:
        loss = jnp.where(mask, loss, 0)
    if reduction is None:
        return loss
    valid = jnp.asarray(loss.size) if mask is None else jnp.sum(mask)
    batch = rows.shape[0] if rows.shape else 1
    divisor = REDUCTIONS[reduction](valid, loss.size, batch)
    return jnp.sum(loss) / jnp.maximum(divisor, 1).astype(loss.dtype)
