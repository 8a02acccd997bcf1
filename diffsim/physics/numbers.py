"""Arrays of many balls as the numbers of one: a jaxpr written out for a kernel.

An array (…, B) becomes an array (…) of indices into a list of vectors, which hold one number for
each lane of a block. So what moves numbers about (a reshape, a slice, a pad) costs nothing, and
what computes the same of the same numbers is computed once. That is all that Triton needs: it has
no slices, gathers or axes of three.
"""

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import ClosedJaxpr

THREADS = 128  # lanes of a block

REDUCE = {
    "reduce_sum": lax.add,
    "reduce_max": lax.max,
    "reduce_min": lax.min,
    "reduce_or": lax.bitwise_or,
    "reduce_and": lax.bitwise_and,
}
ELEMENTWISE = """
    abs acos acosh add add_any and asin asinh atan atan2 atanh cbrt ceil clamp convert_element_type
    cos cosh div eq exp exp2 expm1 floor ge gt integer_pow is_finite le log log1p logistic lt max
    min mul ne neg not or pow rem rsqrt select_n shift_left shift_right_arithmetic
    shift_right_logical sign sin sinh sqrt square sub tan tanh xor
"""
MOVES = """
    argmax argmin broadcast_in_dim concatenate cumsum empty2 expand_dims iota pad reshape rev slice
    split squeeze stack transpose unstack
"""


def evaluated(rule: Callable, closed: ClosedJaxpr, args: Sequence, constant=lambda x: x) -> list:
    """The results of a jaxpr, those of each equation by ``rule(equation, what it reads)``."""
    jaxpr: Any = closed.jaxpr
    values: dict[Any, Any] = dict(zip(jaxpr.constvars, closed.consts, strict=True))
    values.update(zip(jaxpr.invars, args, strict=True))

    def read(x: Any):
        return constant(np.asarray(x.val, x.aval.dtype)) if hasattr(x, "val") else values[x]

    for eqn in jaxpr.eqns:
        values.update(zip(eqn.outvars, rule(eqn, [read(x) for x in eqn.invars]), strict=True))
    return [read(x) for x in jaxpr.outvars]


def inputs_of(params) -> tuple[int, int]:
    """Of a scan: how many inputs are constants, and how many those and the first carry."""
    if "ft_in" in params:  # jax 0.12
        consts, carry, _ = map(len, params["ft_in"].unpack())
    else:
        consts, carry = params["num_consts"], params["num_carry"]
    return consts, consts + carry


def with_lanes(kind, lanes: int) -> bool:
    """Whether the last axis of an array is that of lanes; if not, it may be one that they share."""
    return len(kind.shape) > 0 and kind.shape[-1] == lanes


def lead(kind, lanes: int) -> tuple[int, ...]:
    """The axes of an array before that of lanes."""
    return kind.shape[:-1] if with_lanes(kind, lanes) else kind.shape


@dataclasses.dataclass
class Rows:
    """An array that lies in memory by itself.

    Attributes:
        kind: its shape and type in the body.
    """

    block: "Block"
    ref: Any
    kind: Any

    def load(self) -> np.ndarray:
        block, rows = self.block, lead(self.kind, self.block.lanes)
        if with_lanes(self.kind, block.lanes):
            found = block.tile(self.ref, rows, block.lane[:, None])
        else:
            found = [self.ref[i if i else ...] for i in np.ndindex(*rows)]
        return block.array((x != 0 if self.kind.dtype == bool else x for x in found), self.kind)


