"""A host function as a JAX primitive: batched by vmap into one call, and unable to deadlock.

``jax.pure_callback`` turns what the host function is given into jax arrays. On the CPU that is
a copy on XLA's thread pool, awaited by a callback that occupies a thread of that pool: with few
threads, or large arrays, neither ever ends (jax-ml/jax#24255). Here the host function is given
XLA's own buffers and copies them with NumPy; it waits for nothing that JAX would have to do.
For the same reason a simulator that uses JAX inside a callback is refused, not run.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.buffer_callback import buffer_callback
from jax.extend.core import Primitive
from jax.interpreters import batching, mlir
from jax.typing import DTypeLike

from diffsim.gradients.blackbox.host import Host

_losses = Primitive("blackbox_losses")


def losses(host: Host, arguments: tuple, dtype: DTypeLike) -> jax.Array:
    """``host.losses`` of each row, (n,), for arguments whose leaves are (n, ...)."""
    leaves, structure = jax.tree.flatten(arguments)
    ranks = tuple(leaf.ndim - 1 for leaf in leaves)
    return _losses.bind(*leaves, host=host, structure=structure, ranks=ranks, dtype=dtype)


def _lead(leaf, rank: int) -> tuple[int, ...]:
    return leaf.shape[: leaf.ndim - rank]


def _on_host(*leaves, host, structure, ranks, dtype) -> np.ndarray:
    lead = _lead(leaves[0], ranks[0])
    rows = [
        leaf.reshape(math.prod(lead), *leaf.shape[len(lead) :]) for leaf in map(np.asarray, leaves)
    ]
    return host.losses(jax.tree.unflatten(structure, rows), dtype).reshape(lead)


@_losses.def_impl
def _eager(*leaves, **settings) -> jax.Array:
    """Outside jit there is no callback, and errors are raised as they are."""
    return jnp.asarray(_on_host(*leaves, **settings))


@_losses.def_abstract_eval
def _shape(*leaves, host, structure, ranks, dtype):
    lead, place = _lead(leaves[0], ranks[0]), leaves[0].sharding
    place = place.update(spec=place.spec[: len(lead)])
    return jax.core.ShapedArray(lead, jnp.dtype(dtype), sharding=place)


def _batch(leaves, axes, **settings):
    size = next(leaf.shape[axis] for leaf, axis in zip(leaves, axes) if axis is not None)
    leaves = [
        jnp.broadcast_to(leaf, (size, *leaf.shape)) if axis is None else jnp.moveaxis(leaf, axis, 0)
        for leaf, axis in zip(leaves, axes)
    ]
    return _losses.bind(*leaves, **settings), 0


batching.primitive_batchers[_losses] = _batch


def _result(leaves, settings) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(_lead(leaves[0], settings["ranks"][0]), settings["dtype"])


def _cpu(*leaves, **settings):
    def callback(context, out, *buffers):
        with refusing_jax():
            np.asarray(out)[...] = _on_host(*buffers, **settings)

    return buffer_callback(callback, _result(leaves, settings))(*leaves)


def _elsewhere(*leaves, **settings):
    """On an accelerator the CPU's pool is free while a callback runs."""
    return jax.pure_callback(
        lambda *arrays: _on_host(*arrays, **settings), _result(leaves, settings), *leaves
    )


def refusing_jax():
    """Within it, JAX work on this thread is an error: it would wait for the callback to end."""
    return jax.transfer_guard("disallow_explicit")


mlir.register_lowering(_losses, mlir.lower_fun(_cpu, multiple_results=False), platform="cpu")
mlir.register_lowering(_losses, mlir.lower_fun(_elsewhere, multiple_results=False))
