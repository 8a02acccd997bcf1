"""Runs a script in this process, as its command line does."""

import runpy
import sys
from pathlib import Path
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
