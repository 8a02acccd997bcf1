"""Time of the inverse over the forward pass, round-trip error and memory, ours and others'."""

import functools
import importlib.util
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from diffsim.invertible.chain import Chain
from diffsim.invertible.diagonal import Diagonal
from diffsim.invertible.invert import invert
from diffsim.invertible.table import LAYERS
from studies import harness

DEPTH, ROUNDS = 4, 5
STRUCTURED = (
    "householder", "coupling-affine", "circulant", "tridiagonal", "kronecker", "butterfly",
    "low-rank", "monarch",
)  # fmt: skip


def mebibytes(f: Any, *args: Any) -> float:
    """Temporary memory of a compiled function."""
    return f.lower(*args).compile().memory_analysis().temp_size_in_bytes / 2**20


def distance(a: jax.Array, b: jax.Array) -> float:
    return float(jnp.linalg.norm(a - b) / jnp.linalg.norm(b))


def row(
    name: str, forward: Any, inverse: Any, model: Any, factor: Any, x: jax.Array,
    dense: Callable | None = None, double: float | None = None,
) -> harness.Row:  # fmt: skip
    """What is told of a layer; ``forward(model, x)`` and ``inverse(model, factor, y)`` are jitted.

    Args:
        dense: as many dense forward passes, timed in turns with it.
        double: error of the round trip in float64.
    """
    y = forward(model, x)
    back = inverse(model, factor, y)
    calls = {"there": lambda: forward(model, x), "back": lambda: inverse(model, factor, y)}
    took = harness.least(calls | ({"dense": dense} if dense else {}), ROUNDS)
    return {
        f"{DEPTH} layers": name,
        "fwd ms": 1e3 * took["there"],
        "inv ms": 1e3 * took["back"],
        "inv/fwd": took["back"] / took["there"],
        "inv/dense": took["back"] / took["dense"] if dense else None,
        "error f32": distance(back, x),
        "error f64": double,
        "kept MiB": sum(leaf.nbytes for leaf in jax.tree.leaves(factor)) / 2**20,
        "temp MiB": mebibytes(inverse, model, factor, y),
    }


def chain(name: str, size: int) -> Chain:
    """``DEPTH`` layers of one kind; reflections alternate with scales."""
    layers = []
    for k in range(DEPTH):
        layers.append(LAYERS[name](size, rngs=nnx.Rngs(k)))
        if name == "householder":
            layers.append(Diagonal.random(size, rngs=nnx.Rngs(k)))
    return Chain(layers)


def ours(
    name: str, size: int, batch: int, dense: Callable | None, double: bool = True
) -> harness.Row:
    """The row of one kind of layer, with its round trip in float64 unless that takes long."""
    forward = jax.jit(lambda chain, x: jax.vmap(chain)(x))
    inverse = jax.jit(lambda chain, f, y: jax.vmap(lambda y: chain.inverse(y, f))(y))
    factorise = jax.jit(lambda chain: chain.factor())
    error = None
    if double:
        with jax.enable_x64(True):
            model, x = chain(name, size), jax.random.normal(jax.random.key(0), (batch, size))
            error = distance(inverse(model, factorise(model), forward(model, x)), x)
    model, x = chain(name, size), jax.random.normal(jax.random.key(0), (batch, size))
    label = "householder × 32, diagonal" if name == "householder" else name
    return row(label, forward, inverse, model, factorise(model), x, dense, error)


