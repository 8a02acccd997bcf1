"""Records on one line, and as small tables where a notebook shows them."""

from collections import Counter
from collections.abc import Iterable, Sequence
from enum import IntEnum
from html import escape
from typing import Any

import jax
import numpy as np

from diffsim._types import ArrayLike, Tree


def concrete(*trees: Tree) -> bool:
    """Whether every leaf is an array of known numbers: none is traced, or only a shape.

    >>> concrete(np.zeros(2)), concrete((2,))
    (True, False)
    """
    leaves = [leaf for tree in trees for leaf in jax.tree.leaves(tree, is_leaf=_shape)]
    return all(
        isinstance(leaf, np.ndarray | np.generic | jax.Array | float | int | complex)
        and not isinstance(leaf, jax.core.Tracer)
        for leaf in leaves
    )


def _shape(value: object) -> bool:
    return isinstance(value, tuple) and any(isinstance(size, int) for size in value)


def brief(value: Tree) -> str:
    """Up to six numbers as they are; of more, or of traced ones, type and shape; of trees, types.

    >>> brief(np.float32(0.25)), brief(np.zeros((2, 3))), brief({"a": np.zeros(2)})
    ('0.25', 'float64[2,3]', 'dict of 1 array, 2 numbers')
    """
    if isinstance(value, str) or value is None:
        return str(value)
    leaves = jax.tree.leaves(value)
    if not jax.tree_util.all_leaves([value]):
        count, size = len(leaves), sum(np.size(leaf) for leaf in leaves)
        return f"{type(value).__name__} of {count} array{'s' * (count != 1)}, {size} numbers"
    if concrete(value) and np.size(value) <= 6 and np.ndim(value) < 2:
        numbers = [f"{x:.4g}" for x in np.ravel(np.asarray(value)).tolist()]
        return numbers[0] if np.ndim(value) == 0 else f"[{', '.join(numbers)}]"
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return f"{value.dtype}[{','.join(map(str, value.shape))}]"
    return type(value).__name__


def record(name: str, **fields: Tree) -> str:
    """A record on one line.

    >>> record("Integral", value=np.float32(12.566), degree=7)
    'Integral(value=12.57, degree=7)'
    """
    return f"{name}({', '.join(f'{key}={brief(value)}' for key, value in fields.items())})"


def counts(kinds: type[IntEnum], values: ArrayLike) -> str:
    """Names of statuses, with how many there are of each where there are several."""
    found = Counter(kinds(int(value)).name for value in np.ravel(np.asarray(values)))
    if np.ndim(values) == 0:
        return next(iter(found))
    return ", ".join(f"{count} {name}" for name, count in found.most_common())


def html_table(caption: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A small table of what :func:`brief` says of each cell.

    >>> html_table("echoes", ["s"], [[1e-9]])
    '<table><caption>echoes</caption><tr><th>s</th></tr><tr><td>1e-09</td></tr></table>'
    """
    lines = [("th", columns), *(("td", row) for row in rows)]
    body = "".join(
        f"<tr>{''.join(f'<{tag}>{escape(brief(cell))}</{tag}>' for cell in cells)}</tr>"
        for tag, cells in lines
    )
    return f"<table><caption>{escape(caption)}</caption>{body}</table>"
