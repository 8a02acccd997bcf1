"""Time of the inverse over the forward pass, round-trip error and memory, ours and others'."""

import functools
import importlib.util
import time
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


HEAD = f"  {'4 layers':28s}" + "".join(
    f"{name:>{width}s}"
    for name, width in (
        ("fwd ms", 9), ("inv ms", 9), ("inv/fwd", 9), ("inv/dense", 10), ("error f32", 11),
        ("error f64", 11), ("kept MiB", 10), ("temp MiB", 10),
    )
)  # fmt: skip


def seconds(calls: dict[str, Callable], repeats: int = 5) -> dict[str, float]:
    """Least time of each call that waits for its result; the calls take turns."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            start = time.perf_counter()
            jax.block_until_ready(call())
            times[name].append(time.perf_counter() - start)
    return {name: min(taken) for name, taken in times.items()}


def mebibytes(f: Any, *args: Any) -> float:
    """Temporary memory of a compiled function."""
    return f.lower(*args).compile().memory_analysis().temp_size_in_bytes / 2**20


def distance(a: jax.Array, b: jax.Array) -> float:
    return float(jnp.linalg.norm(a - b) / jnp.linalg.norm(b))


def row(
    name: str, forward: Any, inverse: Any, model: Any, factor: Any, x: jax.Array,
    dense: Callable | None = None, double: float | None = None,
) -> None:  # fmt: skip
    """Print one line; ``forward(model, x)`` and ``inverse(model, factor, y)`` are jitted."""
    y = forward(model, x)
    back = inverse(model, factor, y)
    calls = {"there": lambda: forward(model, x), "back": lambda: inverse(model, factor, y)}
    took = seconds(calls | ({"dense": dense} if dense else {}))
    kept = sum(leaf.nbytes for leaf in jax.tree.leaves(factor)) / 2**20
    beside = f"{took['back'] / took['dense']:10.2f}" if dense else " " * 10
    exact = " " * 11 if double is None else f"{double:11.1e}"
    print(
        f"  {name:28s}{1e3 * took['there']:9.2f}{1e3 * took['back']:9.2f}"
        f"{took['back'] / took['there']:9.2f}{beside}{distance(back, x):11.1e}{exact}"
        f"{kept:10.1f}{mebibytes(inverse, model, factor, y):10.1f}",
        flush=True,
    )


def chain(name: str, size: int) -> Chain:
    """``DEPTH`` layers of one kind; reflections alternate with scales."""
    layers = []
    for k in range(DEPTH):
        layers.append(LAYERS[name](size, rngs=nnx.Rngs(k)))
        if name == "householder":
            layers.append(Diagonal.random(size, rngs=nnx.Rngs(k)))
    return Chain(layers)


def ours(name: str, size: int, batch: int, dense: Callable | None, double: bool = True) -> None:
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
    row(label, forward, inverse, model, factorise(model), x, dense, error)


def peers(size: int, x: jax.Array, dense: Callable) -> None:
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

        row("distrax LU", forward, inverse, [_Peer(layer, lower)] * DEPTH, (), x, dense)
    if importlib.util.find_spec("flowjax"):
        from flowjax.bijections import TriangularAffine

        def layer(matrix, x, back):
            made = TriangularAffine(jnp.zeros(size), matrix)
            return made.inverse(x) if back else made.transform(x)

        model = [_Peer(layer, lower)] * DEPTH
        row("flowjax triangular", forward, inverse, model, (), x, dense)


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
        back, evaluations = solve(layers, y)
        took = seconds({"f": lambda: network(layers, x), "x": lambda: solve(layers, y)[0]}, 3)
        print(
            f"  {size:7d} {x.dtype!s}: {took['x']:6.2f} s = {took['x'] / took['f']:5.0f} forward "
            f"passes, {int(evaluations)} evaluations, error {distance(back, x):.1e}",
            flush=True,
        )


def main(
    sizes: tuple[int, ...] = (256, 1024, 4096),
    structured: int = 102_400,
    generic_size: int = 10_000,
) -> None:
    """Print all tables: dense layers (batch 64), structured ones (16), any network.

    Times are of float32 with the factor kept, "inv/dense" over as many dense forward passes
    taken in turns with it; "kept" is the factor's memory, "temp" what the inverse needs besides.

    Args:
        sizes: of dense layers; float64 is checked up to 1024.
        structured: of structured layers; the butterfly takes the next power of two.
        generic_size: of the network inverted as a mere function; and ten times that, in float32.
    """
    for size in sizes:
        print(f"\nn = {size}, batch 64\n{HEAD}", flush=True)
        plain, x = chain("dense", size), jax.random.normal(jax.random.key(0), (64, size))
        forward = jax.jit(lambda chain, x: jax.vmap(chain)(x))
        dense = functools.partial(forward, plain, x)
        jax.block_until_ready(dense())
        for name in ("dense", "lu", "triangular"):
            ours(name, size, 64, dense, double=size <= 1024)
        peers(size, x, dense)
    print(f"\nn = {structured}, batch 16\n{HEAD}", flush=True)
    for name in STRUCTURED:
        size = 1 << (structured - 1).bit_length() if name == "butterfly" else structured
        ours(name, size, 16, None)
    print("\nA network known only as a function, matrix-free", flush=True)
    generic(generic_size, True)
    generic(10 * generic_size, False)
