"""Derivatives of the losses of rows: the first by a kernel, any further by ordinary JAX."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_derivatives import SymbolicZero

from diffsim._types import Tree
from diffsim.losses.base import Infogain
from diffsim.losses.kernels import Kernel


def _still(tree: Tree) -> bool:
    """Whether a tangent is zero throughout, known while tracing."""
    return all(isinstance(leaf, SymbolicZero) for leaf in jax.tree.leaves(tree))


def _filled(primal: Tree, tangent: Tree) -> Tree:
    """The tangent with its symbolic zeros written out."""

    def fill(p, t):
        if not isinstance(t, SymbolicZero):
            return t
        if not jnp.issubdtype(p.dtype, jnp.floating):
            return np.zeros(p.shape, jax.dtypes.float0)
        return jnp.zeros_like(p)

    return jax.tree.map(fill, primal, tangent)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def losses(kernel: Kernel, x: jax.Array, labels: jax.Array, infogain: Infogain) -> jax.Array:
    """Losses (n,) of rows x (n, C) with labels (n,) in range; alone, nothing is kept for slopes."""
    return kernel.losses(x, labels, infogain)


@functools.partial(losses.defjvp, symbolic_zeros=True)
def _losses_jvp(kernel, primals, tangents):
    (loss, _), (change, _) = _sums_jvp(kernel, primals, tangents)
    return loss, change


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _sums(kernel, x, labels, infogain):
    """The losses and the kernel's residual, which is to be taken as a constant."""
    return kernel.sums(x, labels, infogain)


@functools.partial(_sums.defjvp, symbolic_zeros=True)
def _sums_jvp(kernel, primals, tangents):
    x, labels, infogain = primals
    dx, _, dh = tangents
    loss, residual = _sums(kernel, x, labels, infogain)
    change = jnp.zeros_like(loss)
    if not _still(dx):
        change += jnp.sum(slopes(kernel, x, labels, infogain, residual) * dx, axis=1)
    if not _still(dh):
        rows, out = _rows_jvp(x, labels, infogain, dh)
        change += jnp.sum(rows * _lags(x, out, residual), axis=1)
    return (loss, residual), (change, jax.tree.map(jnp.zeros_like, residual))


def _rows_jvp(x, labels, infogain, dh):
    """Change of the labels' rows when H changes, and where a class is left out: its logit is −∞
    and H is 0, so that the loss, Σ where(h ≠ 0, h (lse − x)), has no derivative in H (not 0 · ∞).
    """
    rows, change = jax.jvp(lambda h: h.rows(labels), (infogain,), (_filled(infogain, dh),))
    out = (x == -jnp.inf) & (rows == 0)
    return jnp.where(out, 0, change), out


@jax.custom_jvp
def _lags(x, out, residual):
    """lse − x, the derivative of the loss in the rows of H; 0 where a class is left out."""
    return jnp.where(out, 0, (residual["top"] + residual["log"])[:, None] - x)


@_lags.defjvp
def _lags_jvp(primals, tangents):
    x, out, _ = primals
    mean = jnp.sum(jax.nn.softmax(x) * tangents[0], axis=1, keepdims=True)
    return _lags(*primals), jnp.where(out, 0, mean - tangents[0])


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def slopes(kernel: Kernel, x: jax.Array, labels: jax.Array, infogain: Infogain, residual: Tree):
    """p S − h, (n, C)."""
    return kernel.slopes(x, labels, infogain, residual)


@functools.partial(slopes.defjvp, symbolic_zeros=True)
def _slopes_jvp(kernel, primals, tangents):
    x, labels, infogain, _ = primals
    dx, _, dh, _ = tangents
    p = jax.nn.softmax(x)
    change = jnp.zeros_like(x)
    if not _still(dx):
        total = jnp.sum(infogain.rows(labels), axis=1, keepdims=True)
        change += total * p * (dx - jnp.sum(p * dx, axis=1, keepdims=True))
    if not _still(dh):
        rows, _ = _rows_jvp(x, labels, infogain, dh)
        change += jnp.sum(rows, axis=1, keepdims=True) * p - rows
    return slopes(kernel, *primals), change
