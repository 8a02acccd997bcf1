"""Compile the loop over arcs to one native function on the CPU, where the compiler can."""

import contextvars
import functools
import os
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.experimental.xla_metadata import set_xla_metadata

# Sums handed to a library and loops split over threads cannot be part of a native function.
_OPTIONS = {
    "xla_cpu_experimental_ynn_fusion_type": "",
    "xla_disable_hlo_passes": "cpu-parallel-task-assigner",
}
_REFUSALS = ("UNIMPLEMENTED", "INVALID_ARGUMENT", "No such compile option", "materialize")

_allowed = contextvars.ContextVar("native regions allowed", default=False)


def native(f: Callable) -> Callable:
    """Mark ``f`` as a region that :func:`jit` may compile to one native CPU function.

    XLA runs a loop body as hundreds of small kernels, each with its own dispatch. A region so
    marked becomes a single function: measured, one ball's rollout is about a hundred times
    faster. It must hold scalar code: batch inside it by ``jax.lax.map``, not by ``jax.vmap``.
    """

    @functools.wraps(f)
    def region(*args):
        if not _allowed.get():
            return f(*args)
        with set_xla_metadata(xla_cpu_small_call="true", inlineable="false"):
            return jax.jit(f)(*args)

    return region


def jit(f: Callable) -> Callable:
    """``jax.jit`` that honours :func:`native` regions on the CPU.

    The mark is not documented by XLA and refuses some operations (scatters, batched dots); the
    function is then compiled without it. Within another transformation it is plain ``jax.jit``,
    and so it is with the environment variable ``DIFFSIM_NATIVE=0``.

    >>> import jax.numpy as jnp
    >>> double = jit(native(lambda x: 2 * x))
    >>> double(jnp.ones(2)).tolist()
    [2.0, 2.0]
    """
    # Two functions, as traces are cached by function and the mark is made while tracing.
    plain, refused = jax.jit(lambda *args: f(*args)), set()
    marked = jax.jit(lambda *args: f(*args), compiler_options=_OPTIONS)

    def compiled(function, allow, args):
        token = _allowed.set(allow)
        try:
            return function(*args)
        finally:
            _allowed.reset(token)

    @functools.wraps(f)
    def call(*args):
        leaves, tree = jax.tree.flatten(args)
        off = jax.default_backend() != "cpu" or os.environ.get("DIFFSIM_NATIVE") == "0"
        if off or any(isinstance(x, jax.core.Tracer) for x in leaves):
            return compiled(plain, False, args)
        signature = (tree, tuple(jax.typeof(leaf) for leaf in leaves))
        if signature not in refused:
            try:
                return compiled(marked, True, args)
            except jax.errors.JaxRuntimeError as error:
                if not any(reason in str(error) for reason in _REFUSALS):
                    raise
                refused.add(signature)
        return compiled(plain, False, args)

    return call


def function(f: Callable) -> Callable:
    """``jax.jit`` of ``f`` as one native region: for a function of one ball, or its gradient.

    Compared with ``jax.jit`` it compiles in about half the time, and a call takes a hundredth.

    >>> function(jax.grad(lambda x: x**2))(3.0).item()
    6.0
    """
    return jit(native(f))


def each(f: Callable) -> Callable:
    """``f`` as a native region that, on the CPU, runs a batch as a loop of single calls.

    ``jax.vmap`` of it loops over native single-ball code instead of widening it. It has no
    derivative; see :func:`looped`. On other backends it is ``f`` itself.

    >>> import jax.numpy as jnp
    >>> jax.vmap(each(lambda x: 2 * x))(jnp.ones(2)).tolist()
    [2.0, 2.0]
    """
    if jax.default_backend() != "cpu":
        return f
    looping = jax.custom_batching.sequential_vmap(native(f))
    single = jax.custom_batching.custom_vmap(looping)

    @single.def_vmap
    def _(size, batched, *args):
        if size == 1:  # a loop of one turn is taken apart; what is left crashes the compiler
            args = jax.tree.map(lambda x, b: jnp.repeat(x, 2, 0) if b else x, args, tuple(batched))
        axes = jax.tree.map(lambda is_batched: 0 if is_batched else None, tuple(batched))
        out = jax.vmap(looping, axes)(*args)
        out = jax.tree.map(lambda x: x[:1], out) if size == 1 else out
        return out, jax.tree.map(lambda _: True, out)

    return single


def looped(loss: Callable) -> Callable:
    """A scalar ``loss(x, *args)`` run by :func:`each`, with a derivative in x.

    The derivative, forward or reverse, comes from one reverse-mode gradient taken inside the
    loop over the batch, so nothing is stored between the two. First derivatives only, and in
    ``x`` only. On other backends than the CPU it is ``loss`` itself.

    >>> import jax.numpy as jnp
    >>> square = looped(lambda x: jnp.sum(x**2))
    >>> jax.vmap(jax.grad(square))(jnp.array([[1.0, 2.0], [3.0, 4.0]])).tolist()
    [[2.0, 4.0], [6.0, 8.0]]
    """
    if jax.default_backend() != "cpu":
        return loss
    value, value_and_slope = each(loss), each(jax.value_and_grad(loss))

    @jax.custom_jvp
    def function(x, args):
        return value(x, *args)

    @function.defjvp
    def _(primals, tangents):
        x, args = primals
        out, slope = value_and_slope(x, *args)
        products = jax.tree.map(lambda s, t: (s * t).sum(), slope, tangents[0])
        return out, sum(jax.tree.leaves(products))

    return functools.wraps(loss)(lambda x, *args: function(x, jax.lax.stop_gradient(args)))
