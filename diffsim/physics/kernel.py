"""Long loops of many balls as one kernel of a GPU, in which a thread flies a ball to the end.

XLA runs such a loop as dozens of launches a step, each of which takes all balls through memory.
Here its body is written out (:mod:`~diffsim.physics.numbers`) for Pallas: what it carries stays
in registers, and only what a step reads and leaves behind is in memory, all of it in one array.
Triton's search for accesses to join takes seconds of compiling for each access there is
(``Coalesce.cpp`` slices the whole body for each).
"""

import dataclasses
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton
from jax.extend.core import ClosedJaxpr
from jax.interpreters import partial_eval

from diffsim.physics.numbers import THREADS, Block, Rows, evaluated, inputs_of, lead, with_lanes

LONG = 12  # steps; a shorter loop is part of a body
FEW = 128  # numbers of an array that are read before the loop, not where they are needed
CALLS = {"jit": "jaxpr", "remat2": "jaxpr", "custom_jvp_call": "call_jaxpr"}
SAME = ("stop_gradient", "copy", "optimization_barrier", "reshard", "pvary", "given")


def with_kernels(
    f: Callable, args: Sequence[jax.Array], lanes: int, interpret: bool = False
) -> list[jax.Array] | None:
    """``f(*args)`` with its long loops as kernels; None where it has none.

    Args:
        f: of flat arrays (…, B) or (…, 1), whose results are a list of such.
        lanes: B, more than any other axis has.
        interpret: whether the kernels run step by step, as they do on every device.

    Raises:
        NotImplementedError: the body of a loop does what a kernel here cannot.
    """
    closed = _plain(jax.make_jaxpr(f)(*args))
    jaxpr, _ = partial_eval.dce_jaxpr(closed.jaxpr, [True] * len(closed.jaxpr.outvars), True)
    if not any(map(_is_long, jaxpr.eqns)):
        return None

    def rule(eqn, read):
        return _loop(eqn.params, read, lanes, interpret) if _is_long(eqn) else _bound(eqn, read)

    return evaluated(rule, ClosedJaxpr(jaxpr, closed.consts), args)


def _is_long(eqn) -> bool:
    return eqn.primitive.name == "scan" and eqn.params["length"] >= LONG


def _bound(eqn, read, **changed):
    found = eqn.primitive.bind(*read, **{**eqn.params, **changed})
    return found if eqn.primitive.multiple_results else [found]


def _plain(closed: ClosedJaxpr) -> ClosedJaxpr:
    """The same without calls, and without what is there for derivatives alone."""

    def rule(eqn, read):
        name, params = eqn.primitive.name, eqn.params
        if name in CALLS and params.get("name") != "pick":
            inner = params[CALLS[name]]
            inner = inner if hasattr(inner, "consts") else ClosedJaxpr(inner, ())
            return evaluated(rule, inner, read)
        if name in SAME:
            return read[:1]
        if name == "scan":
            return _bound(eqn, read, jaxpr=_plain(params["jaxpr"]))
        if name == "cond":
            return _bound(eqn, read, branches=tuple(map(_plain, params["branches"])))
        return _bound(eqn, read)

    avals = [x.aval for x in closed.jaxpr.invars]
    return jax.make_jaxpr(lambda *args: evaluated(rule, closed, args))(*avals)


