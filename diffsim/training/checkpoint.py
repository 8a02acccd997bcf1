"""Checkpoints of everything a run needs to go on: parameters, optimiser, key and step."""

from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp


class Checkpoints:
    """Numbered checkpoints in a folder, each written whole or not at all.

    Args:
        folder: made if it is missing.
        keep: how many of the latest to keep.
    """

    def __init__(self, folder: Path, keep: int = 3):
        options = ocp.CheckpointManagerOptions(max_to_keep=keep, enable_async_checkpointing=False)
        self._manager = ocp.CheckpointManager(Path(folder).absolute(), options=options)

    def save(self, step: int, state: Any) -> None:
        """Write ``state`` as step ``step``; a step already there is left as it is."""
        if step not in self._manager.all_steps():
            self._manager.save(step, args=ocp.args.StandardSave(_plain(state)))

    def restore(self, like: Any) -> Any:
        """The latest state, with the structure, shapes and dtypes of ``like``.

        Raises:
            FileNotFoundError: there is no checkpoint.
        """
        step = self._manager.latest_step()
        if step is None:
            raise FileNotFoundError(f"no checkpoint in {self._manager.directory}")
        template = jax.tree.map(ocp.utils.to_shape_dtype_struct, _plain(like))
        saved = self._manager.restore(step, args=ocp.args.StandardRestore(template))
        leaves = [
            jax.random.wrap_key_data(new, impl=jax.random.key_impl(old))
            if jax.dtypes.issubdtype(old.dtype, jax.dtypes.prng_key) else new
            for old, new in zip(jax.tree.leaves(like), jax.tree.leaves(saved), strict=True)
        ]  # fmt: skip
        return jax.tree.unflatten(jax.tree.structure(like), leaves)


def _plain(tree: Any) -> dict[str, Any]:
    """The leaves by number, random keys as their data: no class of ours in the file."""
    leaves = [
        jax.random.key_data(leaf) if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        else leaf
        for leaf in jax.tree.leaves(tree)
    ]  # fmt: skip
    return {f"{i:04d}": leaf for i, leaf in enumerate(leaves)}
