"""Functions of many balls at once: one primitive that owns batching, derivatives and platforms.

The engine's functions take arrays whose last axis is the *lane*: one entry for each ball, or of
size one where all balls share a value. :func:`lanes` makes of such a function one of a single
ball, whose batch under ``jax.vmap`` is that axis, whatever it is nested in. So the engine knows
its whole batch: it can skip what no ball needs, cut a long batch into blocks that stay in a CPU's
cache, and hand it to another executor on another platform.
"""

import dataclasses
import functools
import os
import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from diffsim.physics.device import device

BLOCK = 512  # lanes of a block on a CPU
KERNELS = "DIFFSIM_KERNELS"  # environment: 1 flies balls in kernels on an NVIDIA GPU
LEAST = 128  # lanes that are worth a kernel


def lane_count(tree: Any) -> int:
    """How many lanes the arrays of a tree have."""
    return max(leaf.shape[-1] for leaf in jax.tree.leaves(tree))


def full(tree: Any, size: int) -> Any:
    """Every leaf with all its lanes."""
    return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (*leaf.shape[:-1], size)), tree)


@functools.cache
def sized(f: Callable, max_impacts: int) -> Callable:
    """The same object each time, so that equal calls of :func:`lanes` compile once."""
    return functools.partial(f, max_impacts=max_impacts)


def lanes(f: Callable) -> Callable:
    """A function of one ball from a function of lanes.

    ``f`` takes trees of arrays (…, B), or (…, 1) where shared, and returns arrays (…, B) or
    (…, 1); each lane of the result depends on that lane of the arguments alone. ``jax.grad``,
    ``jax.jvp``, ``jax.vmap`` and their compositions work as far as they do on ``f`` itself.

    Args:
        f: hashed and compared, so hand over a function of a module or a frozen record, and equal
            calls compile once.

    >>> double = lanes(lambda x: 2 * x)
    >>> jax.vmap(double)(jnp.arange(3.0)).tolist()
    [0.0, 2.0, 4.0]
    >>> jax.grad(lambda x: jnp.sum(jax.vmap(double)(x * jnp.ones(3))))(1.0).item()
    6.0
    """

    def single(*args):
        flat, tree = jax.tree.flatten(args)
        flat = _varying_alike(flat)
        call = _Call(f, tree)
        shapes = jax.eval_shape(call.tree_of_results, *map(_one_lane, flat))
        out = _lanes_p.bind(*flat, call=call, linear=0, batched=(False,) * len(flat), size=None)
        return jax.tree.unflatten(jax.tree.structure(shapes), out)

    return single


@dataclasses.dataclass(frozen=True)
class _Call:
    """``f`` on flat arguments and results."""

    f: Callable
    tree: Any

    def tree_of_results(self, *flat):
        return self.f(*jax.tree.unflatten(self.tree, flat))

    def __call__(self, *flat):
        return jax.tree.leaves(self.tree_of_results(*flat))


@dataclasses.dataclass(frozen=True)
class _Pushforward:
    """The tangents of a call's real results: of its arguments, then the tangents of some."""

    call: Callable
    moved: tuple[int, ...]
    real: tuple[int, ...]

    def along(self, fixed):
        """The call as a function of the moved arguments alone, its real results."""

        def f(*moved):
            args = list(fixed)
            for index, value in zip(self.moved, moved, strict=True):
                args[index] = value
            out = self.call(*args)
            return [out[i] for i in self.real]

        return f, [fixed[i] for i in self.moved]

    def __call__(self, *args):
        count = len(args) - len(self.moved)
        f, start = self.along(args[:count])
        pairs = [jnp.broadcast_arrays(x, t) for x, t in zip(start, args[count:], strict=True)]
        return jax.jvp(f, [x for x, _ in pairs], [t for _, t in pairs])[1]