def _loop(params, args, lanes: int, interpret: bool) -> list[jax.Array]:
    """A scan as a kernel."""
    body, length, (first, last) = params["jaxpr"], params["length"], inputs_of(params)
    ins, outs = [x.aval for x in body.jaxpr.invars], body.out_avals
    carried, kept = outs[: last - first], outs[last - first :]
    memory = Memory(lanes, np.result_type(*(x.dtype for x in outs if x.dtype.kind == "f")))
    own = [i for i in range(first) if with_lanes(ins[i], lanes) and memory.count(ins[i]) <= FEW]
    others = [i for i in range(first) if i not in own]
    once, each = [*(ins[i] for i in own), *carried], ins[last:]
    stored = [x.astype(np.int8) if x.dtype == bool else x for x in (args[i] for i in others)]
    start = [jnp.broadcast_to(x, kind.shape) for x, kind in zip(args[first:last], carried)]

    def kernel(*refs):
        *rows, before, data, end, left = refs
        lane = pl.program_id(0) * THREADS + jnp.arange(THREADS, dtype=jnp.int32)
        block = Block(lanes, jnp.minimum(lane, lanes - 1))  # some may fly the last ball as well
        begin = memory.read(block, before, once)
        consts: dict[int, Any] = dict(zip(own, begin))
        for i, ref in zip(others, rows):
            row = Rows(block, ref, ins[i])
            consts[i] = row.load() if memory.count(ins[i]) <= FEW else row
        fixed = [consts[i] for i in range(first)]

        def step(i, flat):
            i = length - 1 - i if params["reverse"] else i
            found = memory.read(block, data, each, i)
            found = block.evaluate(body, [*fixed, *block.arrays(flat, carried), *found])
            memory.write(block, left, found[len(carried) :], kept, i)
            return block.flat(found[: len(carried)], carried)

        flat = lax.fori_loop(0, length, step, block.flat(begin[len(own) :], carried))
        memory.write(block, end, block.arrays(flat, carried), carried)

    end, left = pl.pallas_call(
        kernel,
        out_shape=[memory.shape(carried), memory.shape(kept, length)],
        grid=(math.ceil(lanes / THREADS),),
        interpret=interpret,
        compiler_params=None if interpret else triton.CompilerParams(num_warps=4, num_stages=1),
    )(
        *stored,
        memory.packed([*(args[i] for i in own), *start], once),
        memory.packed(args[last:], each, length),
    )
    return memory.unpacked(end, carried) + memory.unpacked(left, kept, length)


@dataclasses.dataclass(frozen=True)
class Memory:
    """Arrays of lanes in one: all their numbers, (rows, B) or (steps, rows, B).

    Attributes:
        lanes: how many there are, B.
        dtype: of numbers; integers are kept bit by bit where they have as many, else as numbers.
    """

    lanes: int
    dtype: Any

    def count(self, *kinds) -> int:
        return sum(math.prod(lead(kind, self.lanes)) for kind in kinds)

    def shape(self, kinds, *steps: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((*steps, max(self.count(*kinds), 1), self.lanes), self.dtype)

    def packed(self, arrays, kinds, *steps: int) -> jax.Array:
        def rows(x, kind):
            wide = self.lanes if with_lanes(kind, self.lanes) else 1
            x = self._kept(x).reshape(*steps, self.count(kind), wide)
            return jnp.broadcast_to(x, (*x.shape[:-1], self.lanes))

        if not kinds:
            return jnp.zeros(self.shape(kinds, *steps).shape, self.dtype)
        return jnp.concatenate([rows(*each) for each in zip(arrays, kinds, strict=True)], axis=-2)

    def unpacked(self, x: jax.Array, kinds, *steps: int) -> list[jax.Array]:
        ends = np.cumsum([self.count(kind) for kind in kinds])
        shapes = [(*steps, *lead(kind, self.lanes), self.lanes) for kind in kinds]
        parts = zip(jnp.split(x, ends[:-1], axis=-2), shapes, kinds)
        return [self._taken(part.reshape(shape), kind.dtype) for part, shape, kind in parts]

    def read(self, block: Block, ref, kinds, *step) -> list[np.ndarray]:
        """In a kernel, by one access."""
        types = [kind.dtype for kind in kinds for _ in range(self.count(kind))]
        found = block.tile(ref, (len(types),), block.lane[:, None], *step) if types else []
        return block.arrays(map(self._taken, found, types), kinds)

    def write(self, block: Block, ref, arrays, kinds, *step) -> None:
        """In a kernel, by one access; Triton joins two at a time."""
        flat = [self._kept(x) for x in itertools.chain(*map(block.wide, arrays))]
        if not flat:
            return
        count, size = len(flat), 1 << (len(flat) - 1).bit_length()
        flat += flat[-1:] * (size - count)
        while len(flat) > 1:
            half = len(flat) // 2
            flat = [jnp.stack(pair, axis=-1) for pair in zip(flat[:half], flat[half:])]
        row = jnp.minimum(jnp.arange(size, dtype=jnp.int32), count - 1)
        ref[(*step, row[None], block.lane[:, None])] = flat[0].reshape(THREADS, size)

    def _kept(self, x):
        same = x.dtype.kind != "f" and x.dtype.itemsize == self.dtype.itemsize
        return lax.bitcast_convert_type(x, self.dtype) if same else x.astype(self.dtype)

    def _taken(self, x, dtype):
        if dtype.kind == "b":
            return x != 0
        same = dtype.kind != "f" and dtype.itemsize == self.dtype.itemsize
        return lax.bitcast_convert_type(x, dtype) if same else x.astype(dtype)
