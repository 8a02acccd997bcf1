"""The dense kernel for GPUs in Pallas: each program reads its row and its row of H once.

Checked in interpret mode only; XLA's own kernel is the default on every backend.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl

from diffsim.losses.base import Dense
from diffsim.losses.kernels import Kernel

FACTS = ("top", "log", "q", "others", "own", "ties")


def _padded(classes: int) -> int:
    """Blocks of a GPU kernel have a power of two of entries."""
    return max(16, 1 << (classes - 1).bit_length())


def _row(x_ref, label_ref, matrix_ref, width):
    """x and its row of H, with entries past the end that do not count."""
    inside = jnp.arange(width) < x_ref.shape[1]
    columns = jnp.minimum(jnp.arange(width), x_ref.shape[1] - 1)
    x = jnp.where(inside, x_ref[0, columns], -jnp.inf)
    return x, jnp.where(inside, matrix_ref[label_ref[0], columns], 0)


def _sums_kernel(x_ref, label_ref, matrix_ref, loss_ref, *fact_refs, width):
    x, h = _row(x_ref, label_ref, matrix_ref, width)
    top = jnp.max(x)
    first = x == top
    ties = jnp.sum(jnp.where(first, 1, 0).astype(x.dtype))
    q = jnp.sum(jnp.where(first, 0, jnp.exp(x - top))) + (ties - 1)
    others, own = jnp.sum(jnp.where(first, 0, h)), jnp.sum(jnp.where(first, h, 0))
    log = jnp.log1p(q)
    lag = jnp.sum(jnp.where(h != 0, h * (top - x), 0))
    loss_ref[0] = lag + (others + own) * log
    for ref, fact in zip(fact_refs, (top, log, q, others, own, ties)):
        ref[0] = fact


def _slopes_kernel(x_ref, label_ref, matrix_ref, *refs, width):
    x, h = _row(x_ref, label_ref, matrix_ref, width)
    top, _, q, others, own, ties = (ref[0] for ref in refs[:-1])
    slopes = jnp.exp(x - top) * ((others + own) / (1 + q)) - h
    peak = (others - own * q) / (1 + q)
    slopes = jnp.where((x == top) & (ties == 1), peak, slopes)
    refs[-1][0, :] = slopes[: x_ref.shape[1]]


def kernel(interpret: bool = False) -> Kernel:
    """The kernel, to be given as ``kernel=`` to :func:`~diffsim.losses.softmax_infogain`.

    Args:
        interpret: run it step by step as ordinary JAX, on any backend.

    >>> from diffsim.losses import softmax_infogain
    >>> logits, labels = jnp.zeros((2, 3)), jnp.array([0, 2])
    >>> softmax_infogain(logits, labels, jnp.eye(3), kernel=kernel(interpret=True)).round(4).item()
    1.0986...
    """
    sums = functools.partial(_call_sums, interpret=interpret)
    return Kernel(
        lambda *args: sums(*args)[0], sums, functools.partial(_call_slopes, interpret=interpret)
    )


def _specs(x, matrix):
    one = pl.BlockSpec((1,), lambda i: (i,))
    row = pl.BlockSpec((1, x.shape[1]), lambda i: (i, 0))
    return one, row, pl.BlockSpec(matrix.shape, lambda i: (0, 0))


def _matrix(infogain: Any) -> jax.Array:
    return infogain.values if isinstance(infogain, Dense) else infogain.matrix()


def _call_sums(x, labels, infogain, *, interpret):
    matrix = _matrix(infogain)
    one, row, whole = _specs(x, matrix)
    number = jax.ShapeDtypeStruct(labels.shape, x.dtype)
    loss, *facts = pl.pallas_call(
        functools.partial(_sums_kernel, width=_padded(x.shape[1])),
        out_shape=(1 + len(FACTS)) * [number],
        grid=labels.shape,
        in_specs=[row, one, whole],
        out_specs=(1 + len(FACTS)) * [one],
        interpret=interpret,
    )(x, labels, matrix)
    return loss, dict(zip(FACTS, facts))


def _call_slopes(x, labels, infogain, residual, *, interpret):
    matrix = _matrix(infogain)
    one, row, whole = _specs(x, matrix)
    return pl.pallas_call(
        functools.partial(_slopes_kernel, width=_padded(x.shape[1])),
        out_shape=jax.ShapeDtypeStruct(x.shape, x.dtype),
        grid=labels.shape,
        in_specs=[row, one, whole, *(len(FACTS) * [one])],
        out_specs=row,
        interpret=interpret,
    )(x, labels, matrix, *(residual[name] for name in FACTS))
