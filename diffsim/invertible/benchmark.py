"""Time of the inverse over the forward pass, round-trip error and memory, ours and others'."""

import importlib.util
import timeit
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from diffsim.invertible.chain import Chain
from diffsim.invertible.diagonal import Diagonal
from diffsim.invertible.invert import invert
from diffsim.invertible.table import LAYERS

DEPTH = 4
STRUCTURED = (
    "householder", "coupling-affine", "circulant", "tridiagonal", "kronecker", "butterfly",
    "low-rank", "monarch",
)  # fmt: skip


def seconds(f: Callable, *args: Any, repeats: int = 5) -> float:
    """Least time of a call that waits for its result."""
    return min(timeit.repeat(lambda: jax.block_until_ready(f(*args)), number=1, repeat=repeats))


def mebibytes(f: Any, *args: Any) -> float:
    """Temporary memory of a compiled function."""
    return f.lower(*args).compile().memory_analysis().temp_size_in_bytes / 2**20


def row(name: str, forward: Callable, inverse: Callable, model: Any, factor: Any, x: jax.Array):
    """Print one line; ``forward(model, x)`` and ``inverse(model, factor, y)`` are jitted."""
    y = forward(model, x)
    back = inverse(model, factor, y)
    error = float(jnp.linalg.norm(back - x) / jnp.linalg.norm(x))
    there, again = seconds(forward, model, x), seconds(inverse, model, factor, y)
    memory = mebibytes(inverse, model, factor, y)
    print(
        f"  {name:28s} {1e3 * there:10.2f} {1e3 * again:10.2f} {again / there:8.2f}"
        f" {error:10.1e} {memory:10.1f}",
        flush=True,
    )
    return there


def ours(name: str, chain: Chain, x: jax.Array) -> float:
    forward = jax.jit(lambda chain, x: jax.vmap(chain)(x))
    inverse = jax.jit(lambda chain, f, y: jax.vmap(lambda y: chain.inverse(y, f))(y))
    factor = jax.block_until_ready(jax.jit(lambda chain: chain.factor())(chain))
    return row(name, forward, inverse, chain, factor, x)


def peers(size: int, x: jax.Array) -> None:
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

        row("distrax LU", forward, inverse, [_Peer(layer, lower)] * DEPTH, (), x)
    if importlib.util.find_spec("flowjax"):
        from flowjax.bijections import TriangularAffine

        def layer(matrix, x, back):
            made = TriangularAffine(jnp.zeros(size), matrix)
            return made.inverse(x) if back else made.transform(x)

        row("flowjax triangular", forward, inverse, [_Peer(layer, lower)] * DEPTH, (), x)


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


def generic(size: int, double: bool) -> None:
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
        there = seconds(network, layers, y, repeats=3)
        again = seconds(solve, layers, y, repeats=1)
        back, evaluations = solve(layers, y)
        error = float(jnp.linalg.norm(back - x) / jnp.linalg.norm(x))
        print(
            f"  {size:7d} {x.dtype!s}: {again:6.2f} s = {again / there:5.0f} forward passes, "
            f"{int(evaluations)} evaluations, error {error:.1e}"
        )


def main(
    sizes: tuple[int, ...] = (256, 1024, 4096),
    structured: int = 102_400,
    generic_size: int = 10_000,
) -> None:
    """Print all tables, in float32: dense layers (batch 64), structured ones (16), any network.

    Args:
        sizes: of dense layers.
        structured: of structured layers; the butterfly takes the next power of two.
        generic_size: of the network inverted as a mere function; and ten times that, in float32.
    """
    columns = zip(("fwd ms", "inv ms", "ratio", "error", "MiB"), (10, 10, 8, 10, 10))
    head = f"  {'4 layers':28s} " + " ".join(f"{name:>{width}s}" for name, width in columns)
    for size in sizes:
        x = jax.random.normal(jax.random.key(0), (64, size))
        print(f"\nn = {size}, batch 64, factor kept\n{head}")
        for name in ("dense", "lu", "triangular"):
            layers = [LAYERS[name](size, rngs=nnx.Rngs(k)) for k in range(DEPTH)]
            ours(name, Chain(layers), x)
        peers(size, x)
    print(f"\nn = {structured}, batch 16, factor kept\n{head}")
    for name in STRUCTURED:
        size = 1 << (structured - 1).bit_length() if name == "butterfly" else structured
        x = jax.random.normal(jax.random.key(0), (16, size))
        layers = [LAYERS[name](size, rngs=nnx.Rngs(k)) for k in range(DEPTH)]
        if name == "householder":
            pairs = zip(layers, (Diagonal.random(size, rngs=nnx.Rngs(k)) for k in range(DEPTH)))
            layers, name = [layer for pair in pairs for layer in pair], "householder × 32, diagonal"
        ours(name, Chain(layers), x)
    print("\nA network known only as a function, matrix-free")
    generic(generic_size, True)
    generic(10 * generic_size, False)
