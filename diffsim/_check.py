"""Argument checks: one-line errors that name what was expected and what came."""

from collections.abc import Collection, Mapping
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from diffsim._text import short
from diffsim._types import ArrayLike

Entry = TypeVar("Entry")


def floating(name: str, value: ArrayLike, shape: tuple[int, ...] | None = None) -> jax.Array:
    """Return ``value`` as a floating array, checked for dtype and (if given) shape at trace time.

    Args:
        name: what to call the argument in the error.
        value: array-like; integers and Python numbers become the default float type.
        shape: the expected shape, or None for any.

    Raises:
        TypeError: the value is complex, boolean, a string or another non-real thing.
        ValueError: the shape differs from the one expected.
    """
    try:
        array = jnp.asarray(value)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name}: expected real numbers, got {value!r}") from error
    if jnp.issubdtype(array.dtype, jnp.integer):
        array = array.astype(jnp.result_type(float))
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise TypeError(f"{name}: expected a floating dtype, got {array.dtype}")
    if shape is not None and array.shape != shape:
        raise ValueError(f"{name}: expected shape {shape}, got {array.shape}")
    return array


def in_range(
    name: str,
    value: ArrayLike,
    low: float = -np.inf,
    high: float = np.inf,
    *,
    open_low: bool = False,
) -> jax.Array:
    """Return ``value`` as a floating array; where it is concrete, check it is finite and in range.

    Traced values pass: their range is not known at trace time.

    Raises:
        ValueError: a concrete entry is not finite, or outside [low, high] ((low, high] if
            ``open_low``).
    """
    array = floating(name, value)
    if isinstance(array, jax.core.Tracer) and not isinstance(value, int | float | np.ndarray):
        return array
    # Inside a trace a plain number becomes a tracer, though it is known.
    concrete = np.asarray(value if isinstance(array, jax.core.Tracer) else array, array.dtype)
    too_low = concrete <= low if open_low else concrete < low
    if not np.all(np.isfinite(concrete)):
        got = _those(concrete, ~np.isfinite(concrete))
        raise ValueError(f"{name}: expected finite numbers, got {got}")
    outside = too_low | (concrete > high)
    if np.any(outside):
        bracket = "(" if open_low else "["
        got = _those(concrete, outside)
        raise ValueError(f"{name}: expected in {bracket}{low:g}, {high:g}], got {got}")
    return array


def ends(
    name: str,
    value: ArrayLike,
    shape: tuple[int, ...] = (2,),
    low: float = -np.inf,
    *,
    apart: bool = False,
) -> jax.Array:
    """Return lowest and highest values, finite and from ``low`` on, in this order.

    Raises:
        ValueError: a wrong shape, an entry out of range, a lower end above its upper end (or at
            it, if they are to be ``apart``).
    """
    array = in_range(name, floating(name, value, shape), low)
    low_end, high_end = np.asarray(array)
    if np.any(low_end >= high_end if apart else low_end > high_end):
        got = np.round(np.asarray(array, float), 6).tolist()
        raise ValueError(f"{name}: expected the lower end first, got {got}")
    return array


def _those(values: np.ndarray, wrong: np.ndarray) -> str:
    """The values, or of many only how many are wrong and where they begin."""
    if values.size <= 20:
        return str(values.tolist())
    first = tuple(np.argwhere(wrong)[0].tolist())
    return f"{np.sum(wrong)} that are not, the first {values[first]} at {first}"


def direction(name: str, value: ArrayLike) -> jax.Array:
    """Return ``value`` as a (3,) vector that is finite and, where concrete, not zero.

    Raises:
        ValueError: a wrong shape, a non-finite entry or the zero vector.
    """
    vector = in_range(name, floating(name, value, (3,)))
    if not isinstance(vector, jax.core.Tracer) and not np.any(np.asarray(vector)):
        raise ValueError(f"{name}: expected a direction, got the zero vector")
    return vector


def one_of(name: str, value: object, allowed: Collection[str]) -> None:
    """Raise ValueError for a value that is not among those allowed."""
    if value not in allowed:
        raise ValueError(f"{name}: expected one of {', '.join(allowed)}, got {short(repr(value))}")


def named(what: str, name: str, table: Mapping[str, Entry]) -> Entry:
    """What a table holds under a name.

    Raises:
        ValueError: there is none; the message gives the names that there are.
    """
    one_of(what, name, table)
    return table[name]
