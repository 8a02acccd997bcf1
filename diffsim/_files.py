"""Files that appear whole or not at all."""

import csv
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from diffsim._text import short

FIGURES = (".png", ".pdf", ".svg", ".jpg")


def checked(path: str | os.PathLike, suffixes: tuple[str, ...]) -> Path:
    """Return ``path`` as a Path whose suffix is one of ``suffixes``.

    Raises:
        ValueError: another suffix.

    >>> checked("out/rally.PNG", (".png", ".pdf")).name
    'rally.PNG'
    >>> checked("rally.bmp", (".png", ".pdf"))
    Traceback (most recent call last):
    ...
    ValueError: path: expected a name ending in .png or .pdf, got 'rally.bmp'
    """
    path = Path(path)
    if path.suffix.lower() not in suffixes:
        wanted = " or ".join(suffixes)
        raise ValueError(f"path: expected a name ending in {wanted}, got {path.name!r}")
    return path


def figure_path(path: str | os.PathLike) -> Path:
    """Return ``path`` if a figure can be written there, which is known before it is drawn.

    Raises:
        ValueError: the ending is of no picture.
        OSError: it cannot be written.
    """
    return writable(checked(path, FIGURES))


def folder(path: Path) -> Path:
    """Return ``path`` if it is, or can be made, a folder.

    Raises:
        NotADirectoryError: it or a part of it is a file.
    """
    for part in (path, *path.parents):
        if part.exists() and not part.is_dir():
            raise NotADirectoryError(f"{path}: expected a folder, got a file {part}")
    return path


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """An OSError that names no file, as of a write to a full disk, names ``path``."""
    try:
        yield
    except OSError as error:
        if error.errno and not error.filename:
            error.filename = str(path)
        raise


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary name beside ``path``, renamed to it at the end and deleted on an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        with naming(path):
            yield temporary
            os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def writable(path: Path) -> Path:
    """Return ``path`` if such a file can be written, without changing one that is there.

    Raises:
        OSError: it cannot; the message names it.
    """
    folder(path.parent)
    try:
        if path.is_dir():
            raise IsADirectoryError(None, "Is a directory")
        with replacing(path.with_name(f".{path.name[:100]}.probe")) as temporary:
            temporary.touch()
        path.with_name(f".{path.name[:100]}.probe").unlink()
        return path
    except OSError as error:
        raise type(error)(f"{path}: cannot be written: {error.strerror}") from error


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        OSError: the file cannot be read.
        ValueError: it holds something else; one line says what.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: expected JSON, got {short(error)}") from None
    if not isinstance(data, dict):
        raise ValueError(f"{path}: expected an object, got {short(repr(data))}")
    return data


def read_array(path: Path, kinds: str = "fiubc") -> np.ndarray:
    """The array in a ``.npy`` file, whose numbers are of one of NumPy's ``kinds``.

    Raises:
        OSError: the file cannot be read.
        ValueError: it holds something else, or less than its header says.
    """
    with open(path, "rb") as file:
        try:
            array = np.lib.format.read_array(file, allow_pickle=False)
        except Exception as error:  # its header is Python, and fails in every way that Python does
            raise ValueError(f"expected a .npy array, got {short(error)}") from None
    if array.dtype.kind not in kinds:
        raise ValueError(f"expected numbers, got {short(array.dtype)} {array.shape}")
    return array


def new_figure(width: float, height: float, dpi: float | None = None) -> Any:
    """A Matplotlib figure of so many inches, drawn without a screen."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure((width, height), dpi=dpi, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save_figure(figure: Any, path: str | os.PathLike, **options: Any) -> Path:
    """Write a Matplotlib figure, as PNG unless the name says otherwise."""
    path = Path(path)
    with replacing(path) as temporary:
        figure.savefig(temporary, format=path.suffix[1:] or "png", **options)
    return path


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows with equal keys as CSV."""
    with replacing(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