@dataclasses.dataclass
class Block:
    """What a jaxpr computes, for a block of lanes.

    Attributes:
        lanes: how many there are in all.
        lane: which are in the block, (THREADS,).
        numbers: vectors (THREADS,), or numbers () that all lanes share.
    """

    lanes: int
    lane: jax.Array
    numbers: list = dataclasses.field(default_factory=list)

    def array(self, numbers: Iterable, kind) -> np.ndarray:
        """Of the next numbers, as many as an array of that kind has."""
        shape, begin = lead(kind, self.lanes), len(self.numbers)
        self.numbers.extend(itertools.islice(numbers, math.prod(shape)))
        return np.arange(begin, len(self.numbers)).reshape(shape)

    def arrays(self, numbers: Iterable, kinds) -> list[np.ndarray]:
        numbers = iter(numbers)
        return [self.array(numbers, kind) for kind in kinds]

    def constant(self, x) -> np.ndarray:
        x = np.asarray(x)
        return self.array(x.ravel(), x)

    def wide(self, indices: np.ndarray) -> list:
        """The numbers of an array, one for each lane."""
        return [jnp.broadcast_to(self.numbers[i], self.lane.shape) for i in indices.ravel()]

    def flat(self, arrays, kinds) -> list:
        """The numbers of arrays of those kinds."""
        found: list = []
        for x, kind in zip(arrays, kinds, strict=True):
            wide = with_lanes(kind, self.lanes)
            found += self.wide(x) if wide else [self.numbers[i] for i in x.ravel()]
        return found

    def tile(self, ref, rows: tuple[int, ...], lane, *first) -> list:
        """What is in memory at [first, …, lane], by one access; Triton splits it by halves."""
        count = math.prod(rows)
        size = 1 << (count - 1).bit_length()
        row = jnp.minimum(jnp.arange(size, dtype=jnp.int32), count - 1)[None]
        index: list = []
        for extent in reversed(rows):
            index.insert(0, row % extent)
            row = row // extent
        found = ref[(*first, *index, lane)]
        parts = lax.split(found, [1] * size, axis=1) if size > 1 else [found]
        return [x.reshape(self.lane.shape) for x in parts[:count]]

    def evaluate(self, closed: ClosedJaxpr, args: Sequence) -> list:
        consts = [self.constant(x) for x in closed.consts]
        return evaluated(self.rule, ClosedJaxpr(closed.jaxpr, consts), args, self.constant)

    def rule(self, eqn, read) -> list:
        name = eqn.primitive.name
        if name == "jit":  # what is left of calls, see ``pick``
            return [self.pick(eqn, *read)]
        if name in ("cond", "scan"):
            return getattr(self, name)(eqn, *read)
        read = [x.load() if isinstance(x, Rows) else x for x in read]
        if name in ELEMENTWISE.split():
            return [self.elementwise(eqn, *read)]
        if name in REDUCE:
            return [self.reduce(eqn, *read)]
        if name not in MOVES.split():
            raise NotImplementedError(f"no kernel for a loop with {name!r}")
        found = getattr(self, name)(eqn, *read)
        return found if eqn.primitive.multiple_results else [found]

    def new(self, f: Callable, *arrays: np.ndarray) -> np.ndarray:
        """f of the numbers of arrays that broadcast."""
        alike = np.broadcast_arrays(*arrays)
        table = np.stack([x.ravel() for x in alike], axis=1)
        rows, back = np.unique(table, axis=0, return_inverse=True)
        begin = len(self.numbers)
        for row in rows:
            read = [self.numbers[i] for i in row]
            if any(np.ndim(x) for x in read):
                read = [jnp.broadcast_to(x, self.lane.shape) for x in read]
            self.numbers.append(f(*read))
        return begin + back.reshape(alike[0].shape)

    def elementwise(self, eqn, *read):
        ndim = len(lead(eqn.outvars[0].aval, self.lanes))
        leads = [x.reshape(x.shape[:ndim]) for x in read]  # a last axis of size 1 stands for lanes
        return self.new(functools.partial(eqn.primitive.bind, **eqn.params), *leads)

    def reduce(self, eqn, x):
        combine, axes, over = REDUCE[eqn.primitive.name], set(eqn.params["axes"]), x.ndim
        if over in axes:
            if eqn.primitive.name != "reduce_or":
                raise NotImplementedError(f"no kernel for {eqn.primitive.name} over lanes")
            x = self.new(lambda x: jnp.max(jnp.atleast_1d(x).astype(jnp.int32)) > 0, x)
        for axis in sorted(axes - {over}, reverse=True):
            x = functools.reduce(functools.partial(self.new, combine), np.moveaxis(x, axis, 0))
        return np.asarray(x)

    def cumsum(self, eqn, x):
        axis, back = eqn.params["axis"], eqn.params["reverse"]
        parts = np.moveaxis(x, axis, 0)[:: -1 if back else 1]
        found = list(itertools.accumulate(parts, functools.partial(self.new, lax.add)))
        return np.stack(found[:: -1 if back else 1], axis)

    def argmax(self, eqn, x, better=lax.gt):
        (axis,), dtype = eqn.params["axes"], eqn.params["index_dtype"]
        best, *others = np.moveaxis(x, axis, 0)
        index = np.broadcast_to(self.constant(np.zeros((), dtype)), np.shape(best))
        for i, other in enumerate(others, start=1):
            wins, own = self.new(better, other, best), self.constant(np.asarray(i, dtype))
            best, index = (
                self.new(lax.select, wins, other, best),
                self.new(lax.select, wins, own, index),
            )
        return np.asarray(index)

    def argmin(self, eqn, x):
        return self.argmax(eqn, x, lax.lt)

    def pick(self, eqn, rows, index):
        """See :func:`~diffsim.physics.court.pick`."""
        kind = eqn.invars[0].aval
        own = with_lanes(kind, self.lanes)
        rest = kind.shape[1:-1]
        if isinstance(rows, Rows):
            lane = self.lane[:, None] if own else 0
            tiles = [self.tile(rows.ref, rest, lane, i[:, None]) for i in self.wide(index)]
            return self.array(itertools.chain(*tiles), eqn.outvars[0].aval)
        rows = rows.reshape(rows.shape[0], *(1,) * np.ndim(index), *rest)
        index = np.reshape(index, (*np.shape(index), *(1,) * len(rest)))
        found = rows[0]
        for i, row in enumerate(rows[1:], start=1):
            here = self.new(lambda x, i=i: x == i, index)
            found = self.new(lax.select, here, row, found)
        return found

    def cond(self, eqn, index, *read):
        kinds = [x.aval for x in eqn.outvars]

        def branch(closed):
            return lambda: self.flat(self.evaluate(closed, read), kinds)

        which = self.numbers[int(index)].astype(jnp.int32)
        return self.arrays(lax.switch(which, [*map(branch, eqn.params["branches"])]), kinds)

    def scan(self, eqn, *read):
        """A short loop; one that reads or leaves rows is written out."""
        params, kinds = eqn.params, [x.aval for x in eqn.outvars]
        body, (first, last) = params["jaxpr"], inputs_of(params)
        consts, carry, xs = read[:first], [*read[first:last]], read[last:]
        if not xs and len(carry) == len(kinds):

            def step(_, flat):
                return self.flat(self.evaluate(body, [*consts, *self.arrays(flat, kinds)]), kinds)

            return self.arrays(
                lax.fori_loop(0, params["length"], step, self.flat(carry, kinds)), kinds
            )
        kept, way = [], -1 if params["reverse"] else 1
        for i in range(params["length"])[::way]:
            found = self.evaluate(body, [*consts, *carry, *(np.asarray(x[i]) for x in xs)])
            carry = found[: len(carry)]
            kept.append(found[len(carry) :])
        return [*carry, *map(np.stack, zip(*kept[::way]))]

    def reshape(self, eqn, x):
        return x.reshape(lead(eqn.outvars[0].aval, self.lanes))

    squeeze = expand_dims = reshape

    def transpose(self, eqn, x):
        order = eqn.params["permutation"]
        if with_lanes(eqn.invars[0].aval, self.lanes) and order[-1] != x.ndim:
            raise NotImplementedError("no kernel that moves the axis of lanes")
        return x.transpose(order[: x.ndim])

    def broadcast_in_dim(self, eqn, x):
        shape, to = eqn.params["shape"], eqn.params["broadcast_dimensions"]
        rows = lead(eqn.outvars[0].aval, self.lanes)
        if len(rows) < len(shape) and len(shape) - 1 in to:
            to = to[:-1]
            x = x.reshape(x.shape[: len(to)])
        wide = np.ones(len(rows), int)
        wide[list(to)] = x.shape
        return np.broadcast_to(x.reshape(wide), rows)

    def slice(self, eqn, x):
        begin, end, steps = (eqn.params[k] for k in ("start_indices", "limit_indices", "strides"))
        cut = [slice(*each) for each in zip(begin, end, steps or [1] * len(end))]
        return x[tuple(cut[: x.ndim])]

    def concatenate(self, eqn, *xs):
        return np.concatenate(xs, eqn.params["dimension"])

    def stack(self, eqn, *xs):
        return np.stack(xs, eqn.params["axis"])

    def unstack(self, eqn, x):
        return [np.asarray(each) for each in np.moveaxis(x, eqn.params["axis"], 0)]

    def split(self, eqn, x):
        return np.split(x, np.cumsum(eqn.params["sizes"])[:-1], eqn.params["axis"])

    def rev(self, eqn, x):
        return np.flip(x, eqn.params["dimensions"])

    def pad(self, eqn, x, value):
        config = eqn.params["padding_config"][: x.ndim]
        if any(inner or min(low, high) < 0 for low, high, inner in config):
            raise NotImplementedError("no kernel that cuts, or fills between")
        return np.pad(x, [ends[:2] for ends in config], constant_values=int(value))

    def iota(self, eqn):
        kind, axis = eqn.outvars[0].aval, eqn.params["dimension"]
        along = np.arange(kind.shape[axis], dtype=kind.dtype)
        return self.constant(
            np.broadcast_to(along.reshape(-1, *(1,) * (kind.ndim - axis - 1)), kind.shape)
        )

    def empty2(self, eqn):
        kind = eqn.outvars[0].aval
        return self.constant(np.zeros(kind.shape, kind.dtype))
