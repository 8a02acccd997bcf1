"""What a simulator may return, and what its errors are told about the input that caused them."""

import jax
import numpy as np

from diffsim._types import Tree


def describe(arguments: Tree) -> str:
    """The input of one call, shortened where it is long."""
    with np.printoptions(threshold=40, edgeitems=4, precision=8):
        return ", ".join(repr(argument) for argument in arguments)


def checked(result: Tree, output: Tree, lead: tuple[int, ...] = ()) -> Tree:
    """The result as NumPy arrays of the shapes and types of ``output``, after ``lead``.

    A Python number takes the type expected; without an ``output`` any real numbers will do.

    Raises:
        TypeError: another structure or type.
        ValueError: another shape, or a number that the type has no room for.
    """
    try:
        jax.tree.map(lambda *_: None, output, result)
    except (ValueError, TypeError) as error:
        raise TypeError(f"simulator: expected a result like {output}, got {result!r}") from error

    def leaf(path, expected, value):
        return _leaf("simulator" + jax.tree_util.keystr(path), value, expected, lead)

    return jax.tree_util.tree_map_with_path(leaf, output, result)


def _leaf(name: str, value: Tree, expected: Tree, lead: tuple[int, ...]) -> np.ndarray:
    try:
        array = np.asarray(value)
    except ValueError as error:  # rows of different lengths
        raise ValueError(f"{name}: expected an array, got {value!r}") from error
    shape = (*lead, *expected.shape)
    weak = type(value) in (bool, int, float)
    if expected.dtype is None:
        if array.dtype.kind not in "fiu":
            raise TypeError(f"{name}: expected a real number, got {array.dtype} ({value!r:.80})")
    elif weak and np.can_cast(array.dtype, expected.dtype, "same_kind"):
        with np.errstate(over="ignore"):
            cast = array.astype(expected.dtype)
        whole = cast.dtype.kind in "iu"
        if cast != array if whole else np.isfinite(cast) != np.isfinite(array):
            raise ValueError(f"{name}: expected a number in {cast.dtype}, got {value!r}")
        array = cast
    elif array.dtype != expected.dtype:
        raise TypeError(f"{name}: expected dtype {expected.dtype}, got {array.dtype}")
    if array.shape != shape:
        raise ValueError(f"{name}: expected shape {shape}, got {array.shape}")
    return array


class Real:
    """The default output: one real number of any type."""

    shape: tuple[int, ...] = ()
    dtype = None

    def __repr__(self) -> str:
        return "a real number"


def real(name: str, value: object) -> float:
    """The value as a float; TypeError or ValueError where it is not one real number."""
    return float(_leaf(name, value, Real(), ()))
