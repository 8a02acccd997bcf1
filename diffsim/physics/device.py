"""Loops, branches and calls as the device wants them for which a function of lanes is traced."""

import contextvars
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.experimental.xla_metadata import set_xla_metadata

# "cpu", "accelerator", where each step of a loop costs a launch, "kernel" of an accelerator, where
# it does not, or nothing in particular.
device = contextvars.ContextVar("device", default="")


def call(f: Callable, static: tuple[int, ...] = ()) -> Callable:
    """A function that stays one in the compiled program on a CPU; some arguments may be static.

    XLA's CPU fusion would copy each producer into every consumer (task gradient: four times as
    long to run, and a third longer to compile). XLA compiles a copy for each call all the same. On
    a GPU a call would cost a launch, or many. What ``f`` itself calls, ``jnp.where`` for one, has
    the other mark, not none: without one, its derivatives take that of what is around them.
    """

    @functools.wraps(f)
    def unmarked(*args):
        with set_xla_metadata(inlineable=_mark("true")):
            return f(*args)

    inner = jax.jit(unmarked, static_argnums=static)

    @functools.wraps(f)
    def marked(*args):
        with set_xla_metadata(inlineable=_mark("false")):
            return inner(*args)

    return marked


def _mark(word: str) -> str | None:
    return word if device.get() == "cpu" else None


def repeat(count: int, step: Callable, start):
    """``step`` that many times, for a few short steps: one body on a CPU, one launch on a GPU."""
    unroll = count if device.get() == "accelerator" else 1
    return jax.lax.scan(lambda carry, _: (step(carry), None), start, length=count, unroll=unroll)[0]


def each(f: Callable, rows):
    """``f`` of each row: one after the other, as one body, on a CPU; all at once on a GPU."""
    return jax.vmap(f)(rows) if device.get() == "accelerator" else jax.lax.map(f, rows)


def gathered(items: jax.Array, index: jax.Array) -> jax.Array:
    """Rows of items (K, …, B) for each lane of index (n, B): (n, …, B).

    Its transpose adds by masks, as XLA runs a scatter one by one: on a CPU one row after the
    other, whose sum would not fuse there, else all at once.
    """
    lanes = max(items.shape[-1], index.shape[-1])
    items = jnp.broadcast_to(items, (*items.shape[:-1], lanes))
    index = jnp.broadcast_to(jnp.clip(index, 0, items.shape[0] - 1), (*index.shape[:-1], lanes))
    ones = (1,) * (items.ndim - 2)

    def at(index, items):
        return jnp.take_along_axis(items, index.reshape(-1, *ones, lanes), axis=0)

    def spread(index, found):
        number = jnp.arange(items.shape[0], dtype=index.dtype).reshape(-1, *ones, 1)

        def put(index, row):
            return jnp.where(number == index, row, 0)

        if device.get() == "accelerator":
            return jnp.sum(jax.vmap(put)(index, found), axis=0)
        add = lambda total, each: (total + put(*each), None)  # noqa: E731
        return jax.lax.scan(add, jnp.zeros(items.shape, items.dtype), (index, found))[0]

    if not jnp.issubdtype(items.dtype, jnp.inexact):
        return at(index, items)
    return jax.custom_derivatives.linear_call(at, spread, index, items)


def where_any(needed: jax.Array, full: Callable, short: Callable, carry):
    """``full(carry)`` if a lane needs it, else ``short(carry)``, which is then the same.

    Where the host would have to wait for the answer, always the former.
    """
    if device.get() == "accelerator":
        return full(carry)
    return jax.lax.cond(jnp.any(needed), full, short, carry)
