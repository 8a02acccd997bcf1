"""What is written down while training: a CSV file and TensorBoard events, row by row."""

import csv
import math
from pathlib import Path
from types import TracebackType

from diffsim._files import replacing


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
        kept = [row for row in read(self.path) if row["step"] < first_step]
        self.rows: list[dict[str, float]] = []
        self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=first_step)
        with replacing(self.path) as temporary:
            temporary.write_text("")
        for row in kept:
            self._append(row)

    def write(self, row: dict[str, float]) -> None:
        """One row; its ``step`` is the x axis."""
        self._append(row)
        for name, value in row.items():
            if name != "step" and math.isfinite(value):
                self._board.add_scalar(name, value, int(row["step"]))

    def _append(self, row: dict[str, float]) -> None:
        with self.path.open("a", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=list(row))
            if not self.rows:
                writer.writeheader()
            writer.writerow(row)
        self.rows.append(row)

    def __enter__(self) -> "MetricsWriter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._board.close()


def read(path: Path) -> list[dict[str, float]]:
    """The rows of a metrics file, [] if there is none."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]
