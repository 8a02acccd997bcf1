"""The defaults of a folder of diffsim: a change of one changes what users compute.

    python tests/defaults.py > tests/defaults.toml

writes them down, to be read before it is committed.
"""

import enum
import importlib
import inspect
import pkgutil
import tomllib
from collections.abc import Iterator
from pathlib import Path

TOLD = Path(__file__).with_suffix(".toml")
FOLDERS = ["losses", "quadrature", "delay", "gradients", "invertible", "training", "physics"]
SIMPLE = (bool, int, float, str, tuple)


def public(folder: str) -> Iterator[tuple[str, object]]:
    """The folder's functions, classes and their methods, by name."""
    package = importlib.import_module(f"diffsim.{folder}")
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        for name, one in vars(importlib.import_module(module.name)).items():
            if getattr(one, "__module__", None) == module.name and not name.startswith("_"):
                if isinstance(one, enum.EnumMeta):
                    continue
                yield name, one
                members = vars(one).items() if inspect.isclass(one) else ()
                for member, value in members:
                    if not member.startswith("_"):
                        yield f"{name}.{member}", getattr(value, "__func__", value)


def found(folder: str) -> dict[str, str]:
    """Name → its defaults that are numbers, words or tuples of them."""
    defaults = {}
    for name, one in public(folder):
        try:
            parameters = inspect.signature(one).parameters.values()
        except (ValueError, TypeError):
            continue
        told = [f"{p.name}={p.default!r}" for p in parameters if isinstance(p.default, SIMPLE)]
        if told:
            defaults[name] = ", ".join(told)
    return defaults


def check(folder: str) -> None:
    assert found(folder) == tomllib.loads(TOLD.read_text())[folder]


if __name__ == "__main__":
    print("# What holds unless it is asked for otherwise, for defaults.py.")
    for folder in FOLDERS:
        print(f"\n[{folder}]")
        for name, told in found(folder).items():
            print(f'"{name}" = "{told}"')