def peers(size: int, x: jax.Array, dense: Callable) -> Iterator[harness.Row]:
    """The same depth of distrax's and flowjax's dense layers, where installed."""
    lower = (
        jnp.eye(size) + 0.3 * jnp.tril(jax.random.normal(jax.random.key(2), (size, size))) / size
    )
    forward = jax.jit(lambda model, x: jax.vmap(lambda x: _through(model, x, False))(x))
    inverse = jax.jit(lambda model, _, y: jax.vmap(lambda y: _through(model, y, True))(y))
    if importlib.util.find_spec("distrax"):
        import distrax

        def layer(matrix, x, back):
            made = distrax.LowerUpperTriangularAffine(matrix, jnp.zeros(size))
            return made.inverse(x) if back else made.forward(x)

        yield row("distrax LU", forward, inverse, [_Peer(layer, lower)] * DEPTH, (), x, dense)
    if importlib.util.find_spec("flowjax"):
        from flowjax.bijections import TriangularAffine

        def layer(matrix, x, back):
            made = TriangularAffine(jnp.zeros(size), matrix)
            return made.inverse(x) if back else made.transform(x)

        model = [_Peer(layer, lower)] * DEPTH
        yield row("flowjax triangular", forward, inverse, model, (), x, dense)


@jax.tree_util.register_pytree_node_class
class _Peer:
    def __init__(self, apply: Callable, matrix: jax.Array):
        self.apply, self.matrix = apply, matrix

    def tree_flatten(self):
        return (self.matrix,), self.apply

    @classmethod
    def tree_unflatten(cls, apply, leaves):
        return cls(apply, *leaves)


def _through(model: list[_Peer], x: jax.Array, back: bool) -> jax.Array:
    for layer in reversed(model) if back else model:
        x = layer.apply(layer.matrix, x, back)
    return x


def generic(size: int, double: bool) -> harness.Row:
    """A network known only as a function: tanh of monarch layers, inverted matrix-free."""
    with jax.enable_x64(double):
        layers = [LAYERS["monarch"](size, rngs=nnx.Rngs(k)) for k in range(3)]

        @jax.jit
        def network(layers, x):
            first, second, third = layers
            return third(x + 0.2 * jnp.tanh(second(jnp.tanh(first(x)))))

        @jax.jit
        def solve(layers, y):
            found = invert(lambda x: network(layers, x), y, size=size, method="newton")
            return found.x, found.evaluations

        x = jax.random.normal(jax.random.key(1), (size,))
        y = network(layers, x)
        back, evaluations = solve(layers, y)
        took = harness.least({"f": lambda: network(layers, x), "x": lambda: solve(layers, y)[0]}, 3)
        return {
            "size": f"{size} {x.dtype}",
            "seconds": took["x"],
            "forward passes": took["x"] / took["f"],
            "evaluations": int(evaluations),
            "error": distance(back, x),
        }


def benchmark(
    sizes: tuple[int, ...] = (256, 1024, 4096),
    structured: int = 102_400,
    generic_size: int = 10_000,
) -> harness.Found:
    """Print all tables: dense layers (batch 64), structured ones (16), any network.

    Times are the least of several turns, in float32 with the factor kept; "inv/dense" is over as
    many dense forward passes, in turns; "kept" is the factor's memory, "temp" what the inverse
    needs besides.

    Args:
        sizes: sizes of dense layers; float64 is checked up to 1024.
        structured: size of structured layers; the butterfly takes the next power of two.
        generic_size: size of the network inverted as a mere function; in float32 also ten times it.
    """
    found: harness.Found = {}
    for size in sizes:
        found |= harness.show(f"n = {size}, batch 64", _dense(size))
    found |= harness.show(
        f"n = {structured}, batch 16",
        (
            ours(name, 1 << (structured - 1).bit_length(), 16, None)
            if name == "butterfly"
            else ours(name, structured, 16, None)
            for name in STRUCTURED
        ),
    )
    networks = ((generic_size, True), (10 * generic_size, False))
    return found | harness.show(
        "a network known only as a function, matrix-free", (generic(*one) for one in networks)
    )


def _dense(size: int) -> Iterator[harness.Row]:
    plain, x = chain("dense", size), jax.random.normal(jax.random.key(0), (64, size))
    forward = jax.jit(lambda chain, x: jax.vmap(chain)(x))
    dense = functools.partial(forward, plain, x)
    jax.block_until_ready(dense())
    for name in ("dense", "lu", "triangular"):
        yield ours(name, size, 64, dense, double=size <= 1024)
    yield from peers(size, x, dense)
