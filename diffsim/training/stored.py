"""Settings of a run as a frozen dataclass: their checks, and the JSON file beside a run."""

import dataclasses
import json
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, Self

from diffsim._files import replacing


class Stored:
    """What settings share; a dataclass derives from it."""

    def check_positive(self, names: Sequence[str]) -> None:
        """Raise ValueError for one of the named fields that is given and not above 0."""
        for name in names:
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name}: expected > 0, got {value}")

    def save(self, path: Path) -> None:
        """Write as JSON, whole or not at all."""
        fields: Any = self
        with replacing(path) as temporary:
            temporary.write_text(json.dumps(dataclasses.asdict(fields), default=str, indent=2))

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what :meth:`save` wrote.

        Raises:
            FileNotFoundError: there is no such file.
        """
        data = json.loads(path.read_text())
        data = {k: tuple(v) if isinstance(v, list) else v for k, v in data.items()}
        return cls(**data | {"out": Path(data["out"])})


def check_one_of(name: str, value: str, allowed: Collection[str]) -> None:
    """Raise ValueError for a value that is not among those allowed."""
    if value not in allowed:
        raise ValueError(f"{name}: expected one of {', '.join(allowed)}, got {value!r}")
