"""Several devices and processes: serves divided over all of them, everything else on each."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

_AXIS = "serves"


class ProcessLostError(RuntimeError):
    """Another process of the run has gone, or cannot be reached."""


def connect(
    coordinator: str | None, processes: int | None, process: int | None, patience: int = 100
) -> None:
    """Join the other processes of a run; before anything is computed. Nothing without any.

    Args:
        coordinator: host:port of process 0, the same in all processes; "auto" takes all that is
            not given from the environment (Slurm, Open MPI, Kubernetes, TPU).
        processes: how many there are.
        process: which one this is, from 0.
        patience: s without a sign of life after which a process is taken for dead.

    >>> connect(None, None, None)
    """
    if coordinator is None:
        return
    jax.distributed.initialize(
        None if coordinator == "auto" else coordinator, processes, process,
        heartbeat_timeout_seconds=patience, shutdown_timeout_seconds=patience,
    )  # fmt: skip
    # Processes find each other for the first exchange within 30 s or not at all: before they
    # compile, which takes some longer than others.
    multihost_utils.sync_global_devices("connected")


def first() -> bool:
    """Whether this is process 0, the one that writes and prints."""
    return jax.process_index() == 0


@contextmanager
def together() -> Iterator[None]:
    """What all processes do together: where it fails, one of the others has gone or failed.

    Raises:
        ProcessLostError: that, instead of the error of the exchange that failed.
    """
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if jax.process_count() == 1:
            raise
        raise ProcessLostError(
            f"process {jax.process_index()} of {jax.process_count()}: another one has gone or "
            f"failed; start all again with --resume ({error})"
        ) from error


def averaged(f: Callable) -> Callable:
    """``f(shared, rows)``, a mean over rows, as the mean over all devices of their share of rows.

    Every device runs ``f`` on its own rows, loops and all; only the results travel. With one
    device it is ``f`` itself. The mean is that of one device to rounding: it is summed in
    another order.

    Raises:
        ValueError: the devices cannot have equal shares.

    >>> import jax.numpy as jnp
    >>> averaged(lambda scale, rows: jnp.mean(scale * rows))(2.0, jnp.arange(8.0)).item()
    7.0
    """
    count = jax.device_count()
    if count == 1:
        return f

    def divided(shared, rows):
        total = len(jax.tree.leaves(rows)[0])
        if total % count:
            raise ValueError(f"batch: expected a multiple of the {count} devices, got {total}")
        return jax.shard_map(
            lambda shared, rows: jax.lax.pmean(f(shared, rows), _AXIS),
            mesh=_mesh(),
            in_specs=(PartitionSpec(), PartitionSpec(_AXIS)),
            out_specs=PartitionSpec(),
            check_vma=False,  # what it checks is not declared by loops of single calls
        )(shared, rows)

    return divided


def replicated(tree: Any) -> Any:
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


def local(tree: Any) -> Any:
    """This process's copy, on one device, of arrays that are on every device."""
    if jax.device_count() == 1:
        return tree
    return jax.tree.map(lambda leaf: leaf.addressable_data(0), tree)


def _mesh() -> Mesh:
    return Mesh(np.array(jax.devices()), (_AXIS,))
