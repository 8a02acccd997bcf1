"""Trees of floats as one flat vector, and back."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from diffsim._types import Tree

Unravel = Callable[[jax.Array], Tree]


def flatten(name: str, tree: Tree) -> tuple[jax.Array, Unravel]:
    """A tree's leaves as one vector of their widest float type, and the way back.

    The way back keeps complex vectors complex, so that a complex step can pass through it.

    Raises:
        TypeError: a leaf is not of a floating type, or there are no leaves.

    >>> vector, unravel = flatten("x", {"a": jnp.ones(2), "b": jnp.zeros(())})
    >>> vector.shape, unravel(2 * vector)["a"].tolist()
    ((3,), [2.0, 2.0])
    """
    paths, structure = jax.tree_util.tree_flatten_with_path(tree)
    leaves = [jnp.asarray(leaf) for _, leaf in paths]
    for (path, _), leaf in zip(paths, leaves):
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            where = name + jax.tree_util.keystr(path)
            raise TypeError(f"{where}: expected a floating dtype, got {leaf.dtype}")
    if not leaves:
        raise TypeError(f"{name}: expected a tree with at least one floating leaf, got {tree!r}")
    dtype = max((leaf.dtype for leaf in leaves), key=lambda kind: jnp.finfo(kind).bits)
    shapes = [leaf.shape for leaf in leaves]
    types = [leaf.dtype for leaf in leaves]
    vector = jnp.concatenate([leaf.ravel().astype(dtype) for leaf in leaves])

    def unravel(flat: jax.Array) -> Tree:
        parts, start = [], 0
        for shape, kind in zip(shapes, types):
            part = flat[start : start + math.prod(shape)].reshape(shape)
            parts.append(part if jnp.iscomplexobj(part) else part.astype(kind))
            start += math.prod(shape)
        return jax.tree.unflatten(structure, parts)

    return vector, unravel
