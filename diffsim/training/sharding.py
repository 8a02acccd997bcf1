"""Several devices, of one process or more: rows divided over them, everything else on each."""

from collections.abc import Callable

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from diffsim._types import Tree

_AXIS = "rows"


def divided(f: Callable) -> Callable:
    """``f(shared, rows)`` → (means over rows, results of each row), done by all devices together.

    Every device runs ``f`` on its own share of rows, loops and all; only the results travel, and
    all devices get all of them. With one device it is ``f`` itself. Rows come out as they do there,
    means to rounding: they are summed in another order.

    Raises:
        ValueError: the devices cannot have equal shares.

    >>> import jax.numpy as jnp
    >>> mean, rows = divided(lambda s, x: (jnp.mean(s * x), x + 1))(2.0, jnp.arange(8.0))
    >>> mean.item(), rows.tolist()
    (7.0, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0])
    """
    count = jax.device_count()
    if count == 1:
        return f

    def share(shared, rows):
        means, each = f(shared, rows)
        return jax.lax.pmean(means, _AXIS), jax.lax.all_gather(each, _AXIS, tiled=True)

    def whole(shared, rows):
        total = len(jax.tree.leaves(rows)[0])
        if total % count:
            raise ValueError(f"batch: expected a multiple of the {count} devices, got {total}")
        return jax.shard_map(
            share,
            mesh=_mesh(),
            in_specs=(PartitionSpec(), PartitionSpec(_AXIS)),
            out_specs=PartitionSpec(),
            check_vma=False,  # what it checks is not declared by loops of single calls
        )(shared, rows)

    return whole


def averaged(f: Callable) -> Callable:
    """``f(shared, rows)``, a mean over rows, by :func:`divided`.

    >>> import jax.numpy as jnp
    >>> averaged(lambda scale, rows: jnp.mean(scale * rows))(2.0, jnp.arange(8.0)).item()
    7.0
    """
    whole = divided(lambda shared, rows: (f(shared, rows), ()))
    return lambda shared, rows: whole(shared, rows)[0]


def replicated(tree: Tree) -> Tree:
    """The arrays, the same in every process, on every device.

    Nothing is compared or sent: where processes differ, a checkpoint has what process 0 had.
    """
    if jax.device_count() == 1:
        return tree
    place = NamedSharding(_mesh(), PartitionSpec())

    def spread(leaf):
        if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            data = spread(jax.random.key_data(leaf))
            return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))
        value = np.asarray(leaf)
        return jax.make_array_from_callback(value.shape, place, lambda index: value[index])

    return jax.tree.map(spread, tree)


def local(tree: Tree) -> Tree:
    """This process's copy, on one device, of arrays that are on every device."""
    if jax.device_count() == 1:
        return tree
    return jax.tree.map(lambda leaf: leaf.addressable_data(0), tree)


def _mesh() -> Mesh:
    return Mesh(np.array(jax.devices()), (_AXIS,))
