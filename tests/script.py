"""Runs a script in this process, as its command line does."""

import importlib.util
import runpy
import sys
from pathlib import Path
from types import ModuleType
from unittest import mock

SCRIPTS = Path(__file__).parents[1] / "scripts"


def run(name: str, *arguments: object) -> int:
    """The exit code of scripts/``name``.py."""
    file = SCRIPTS / f"{name}.py"
    with (
        mock.patch.object(sys, "argv", [str(file), *map(str, arguments)]),
        mock.patch.object(sys, "path", [str(SCRIPTS), *sys.path]),
    ):
        try:
            runpy.run_path(str(file), run_name="__main__")
        except SystemExit as end:
            return int(end.code or 0)
    return 0


def load(name: str) -> ModuleType:
    """scripts/``name``.py as a module."""
    spec = importlib.util.spec_from_file_location(name, SCRIPTS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