@dataclasses.dataclass(frozen=True)
class _Transpose:
    """The transpose of a linear call: of its other arguments, then cotangents of some results."""

    call: Callable
    linear: tuple[jax.core.ShapedArray, ...]  # of one ball
    seen: tuple[int, ...]

    def __call__(self, *args):
        count = len(args) - len(self.seen)
        fixed, cotangents = args[:count], args[count:]
        size = max((leaf.shape[-1] for leaf in args), default=1)
        zeros = [jnp.zeros((*aval.shape, size), aval.dtype) for aval in self.linear]
        if isinstance(self.call, _Pushforward):  # at the arguments themselves, not at zero tangents
            f, start = self.call.along(fixed)
            zeros = [jnp.broadcast_to(x, z.shape) for x, z in zip(start, zeros, strict=True)]
        else:
            f = lambda *moved: self.call(*fixed, *moved)  # noqa: E731

        def seen(*moved):
            out = f(*moved)
            return [out[i] for i in self.seen]

        out, vjp = jax.vjp(seen, *zeros)
        return vjp([jnp.broadcast_to(c, o.shape) for c, o in zip(cotangents, out, strict=True)])


def _varying_alike(arrays):
    """Arrays that all vary over the devices that one of them does, see ``jax.shard_map``."""
    own = [jax.typeof(x).manual_axis_type.varying for x in arrays]
    every = frozenset().union(*own)
    return [
        jax.lax.pcast(x, tuple(every - axes), to="varying") if every - axes else x
        for x, axes in zip(arrays, own, strict=True)
    ]


def _plain(aval):
    """Without how it varies over devices: inside of a call there is but one."""
    return jax.core.ShapedArray(aval.shape, aval.dtype)


def _one_lane(leaf):
    return jax.ShapeDtypeStruct((*jnp.shape(leaf), 1), jnp.result_type(leaf))


def run(*args, call, linear, batched, size):
    """All lanes in one go; where there are none, the shapes of the results."""
    if size == 0:
        ones = [
            jax.ShapeDtypeStruct((*(x.shape[:-1] if has else x.shape), 1), x.dtype)
            for x, has in zip(args, batched, strict=True)
        ]
        found = jax.eval_shape(call, *ones)
        return [jnp.zeros((*x.shape[:-1], 0), x.dtype) for x in found]
    out = call(*_with_axis(args, batched))
    if size is None:
        return [x[..., 0] for x in out]
    return [jnp.broadcast_to(x, (*x.shape[:-1], size)) for x in out]


def _with_axis(args, batched):
    """Arrays that all have an axis of lanes."""
    return [x if has else x[..., None] for x, has in zip(args, batched, strict=True)]


