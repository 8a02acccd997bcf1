"""Compile the loop over arcs to one native function on the CPU, where the compiler can."""

import contextvars
import functools
from collections.abc import Callable

import jax
from jax.experimental.xla_metadata import set_xla_metadata

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
    function is then compiled without it. Within another transformation it is plain ``jax.jit``.

    >>> import jax.numpy as jnp
    >>> double = jit(native(lambda x: 2 * x))
    >>> double(jnp.ones(2)).tolist()
    [2.0, 2.0]
    """
    # Two functions, as traces are cached by function and the mark is made while tracing.
    plain, marked, refused = jax.jit(lambda *args: f(*args)), jax.jit(lambda *args: f(*args)), set()

    @functools.wraps(f)
    def call(*args):
        leaves, tree = jax.tree.flatten(args)
        if jax.default_backend() != "cpu" or any(isinstance(x, jax.core.Tracer) for x in leaves):
            return plain(*args)
        signature = (tree, tuple(jax.typeof(leaf) for leaf in leaves))
        if signature not in refused:
            token = _allowed.set(True)
            try:
                return marked(*args)
            except jax.errors.JaxRuntimeError as error:
                if "UNIMPLEMENTED" not in str(error):
                    raise
                refused.add(signature)
            finally:
                _allowed.reset(token)
        return plain(*args)

    return call
