"""What is written down while training: a CSV file and TensorBoard events, row by row."""

import csv
import math
import warnings
from pathlib import Path
from types import TracebackType

from diffsim._files import naming, replacing
from diffsim._text import short


class MetricsWriter:
    """Appends rows to ``metrics.csv`` and to TensorBoard files in a folder.

    Args:
        folder: made if it is missing.
        first_step: rows already in the file from this step on are dropped, so that a resumed run
            goes on where its checkpoint was.
    """

    def __init__(self, folder: Path, first_step: int = 0):
        from tensorboardX import SummaryWriter

        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / "metrics.csv"
        # A run that starts anew has no use for what was there, whatever that is.
        self.rows = [r for r in read(self.path) if r["step"] < first_step] if first_step else []
        with replacing(self.path) as temporary, temporary.open("w", newline="") as file:
            _write(file, self.rows, header=True)
        self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=first_step)

    def write(self, row: dict[str, float]) -> None:
        """One row; its ``step`` is the x axis.

        Raises:
            ValueError: its columns are not those of the rows before.
        """
        if self.rows and row.keys() != self.rows[0].keys():
            raise ValueError(
                f"{self.path}: expected the columns {', '.join(self.rows[0])}, got {', '.join(row)}"
            )
        row = {name: row[name] for name in (self.rows or [row])[0]}  # in the file's order
        with naming(self.path), self.path.open("a", newline="") as file:
            _write(file, [row], header=not self.rows)
        self.rows.append(row)
        for name, value in row.items():
            if name != "step" and math.isfinite(value):
                self._board.add_scalar(name, value, int(row["step"]))

    def __enter__(self) -> "MetricsWriter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            with naming(self.path.with_name("tensorboard")):
                self._board.close()
        except OSError:
            if error is None:  # else that is what there is to tell
                raise


def _write(file, rows: list[dict[str, float]], *, header: bool) -> None:
    if rows:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
        if header:
            writer.writeheader()
        writer.writerows(rows)


def read(path: Path) -> list[dict[str, float]]:
    """The rows of a metrics file, [] if there is none.

    A last row that was cut short, as by a kill or a full disk, is left out with a warning.

    Raises:
        ValueError: the file is damaged elsewhere.
    """
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
    if lines and not lines[-1].endswith("\n"):
        warnings.warn(f"{path}: its last row was cut short and is left out", stacklevel=2)
        lines.pop()
    if not lines:
        return []
    names = lines[0].rstrip("\n").split(",")
    if "step" not in names or len(set(names)) < len(names):
        raise ValueError(f"{path}: expected columns with step in line 1, got {short(lines[0])!r}")
    rows = []
    for number, line in enumerate(lines[1:], 2):
        try:
            values = [int(c) if c.isdecimal() else float(c) for c in line.rstrip().split(",")]
            rows.append(dict(zip(names, values, strict=True)))
        except ValueError:
            raise ValueError(
                f"{path}: expected {len(names)} numbers in line {number}, got {short(line)!r}"
            ) from None
    return rows