def _in_blocks(*args, size, batched, **params):
    """Blocks of lanes one after the other; the last lane fills up the last block."""
    count = -(-size // BLOCK)
    block = -(-size // count)
    shared = [x for x, has in zip(args, batched, strict=True) if not has]

    def cut(x):
        x = jnp.concatenate([x, jnp.repeat(x[..., -1:], count * block - size, axis=-1)], axis=-1)
        return jnp.moveaxis(x.reshape(*x.shape[:-1], count, block), -2, 0)

    def one(own):
        own, common = iter(own), iter(shared)
        merged = [next(own) if has else next(common) for has in batched]
        return run(*merged, size=block, batched=batched, **params)

    out = jax.lax.map(one, [cut(x) for x, has in zip(args, batched, strict=True) if has])
    return [jnp.moveaxis(x, 0, -2).reshape(*x.shape[1:-1], -1)[..., :size] for x in out]


def _in_kernels(*args, call, size, batched, linear, interpret=False):
    """All lanes in one go, long loops as kernels where they can be."""
    from diffsim.physics.kernel import with_kernels

    token = device.set("kernel")
    try:
        out = with_kernels(call, _with_axis(args, batched), size, interpret)
    except NotImplementedError as error:
        warnings.warn(f"flies without a kernel: {error}", stacklevel=2)
        out = None
    finally:
        device.reset(token)
    if out is None:
        return run(*args, call=call, size=size, batched=batched, linear=linear)
    return [jnp.broadcast_to(x, (*x.shape[:-1], size)) for x in out]


def _on(name: str, run: Callable) -> Callable:
    def lowered(*args, **params):
        token = device.set(name)
        try:
            return run(*args, **params)
        finally:
            device.reset(token)

    rule = mlir.lower_fun(lowered, multiple_results=True)

    def on_one_device(context, *args, **params):
        plain = [_plain(aval) for aval in context.avals_in]
        return rule(context.replace(avals_in=plain), *args, **params)

    return on_one_device


def _on_cpu(*args, size, **params):
    return (run if size is None or size <= BLOCK else _in_blocks)(*args, size=size, **params)


def _on_cuda(*args, size, **params):
    wanted = os.environ.get(KERNELS) == "1" and size is not None and size >= LEAST
    return (_in_kernels if wanted else run)(*args, size=size, **params)


def _abstract(*avals, **params):
    out = jax.eval_shape(lambda *args: run(*args, **params), *map(_plain, avals))
    most = max(avals, key=lambda aval: len(aval.manual_axis_type.varying))
    if not most.manual_axis_type.varying:
        return [_plain(x) for x in out]

    def like(x):
        free = most.sharding.update(spec=jax.sharding.PartitionSpec(*(None,) * x.ndim))
        return most.update(shape=x.shape, dtype=x.dtype, weak_type=False, sharding=free)

    return [like(x) for x in out]


def _batch(args, dims, *, batched, size, **params):
    """One more axis of lanes, outside of those there are."""
    outer = next(x.shape[d] for x, d in zip(args, dims, strict=True) if d is not None)

    def widened(x, dim, has):
        if dim is None and not has:
            return x
        x = x[None] if dim is None else jnp.moveaxis(x, dim, 0)
        if size is None:
            return jnp.moveaxis(x, 0, -1)
        x = x if has else x[..., None]
        x = jnp.moveaxis(x, 0, -2)
        x = jnp.broadcast_to(x, (*x.shape[:-2], outer, size))
        return x.reshape(*x.shape[:-2], outer * size)

    wide = [widened(*each) for each in zip(args, dims, batched, strict=True)]
    now = tuple(dim is not None or has for dim, has in zip(dims, batched, strict=True))
    out = _lanes_p.bind(*wide, batched=now, size=outer * (1 if size is None else size), **params)
    if size is None:
        return out, [x.ndim - 1 for x in out]
    out = [x.reshape(*x.shape[:-1], outer, size) for x in out]
    return out, [x.ndim - 2 for x in out]


def _jvp(primals, tangents, *, call, linear, batched, size):
    out = _lanes_p.bind(*primals, call=call, linear=linear, batched=batched, size=size)
    moved = tuple(i for i, t in enumerate(tangents) if type(t) is not ad.Zero)
    real = tuple(i for i, x in enumerate(out) if jnp.issubdtype(x.dtype, jnp.inexact))
    tangents_out = _lanes_p.bind(
        *primals,
        *[tangents[i] for i in moved],
        call=_Pushforward(call, moved, real),
        linear=len(moved),
        batched=batched + tuple(batched[i] for i in moved),
        size=size,
    )
    way = [ad.Zero(jax.typeof(x).to_tangent_aval()) for x in out]
    for index, tangent in zip(real, tangents_out, strict=True):
        way[index] = tangent
    return out, way


def _transpose(cotangents, *args, call, linear, batched, size):
    count = len(args) - linear
    seen = tuple(i for i, c in enumerate(cotangents) if type(c) is not ad.Zero)
    ones = tuple(
        jax.core.ShapedArray(x.aval.shape[:-1] if has else x.aval.shape, x.aval.dtype)
        for x, has in zip(args[count:], batched[count:], strict=True)
    )
    out = _lanes_p.bind(
        *args[:count],
        *[cotangents[i] for i in seen],
        call=_Transpose(call, ones, seen),
        linear=len(seen),
        batched=batched[:count] + (size is not None,) * len(seen),
        size=size,
    )
    summed = [
        x if has or size is None else jnp.sum(x, axis=-1)
        for x, has in zip(out, batched[count:], strict=True)
    ]
    return [None] * count + summed


_lanes_p = Primitive("lanes")
_lanes_p.multiple_results = True
_lanes_p.def_impl(
    lambda *args, **params: jax.jit(functools.partial(_lanes_p.bind, **params))(*args)
)
_lanes_p.def_abstract_eval(_abstract)
mlir.register_lowering(_lanes_p, _on("accelerator", run))
mlir.register_lowering(_lanes_p, _on("cpu", _on_cpu), platform="cpu")
mlir.register_lowering(_lanes_p, _on("accelerator", _on_cuda), platform="cuda")
batching.primitive_batchers[_lanes_p] = _batch
ad.primitive_jvps[_lanes_p] = _jvp
ad.primitive_transposes[_lanes_p] = _transpose
