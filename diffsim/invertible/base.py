"""The contract of an invertible layer, and what it inherits: checks, log-determinant, condition."""

import functools
from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from diffsim import _check, _linalg
from diffsim._types import ArrayLike, Tree


def parameter(name: str, value: ArrayLike, shape: tuple[int | str, ...]) -> nnx.Param:
    """``value`` as a trainable array, checked for shape and, where concrete, finite.

    Args:
        name: for the error.
        value: array-like.
        shape: as expected; a word stands for any length of that axis.

    Raises:
        ValueError: another shape, or entries that are not finite.
    """
    array = _check.floating(name, value)
    same = (isinstance(want, str) or want == got for want, got in zip(shape, array.shape))
    if array.ndim != len(shape) or not all(same):
        wanted = ", ".join(str(want) for want in shape) + "," * (len(shape) == 1)
        raise ValueError(f"{name}: expected shape ({wanted}), got {array.shape}")
    return nnx.Param(_check.in_range(name, array))


def square(name: str, value: ArrayLike, ndim: int = 2) -> nnx.Param:
    """A parameter whose last two axes are equal.

    Raises:
        ValueError: another shape, or entries that are not finite.
    """
    array = _check.floating(name, value)
    if array.ndim != ndim or array.shape[-1] != array.shape[-2]:
        raise ValueError(f"{name}: expected a square matrix (n, n), got shape {array.shape}")
    return parameter(name, array, array.shape)


def normal(rngs: nnx.Rngs, shape: tuple[int, ...], dtype: DTypeLike | None = None) -> jax.Array:
    """Standard normal numbers from the stream ``params``."""
    return jax.random.normal(rngs.params(), shape, dtype or jnp.result_type(float))


def reciprocal(values: jax.Array, floor: jax.Array | float = 0.0) -> jax.Array:
    """1 / values; NaN where |values| ≤ floor, as a singular layer has no inverse."""
    fine = jnp.abs(values) > floor
    return jnp.where(fine, 1 / jnp.where(fine, values, 1), jnp.nan)


def refined(matrix: jax.Array, found: jax.Array) -> jax.Array:
    """X ← X + (I − XA)X: one step towards A⁻¹ of one matrix or a stack.

    What X y loses is (I − XA) x. The same step from the right, X(I − AX), leaves u κ² of that.

    Source: Higham, Accuracy and stability of numerical algorithms, 2nd ed., sections 14.1, 14.5.
    """
    return found + (jnp.eye(matrix.shape[-1], dtype=matrix.dtype) - found @ matrix) @ found


def matrix_inverse(matrix: jax.Array) -> jax.Array:
    """A⁻¹ of one matrix or a stack, as accurate in A⁻¹y as a solve; NaN where singular.

    Singular is ‖|A⁻¹||A|‖∞ u ≥ 1: no digit of a solution would be right (Skeel's condition number:
    the scale of a row does not matter, as it does not for elimination).
    """
    if matrix.shape[-1] == 1:
        return reciprocal(matrix)
    unit = jnp.finfo(matrix.dtype).eps
    found = refined(matrix, _linalg.inv(matrix))

    condition = jnp.max(jnp.sum(jnp.abs(found) @ jnp.abs(matrix), axis=-1), axis=-1)
    fine = condition * unit < 1  # False for NaN
    return jnp.where(fine[..., None, None], found, jnp.nan)


def largest_gain(f: Callable, x: jax.Array, iterations: int = 60) -> jax.Array:
    """‖J‖₂ of f at x by power iteration on JᵀJ: from below, within a few per cent."""
    push = jax.linearize(f, x)[1]
    pull = jax.linear_transpose(push, x)

    def body(_, state):
        v, _ = state
        w = push(v)
        back = pull(w)[0]
        return back / jnp.linalg.norm(back), jnp.linalg.norm(w)

    v = jax.random.normal(jax.random.key(0), x.shape, x.dtype)
    v = v / jnp.linalg.norm(v)
    return jax.lax.fori_loop(0, iterations, body, (v, jnp.zeros((), x.dtype)))[1]


_HIGHEST = jax.default_matmul_precision("highest")


def _at_x(method: Callable) -> Callable:
    """The method of one x, of full precision and with its input checked."""

    @functools.wraps(method)
    def run(self, x):
        return _HIGHEST(method)(self, self._vector("x", x, self.size))

    return run


def _at_y(method: Callable) -> Callable:
    """The same of one y, with the factor made where none is given."""

    @functools.wraps(method)
    def run(self, y, factor=None):
        y = self._vector("y", y, self.outputs or self.size)
        return _HIGHEST(method)(self, y, self.factor() if factor is None else factor)

    return run


_WRAPPERS = {
    "forward": _at_x,
    "log_det": _at_x,
    "forward_and_log_det": _at_x,
    "inverse": _at_y,
    "inverse_and_log_det": _at_y,
    "factor": _HIGHEST,
    "log_abs_det": _HIGHEST,
    "condition": _HIGHEST,
}


