"""Find x with network(x) = y: the ladder from exact inverses to search, structure first."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from diffsim import _check
from diffsim._types import ArrayLike, Tree
from diffsim.invertible import layerwise, newton
from diffsim.invertible.activations import DOMAINS
from diffsim.invertible.base import Layer
from diffsim.invertible.implicit import root
from diffsim.invertible.read import input_size, read
from diffsim.invertible.status import Inversion, InversionStatus, Preimages

METHODS = ("auto", "exact", "newton", "descent")


@jax.default_matmul_precision("highest")
def invert(
    network: Callable,
    y: Tree,
    *,
    method: str = "auto",
    size: int | None = None,
    start: Tree = None,
    domain: str = "raise",
    tolerance: float | None = None,
    steps: int = 50,
    restarts: int = 4,
    key: jax.Array | None = None,
) -> Inversion:
    """x with network(x) ≈ y, an error estimate and a status, for one y or a batch.

    "auto" takes the network's structure first and searches where there is none:

    1. a network of square invertible layers is undone layer by layer ("exact"), and that is the
       answer; an nnx multilayer perceptron is read as layers, whatever its class;
    2. layers of other shapes are undone with pseudo-inverses, which gives a start;
    3. Levenberg–Marquardt from there ("newton"), matrix-free above 256 unknowns;
    4. if the residual is still too large, Adam and Levenberg–Marquardt from random starts
       ("descent").

    With fewer outputs than inputs x is one of many, near the start, and ``free`` says how many
    directions are left. With more, x is the least-squares solution.

    The derivative of x, forward or reverse, in y and in the network's weights, is that of the
    implicit function theorem: dx = J⁻¹(dy − ∂f/∂w dw).

    Products, the network's among them, are at full precision on every backend; a y that the
    network gave at a lower one (TF32) is off by that.

    Args:
        network: any function of one vector (n,) → (m,) that JAX can trace: a layer, a chain, an
            nnx module, a lambda. To differentiate in weights, or to jit without copying them into
            the program, pass it as an argument through jax.jit (nnx modules are pytrees).
        y: (m,), or (b, m) for a batch.
        method: "auto", "exact", "newton" or "descent".
        size: n; not needed for layers and for nnx modules that start with nnx.Linear.
        start: x to begin a search at, (n,) or (b, n), or a function y → x such as a learned
            inverse; "auto" then searches even where it could be exact.
        domain: "raise" marks targets outside an activation's reach OUT_OF_RANGE, with x NaN;
            "clip" takes the nearest that is reached and marks them CLIPPED.
        tolerance: relative residual to reach; None for 100 rounding units.
        steps: most Levenberg–Marquardt steps of one search.
        restarts: most random starts of "descent".
        key: of the random starts; None for jax.random.key(0).

    Returns:
        An :class:`Inversion`, with a leading axis for a batch.

    Raises:
        ValueError: unknown method; a shape that does not fit; n unknown; "exact" for a network
            that is not made of square invertible layers.
        TypeError: a network that JAX cannot trace; numbers that are not float32 or float64.

    >>> from flax import nnx
    >>> def net(x):
    ...     return jnp.tanh(jnp.array([[1.0, 0.5], [0.0, 1.0]]) @ x) + 1.0
    >>> found = invert(net, net(jnp.array([0.3, -0.2])), size=2)
    >>> found.x.round(4).tolist(), InversionStatus(int(found.status)).name
    ([0.3, -0.2], 'OK')
    """
    if method not in METHODS or domain not in DOMAINS:
        raise ValueError(
            f"method, domain: expected one of {METHODS} and of {DOMAINS}, "
            f"got {method!r}, {domain!r}"
        )
    y, n, dtype = _targets(network, y, size)
    layers = read(network, jax.ShapeDtypeStruct((n,), dtype)) if method in METHODS[:2] else None
    square = layers is not None and layerwise.is_square(layers)
    if method == "exact" and not square:
        raise ValueError("network: expected square invertible layers for 'exact', got another one")
    factors = [] if layers is None else [layer.factor() for layer in layers]
    one: Callable
    if layers is not None and square and (start is None or method == "exact"):
        one = lambda y, _: layerwise.exact(network, layers, factors, y, domain == "clip")  # noqa: E731
    else:
        wide = y.shape[-1] <= n
        one = functools.partial(
            _search,
            network,
            dtype=dtype,
            tolerance=tolerance,
            limit=steps,
            first=0 if method == "descent" else steps,
            restarts=restarts if method == "descent" or (method == "auto" and wide) else 0,
            key=jax.random.key(0) if key is None else key,
        )
    begin = _starts(start, layers, factors, y, n, dtype)
    return jax.vmap(one)(y, begin) if y.ndim == 2 else one(y, begin)


@jax.default_matmul_precision("highest")
def preimages(
    network: Callable,
    y: Tree,
    starts: ArrayLike,
    *,
    tolerance: float | None = None,
    steps: int = 50,
    apart: float | None = None,
) -> Preimages:
    """Several x with network(x) ≈ y, by Levenberg–Marquardt from several starts.

    There is no promise that all are found; more starts find more.

    Args:
        network: any function of one vector (n,) → (m,).
        y: one target, (m,).
        starts: one a row, (s, n).
        tolerance, steps: as for :func:`invert`.
        apart: solutions nearer than this, relative to 1 + ‖x‖, count as one; None for the
            square root of the rounding unit.

    >>> found = preimages(lambda x: x**2, jnp.array([4.0]), jnp.array([[-1.0], [1.0], [3.0]]))
    >>> found.points().round(4).tolist()
    [[-2.0], [2.0]]
    """
    starts = _check.floating("starts", starts)
    if starts.ndim != 2:
        raise ValueError(f"starts: expected shape (s, n), got {starts.shape}")
    y, _, dtype = _targets(network, y, starts.shape[1])
    if y.ndim != 1:
        raise ValueError(f"y: expected one target (m,), got {y.shape}; vmap over a batch")
    one = functools.partial(
        _search,
        network,
        y,
        dtype=dtype,
        tolerance=tolerance,
        first=steps,
        limit=0,
        restarts=0,
        key=jax.random.key(0),
    )
    found = jax.vmap(one)(starts.astype(dtype))
    fine = (found.status == InversionStatus.OK) | (found.status == InversionStatus.ILL_CONDITIONED)
    distance = jnp.linalg.norm(found.x[:, None] - found.x[None], axis=-1)
    least = jnp.finfo(dtype).eps ** 0.5 if apart is None else apart
    near = distance <= least * (1 + jnp.linalg.norm(found.x, axis=-1))
    earlier = jnp.tril(jnp.ones(near.shape, bool), -1)
    return Preimages(found.x, found.residual, fine & ~jnp.any(near & earlier & fine, axis=1))


def _targets(network: Callable, y: Tree, size: int | None) -> tuple[jax.Array, int, Tree]:
    """y in the network's dtype, n, and the dtype."""
    y = _check.floating("y", y)
    if y.ndim not in (1, 2):
        raise ValueError(f"y: expected shape (m,) or (b, m), got {y.shape}")
    m = y.shape[-1]
    n = input_size(network, m) if size is None else size
    if n is None:
        raise ValueError("size: expected the number of inputs, as the network does not show it")
    types = [leaf.dtype for leaf in jax.tree.leaves(network) if hasattr(leaf, "dtype")]
    dtype = next((t for t in types if jnp.issubdtype(t, jnp.floating)), y.dtype)
    if dtype not in (jnp.float32, jnp.float64):
        raise TypeError(f"y: expected float32 or float64 to invert in, got {dtype}")
    try:
        shape = jax.eval_shape(network, jax.ShapeDtypeStruct((n,), dtype)).shape
    except jax.errors.JAXTypeError as error:
        raise TypeError("network: expected a function that JAX can trace") from error
    if shape != (m,):
        raise ValueError(f"y: expected shape {shape} from {n} inputs, got ({m},)")
    return y.astype(dtype), n, dtype


