"""Checkpoints of everything a run needs to go on: parameters, optimiser, key and step."""

import hashlib
import logging
import os
import re
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import jax
import orbax.checkpoint as ocp

from diffsim._files import replacing
from diffsim._text import short
from diffsim._types import Tree
from diffsim.training import processes


class Checkpoints:
    """Numbered checkpoints in a folder, each written whole or not at all, with a checksum.

    Args:
        folder: made by the first :meth:`save`.
        keep: how many of the latest to keep, 2 or more, so that one is whole at any moment.

    Raises:
        ValueError: fewer.
    """

    def __init__(self, folder: Path, keep: int = 3):
        if keep < 2:
            raise ValueError(f"keep: expected >= 2, got {keep}")
        self.folder, self._keep = Path(folder).absolute(), keep
        self._damaged: dict[int, str] = {}  # step → why
        self._manager: ocp.CheckpointManager | None = None

    def steps(self) -> list[int]:
        """Those complete and not found damaged, in order; no other folder counts."""
        found = self.folder.iterdir() if self.folder.is_dir() else ()
        whole = [int(p.name) for p in found if _numbered(p) and (p / _SUM).is_file()]
        return sorted(step for step in whole if step not in self._damaged)

    def save(self, step: int, state: Tree) -> None:
        """Write ``state`` as step ``step``; a whole step already there is left as it is.

        Raises:
            OSError: it cannot be written.
        """
        if step in self.steps():
            return
        folder, plain = self.folder / str(step), _plain(state)
        try:
            if processes.first():
                _reserve(self.folder, plain)
            if self._manager is None:
                self._manager = self._writing()
            with _quiet():
                self._manager.save(step, args=ocp.args.StandardSave(plain))
            if processes.first():
                with replacing(folder / _SUM) as temporary:
                    temporary.write_text(_checksum(folder))
        except Exception as error:
            if jax.process_count() > 1 and not isinstance(error, OSError):
                raise  # another process may have gone, which is told apart by the error
            raise OSError(f"{folder}: expected to write a checkpoint, {_reason(error)}") from error

    def restore(self, like: Tree) -> Tree:
        """The latest whole state, with the structure, shapes and dtypes of ``like``.

        Warns of later ones that are damaged; they are moved aside by the next :meth:`save`.

        Raises:
            FileNotFoundError: there is no checkpoint.
            ValueError: none of them is whole.
        """
        steps = self.steps()
        if not steps:
            raise FileNotFoundError(f"no checkpoint in {self.folder}")
        saved = None
        while saved is None and steps:
            step = steps.pop()
            try:
                saved = self._read(step, _plain(like))
            except Exception as error:
                self._damaged[step] = _reason(error)
        why = "; ".join(f"{step}: {reason}" for step, reason in self._damaged.items())
        if saved is None:
            raise ValueError(f"{self.folder}: expected a whole checkpoint, got damaged ones: {why}")
        if self._damaged:
            warnings.warn(
                f"{self.folder}: going on from checkpoint {step}, as later ones are damaged: {why}",
                stacklevel=2,
            )
        leaves = [
            jax.random.wrap_key_data(new, impl=jax.random.key_impl(old))
            if jax.dtypes.issubdtype(old.dtype, jax.dtypes.prng_key)
            else new
            for old, new in zip(jax.tree.leaves(like), jax.tree.leaves(saved), strict=True)
        ]
        return jax.tree.unflatten(jax.tree.structure(like), leaves)

    def _read(self, step: int, like: dict[str, Tree]) -> dict[str, Tree]:
        folder = self.folder / str(step)
        if (folder / _SUM).read_text(errors="replace") != _checksum(folder):
            raise ValueError("its files are not those that were written")
        template = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        with _quiet(), ocp.StandardCheckpointer() as reader:
            return reader.restore(folder / "default", template)

    def _writing(self) -> ocp.CheckpointManager:
        """What writes, once numbered folders that are no whole checkpoints are out of its way."""
        if processes.first() and self.folder.is_dir():
            whole = self.steps()
            for path in filter(_numbered, list(self.folder.iterdir())):
                if int(path.name) not in whole:
                    aside = path.with_name(f"damaged-{path.name}")
                    shutil.rmtree(aside, ignore_errors=True)
                    path.rename(aside)
        processes.meet()
        options = ocp.CheckpointManagerOptions(
            max_to_keep=self._keep, enable_async_checkpointing=False, cleanup_tmp_directories=True
        )
        return ocp.CheckpointManager(self.folder, options=options)


_SUM = "sha256"  # written last: without it a checkpoint is not complete
_BESIDE = 2**17  # bytes of its other files, each of whole blocks


def _numbered(path: Path) -> bool:
    return path.name.isascii() and path.name.isdigit() and path.is_dir()


def _plain(tree: Tree) -> dict[str, Tree]:
    """The leaves by number, random keys as their data: no class of ours in the file."""
    leaves = [
        jax.random.key_data(leaf)
        if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        else leaf
        for leaf in jax.tree.leaves(tree)
    ]
    return {f"{i:04d}": leaf for i, leaf in enumerate(leaves)}


def _checksum(folder: Path) -> str:
    """Of all files; those that the library puts into some of them leave out large arrays."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path != folder / _SUM and not path.name.startswith("."):
            content = path.read_bytes()
            digest.update(f"{path.relative_to(folder)} {len(content)} ".encode() + content)
    return digest.hexdigest()


def _reserve(folder: Path, plain: dict[str, Tree]) -> None:
    """Raise OSError if there is no room: of a full disk the library's threads print pages."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(bytes(_BESIDE + sum(leaf.nbytes for leaf in plain.values())))
        file.flush()


@contextmanager
def _quiet() -> Iterator[None]:
    """The library logs what it raises; errors here are told once."""
    logger = logging.getLogger("absl")
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


def _reason(error: Exception) -> str:
    if code := re.search(r"os_error_code='(\d+)'", str(error)):  # far behind in a long text
        error = OSError(int(code[1]), os.strerror(int(code[1])))
    return f"{type(error).__name__}: {short(error, 160)}"
