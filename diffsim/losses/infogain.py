"""The softmax-infogain loss: a matrix H says how much of a label counts for which class."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffsim._check import floating
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


def _checked_infogain(infogain: Any, classes: int, dtype: Any) -> Infogain:
    """H as a record in the dtype of the sums, with as many columns as there are classes."""
    record = infogain if isinstance(infogain, Infogain) else DenseInfogain.create(infogain)
    if record.shape[1] != classes:
        raise ValueError(
            f"infogain: expected {classes} columns, one for each class, got shape {record.shape}"
        )

    def cast(leaf):
        return leaf.astype(dtype) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf

    return jax.tree.map(cast, record)


def _checked_mask(where: Any, shape: tuple[int, ...]) -> jax.Array | None:
    if where is None:
        return None
    mask = jnp.asarray(where)
    if mask.dtype != bool or mask.shape != shape:
        raise ValueError(f"where: expected booleans {shape}, got {mask.dtype} {mask.shape}")
    return mask


def _checked_labels(labels: Any, shape: tuple[int, ...], count: int, mask: Any):
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
    logits: Any,
    labels: Any,
    infogain: Any,
    *,
    axis: int = -1,
    where: Any = None,
    weights: Any = None,
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

    def run(rows, labels, record):
        return _row_losses(rows, labels, record, kernel)

    return _total(run, x, x.shape[-1], labels, infogain, where, weights, reduction)


def softmax_cross_entropy_with_infogain(
    logits: Any, labels: Any, infogain: Any, axis: int = -1, where: Any = None
) -> jax.Array:
    """:func:`softmax_infogain` of each example, not reduced: as optax's cross-entropies are.

    >>> logits, labels = jnp.array([[0.0, 0.0], [2.0, 0.0]]), jnp.array([0, 1])
    >>> softmax_cross_entropy_with_infogain(logits, labels, jnp.eye(2)).round(3)
    Array([0.693, 2.127], dtype=...)
    """
    return softmax_infogain(logits, labels, infogain, axis=axis, where=where, reduction=None)


def softmax_infogain_head(
    features: Any,
    classifier: Any,
    labels: Any,
    infogain: Any,
    *,
    chunk: int = 128,
    where: Any = None,
    weights: Any = None,
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

    def run(rows, labels, record):
        @jax.checkpoint
        def part(rows, labels):
            x = jnp.matmul(rows, classifier, preferred_element_type=_sums_dtype(rows.dtype))
            return _row_losses(x, labels, record, None)

        return by_chunks(part, chunk, rows, jnp.asarray(labels))

    return _total(
        run, features, classifier.shape[1], jnp.asarray(labels), infogain, where, weights, reduction
    )


def _sums_dtype(dtype: Any) -> Any:
    return dtype if jnp.dtype(dtype).itemsize >= 4 else jnp.dtype(jnp.float32)


@functools.partial(jax.jit, static_argnames="kernel", inline=True)
def _row_losses(x, labels, record, kernel):
    def branch(form):
        def run(x, labels, record):
            def part(x, labels):
                return losses(form.kernel, x.astype(_sums_dtype(x.dtype)), labels, record)

            return by_chunks(part, form.rows(x), x, labels)

        return run

    found = {"default": Form(kernel)} if kernel else forms(record)
    branches = {platform: branch(form) for platform, form in found.items()}
    return jax.lax.platform_dependent(x, labels, record, **branches)


def _total(run, x, classes, labels, infogain, where, weights, reduction):
    """The reduced loss; ``run`` gives the losses of rows (n, ...) with labels (n,) in range."""
    if reduction is not None and reduction not in REDUCTIONS:
        raise ValueError(
            f"reduction: expected None or one of {', '.join(REDUCTIONS)}, got {reduction!r}"
        )
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
    labels = labels.reshape(-1)
    loss = run(x.reshape(-1, x.shape[-1]), labels, record)
    if weights is not None:
        loss = loss * weights[labels]
    loss = loss.reshape(shape)
    if good is not None:
        loss = loss * jnp.where(good, 1, jnp.nan).astype(dtype)  # a factor, so gradients are too
    if mask is not None:
        loss = jnp.where(mask, loss, 0)
    if reduction is None:
        return loss
    valid = jnp.asarray(loss.size) if mask is None else jnp.sum(mask)
    divisor = REDUCTIONS[reduction](valid, loss.size, shape[0] if shape else 1)
    return jnp.sum(loss) / jnp.maximum(divisor, 1).astype(dtype)
