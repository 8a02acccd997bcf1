"""Runs a script in this process, as its command line does."""

import os
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from _entry import entry, grouped

SCRIPTS = Path(__file__).parents[1] / "scripts"


def run(name: str, *arguments: object) -> int:
    """The exit code of scripts/``name``.py."""
    file = SCRIPTS / f"{name}.py"
    with (
        mock.patch.object(sys, "argv", [str(file), *map(str, arguments)]),
        mock.patch("_entry._left", sys.exit),
    ):
        try:
            runpy.run_path(str(file), run_name="__main__")
        except SystemExit as end:
            return int(end.code or 0)
    return 0


def ended(monkeypatch: pytest.MonkeyPatch, main: Callable, *words: str) -> object:
    """The code with which a script of this main function and command line ends."""
    monkeypatch.setattr(os, "environ", dict(os.environ))
    monkeypatch.setattr(sys, "argv", ["some.py", *words])
    monkeypatch.setattr("_entry._left", sys.exit)
    with pytest.raises(SystemExit) as end:
        entry(main)
    return end.value.code


def command(kind: type, run: Callable, description: str | None, **options: Any) -> None:
    """Ends as a training script does; its flags are those in ``sys.argv``."""
    entry(lambda: grouped(kind, run, description, **options))