class Layer(nnx.Module):
    """y = f(x) with an inverse; for one vector, so ``jax.vmap`` it for a batch.

    To add one: subclass with ``forward``, ``inverse`` and ``log_det``, and a line in the
    constructor table, from which it inherits its tests; ``forward_and_log_det`` and
    ``inverse_and_log_det`` where they share work (:class:`Joint`). What the inverse needs beyond
    the weights is ``factor()``, made once and passed to every ``inverse``. Whoever calls them,
    these methods are given a checked vector (and a factor), and their products are at full
    precision on every backend, whatever JAX's default.

    Attributes:
        size: length of x, int; None where any will do.
        outputs: length of y, int; None where it is that of x.
        structured: whether time and memory stay near linear in size.
    """

    structured: ClassVar[bool] = False
    size: int | None = None
    outputs: int | None = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name in _WRAPPERS.keys() & vars(cls).keys():
            setattr(cls, name, _WRAPPERS[name](vars(cls)[name]))

    def __call__(self, x: jax.Array) -> jax.Array:
        """y of one x, both (size,)."""
        return self.forward(x)

    def forward(self, x: jax.Array) -> jax.Array:
        """y of one x, both (size,)."""
        raise NotImplementedError

    def inverse(self, y: jax.Array, factor: Tree = None) -> jax.Array:
        """x of one y, both (size,); NaN where there is none. ``factor`` as from ``factor()``."""
        raise NotImplementedError

    def log_det(self, x: jax.Array) -> jax.Array:
        """log |det ∂y/∂x| at x, (); −inf where the layer is singular."""
        raise NotImplementedError

    def forward_and_log_det(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """y and log |det ∂y/∂x| at x, with what both need done once."""
        return self.forward(x), self.log_det(x)

    def inverse_and_log_det(self, y: jax.Array, factor: Tree = None) -> tuple[jax.Array, jax.Array]:
        """x and log |det ∂x/∂y| at y, the latter minus ``log_det(x)``, with what both need once."""
        x = self.inverse(y, factor)
        return x, -self.log_det(x)

    def factor(self) -> Tree:
        """What the inverse needs and can be kept: a pytree, empty for most layers."""
        return ()

    def condition(self, x: jax.Array | None = None) -> jax.Array:
        """κ = ‖J‖₂‖J⁻¹‖₂ of the Jacobian at x, by power iteration unless a layer knows better.

        Infinite where the layer is singular.

        Args:
            x: where, (size,); a linear layer needs none.
        """
        x = self._somewhere() if x is None else self._vector("x", x, self.size)
        factor = self.factor()
        back = largest_gain(lambda y: self.inverse(y, factor), self(x))
        product = largest_gain(self.forward, x) * back
        return jnp.where(jnp.isnan(product), jnp.inf, product)

    def _vector(self, name: str, value: jax.Array, size: int | None) -> jax.Array:
        array = _check.floating(name, value)
        if array.ndim != 1 or size not in (None, array.shape[0]):
            expected = "(n,)" if size is None else f"({size},)"
            raise ValueError(
                f"{name}: {type(self).__name__} expected shape {expected}, got {array.shape}; "
                "vmap over a batch"
            )
        return array

    def _somewhere(self) -> jax.Array:
        if self.size is None:
            raise ValueError(f"x: {type(self).__name__} has no size, expected a point")
        types = [leaf.dtype for leaf in jax.tree.leaves(self)]
        floats = [dtype for dtype in types if jnp.issubdtype(dtype, jnp.floating)]
        return jnp.zeros(self.size, floats[0] if floats else None)


class Joint(Layer):
    """A layer whose value and log-determinant are one computation: it writes just the pairs."""

    def forward(self, x: jax.Array) -> jax.Array:
        return self.forward_and_log_det(x)[0]

    def inverse(self, y: jax.Array, factor: Tree = None) -> jax.Array:
        return self.inverse_and_log_det(y)[0]

    def log_det(self, x: jax.Array) -> jax.Array:
        return self.forward_and_log_det(x)[1]


class Linear(Layer):
    """y = A x: a layer whose determinant does not depend on x."""

    def log_det(self, x: jax.Array) -> jax.Array:
        return self.log_abs_det()

    def log_abs_det(self) -> jax.Array:
        """log |det A|, ()."""
        raise NotImplementedError

    def matrix(self) -> jax.Array:
        """A, (size, size): for looking at small ones."""
        return jax.vmap(self.forward, out_axes=1)(jnp.eye(self.size, dtype=self._somewhere().dtype))


class Orthogonal(Linear):
    """y = Q x with QᵀQ = I: the inverse is the transpose, κ = 1."""

    def log_det(self, x: jax.Array) -> jax.Array:
        return jnp.zeros((), x.dtype)

    def log_abs_det(self) -> jax.Array:
        return jnp.zeros((), self._somewhere().dtype)

    def condition(self, x: jax.Array | None = None) -> jax.Array:
        return jnp.ones((), (self._somewhere() if x is None else x).dtype)
