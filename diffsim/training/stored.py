"""Settings of a run as a frozen dataclass: their checks, and the JSON file beside a run."""

import dataclasses
import json
import types
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from diffsim._files import read_json, replacing
from diffsim._text import short

# What a resumed run may have otherwise than the run before, and what that does.
MAY_CHANGE = {
    "steps": "the run ends elsewhere, and the learning rate falls towards there",
    "log_every": "rows of metrics",
    "checkpoint_every": "checkpoints",
    "out": "the folder was moved",
    "floor": "serves for the floor",
    "workers": "processes that simulate, with the same results",
    "resume": "",
}


class Stored:
    """What settings share; a dataclass derives from it."""

    def check_positive(self, names: Sequence[str]) -> None:
        """Raise ValueError for one of the named fields that is given and not above 0."""
        for name in names:
            value = getattr(self, name)
            for number in value if isinstance(value, tuple) else (value,):
                if number is not None and not number > 0:
                    raise ValueError(f"{name}: expected > 0, got {value}")

    def filled(self) -> Self:
        """With what holds in the place of settings left open."""
        return self

    def check_resumes(self, path: Path) -> None:
        """Raise ValueError unless these settings differ from the stored ones where they may."""
        before, now = type(self).load(path).filled(), self.filled()
        for field in dataclasses.fields(typing.cast(Any, self)):
            old, new = getattr(before, field.name), getattr(now, field.name)
            if field.name not in MAY_CHANGE and old != new:
                names = (f.name for f in dataclasses.fields(typing.cast(Any, self)))
                free = ", ".join(_flag(type(self), name) for name in names if MAY_CHANGE.get(name))
                raise ValueError(
                    f"{_flag(type(self), field.name)}: expected {short(repr(old))} as in {path}, "
                    f"got {short(repr(new))}; only {free} may change when a run is resumed"
                )

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
            OSError: it cannot be read.
            ValueError: it holds something else; one line says what.
        """
        data = read_json(path)
        hints = {field.name: field.type for field in dataclasses.fields(typing.cast(Any, cls))}
        for name in [*data, *hints]:
            if name not in hints or name not in data:
                wrong = "unknown" if name in data else "missing"
                raise ValueError(f"{path}: {short(name)}: {wrong}; expected {', '.join(hints)}")
        values = {}
        for name, hint in hints.items():
            try:
                values[name] = _typed(data[name], hint)
            except TypeError:
                wanted = _named(hint)
                raise ValueError(
                    f"{path}: {name}: expected {wanted}, got {short(repr(data[name]))}"
                ) from None
        try:
            return cls(**values)
        except (ValueError, TypeError) as error:
            raise ValueError(f"{path}: {short(error, 300)}") from None


def _typed(value: Any, hint: Any) -> Any:
    """A value from JSON as the type of a field; TypeError where it is of another."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        return _typed(value, inner[0])
    if origin is types.UnionType:
        return None if value is None else _typed(value, inner[0])
    if origin is tuple and isinstance(value, list):
        kinds = [inner[0]] * len(value) if inner[-1] is Ellipsis else list(inner)
        if len(kinds) == len(value):
            return tuple(_typed(item, kind) for item, kind in zip(value, kinds))
    elif hint is float and type(value) in (int, float):
        if -1e300 < value < 1e300:
            return float(value)
    elif hint is Path and isinstance(value, str) and "\0" not in value:
        return Path(value)
    elif type(value) is hint and not (hint is int and abs(value) >= 2**63):
        return value
    raise TypeError


def _named(hint: object) -> str:
    if typing.get_origin(hint) is typing.Annotated:
        hint = typing.get_args(hint)[0]
    return getattr(hint, "__name__", None) if isinstance(hint, type) else str(hint)  # type: ignore


def _flag(cls: type, name: str) -> str:
    """What a field is called on the command line."""
    hint = {field.name: field.type for field in dataclasses.fields(cls)}[name]
    renamed = [getattr(extra, "name", None) for extra in getattr(hint, "__metadata__", ())]
    return "--" + next(filter(None, renamed), name).replace("_", "-")