def _starts(
    start: Tree, layers: list[Layer] | None, factors: Tree, y: jax.Array, n: int, dtype: DTypeLike
) -> jax.Array:
    """Where to search from: what the user gave, else the pseudo-inverse's answer, else zero."""

    def one(y):
        if callable(start):
            return start(y)
        if layers is None:
            return jnp.zeros(n, dtype)
        x = layerwise.undo(layers, factors, y, True)[0]
        return jnp.where(jnp.all(jnp.isfinite(x)), x, 0)

    shape = (*y.shape[:-1], n)
    if start is None or callable(start):
        found = jax.vmap(one)(y) if y.ndim == 2 else one(y)
    else:
        found = jnp.broadcast_to(_check.floating("start", start), shape)
    if found.shape != shape:
        raise ValueError(f"start: expected shape {shape}, got {found.shape}")
    return jax.lax.stop_gradient(found.astype(dtype))


def _search(network, y, start, *, dtype, tolerance, first, limit, restarts, key) -> Inversion:
    """One y by search, with the derivative of the implicit function theorem attached."""
    unit = jnp.finfo(dtype).eps
    relative = 100 * unit if tolerance is None else tolerance
    n, m = start.shape[0], y.shape[0]
    traced = jax.make_jaxpr(network)(start)

    def residual(x, arguments):
        return jax.core.eval_jaxpr(traced.jaxpr, arguments[0], x)[0] - arguments[1]

    def equation(x, arguments):
        """What vanishes at the solution, with at most n entries."""
        if m <= n:
            return residual(x, arguments)
        r, pull = jax.vjp(lambda x: residual(x, arguments), x)
        return pull(r)[0]

    def solve(arguments):
        _, y, start, key = arguments

        def f(x):
            return residual(x, arguments)

        finite = jnp.all(jnp.isfinite(y))
        scale = jnp.where(finite, jnp.linalg.norm(y), 1)
        scale = jnp.where(scale == 0, 1, scale)
        goal = jnp.where(finite, relative * scale, jnp.inf)  # do not search for what is not finite
        found = newton.improve(f, newton.begin(f, start), goal, scale, first)
        if restarts:
            found = newton.restart(f, found, goal, scale, limit, restarts, key)
        error, free = newton.assess(f, found, unit / 12**0.5 * jnp.abs(y))
        size = jnp.linalg.norm(found.residual)
        finite = finite & jnp.isfinite(size)
        solved = size <= goal
        status = InversionStatus.first(
            NOT_FINITE=~finite,
            LEAST_SQUARES=~solved & (m > n) & found.stuck,
            NOT_CONVERGED=~solved,
            SINGULAR=free > max(n - m, 0),
            ILL_CONDITIONED=error > 0.1 * jnp.linalg.norm(found.x),
        )
        x = jnp.where(finite, found.x, jnp.nan)
        return x, Inversion(x, size, error, status, free, jnp.int32(-1), found.evaluations)

    # All that is traced goes in as an argument: the derivative is taken after the trace has ended.
    x, found = root(equation, solve, (traced.consts, y, start, key))
    return found.replace(x=x)
