"""A training script: its flags and those of a group of processes, and its errors in one line."""

import dataclasses
import os
import sys
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tyro

from diffsim._text import short
from diffsim.training.processes import Group, ProcessLostError
from diffsim.training.stored import Stored

_ERRORS = (FloatingPointError, ImportError, OSError, TypeError, ValueError)


def command(
    kind: type,
    run: Callable[[Any], object],
    description: str | None,
    *,
    default: Callable[[], Any] | None = None,
    again: str = "go on with --resume --out {out}",
) -> None:
    """Parse the command line, join the other processes if there are any, and ``run(settings)``.

    Ends the program with one line and code 2 where an error is the user's to mend, with 130 after
    an interrupt. With ``--resume``, what no flag says is as in the run's ``settings.json``.

    Args:
        kind: a frozen dataclass, the settings of the run, from which the flags are made.
        run: what to do with them.
        description: for --help.
        default: makes the settings that hold unless a flag says otherwise, by default ``kind``.
        again: how to go on after an interrupt; ``{out}`` is the folder.
    """
    # Before the settings, whose checks may compute.
    group, _ = tyro.cli(Group, add_help=False, return_unknown_args=True)
    settings, several, code = None, group.coordinator is not None, 0
    try:
        with group.connected():
            settings = _parsed(kind, (default or kind)(), description)
            with warnings.catch_warnings():
                warnings.showwarning = _warned
                run(settings)
    except SystemExit as end:  # after --help or a bad flag
        code = int(end.code or 0)
    except KeyboardInterrupt:
        hint = "" if settings is None else "; " + again.format(out=settings.out)
        code = _said(f"\ninterrupted{hint}", 130)
    except (ProcessLostError, *_ERRORS) as error:
        if os.environ.get("DIFFSIM_DEBUG"):
            traceback.print_exc()
        code = _said(f"error: {_line(error)}", 2)
    except Exception:
        if not several:
            raise
        traceback.print_exc()
        code = 1
    if code and several:
        os._exit(code)  # an orderly end would wait for the other processes
    sys.exit(code)


def _parsed(kind: type, default: Any, description: str | None) -> Any:
    """The settings alone; --help shows the flags of the group as well."""
    group: Any = ("group", tyro.conf.OmitArgPrefixes[Group], Group())
    both = dataclasses.make_dataclass(kind.__name__, [group], bases=(kind,), frozen=True)
    names = [field.name for field in dataclasses.fields(kind)]
    default = _resumed(kind, default)
    held = both(**{name: getattr(default, name) for name in names})
    options = tyro.cli(both, default=held, description=description)
    return kind(**{name: getattr(options, name) for name in names})


def _resumed(kind: type, default: Any) -> Any:
    """The settings of the run that the flags resume, else the default."""
    if not issubclass(kind, Stored):
        return default
    where: Any = dataclasses.make_dataclass(
        "Where", [("out", Path, default.out), ("resume", bool, False)]
    )
    asked, _ = tyro.cli(where, add_help=False, return_unknown_args=True)
    path = asked.out / "settings.json"
    if not asked.resume or not path.is_file():
        return default
    stored: Any = kind.load(path)
    return dataclasses.replace(stored, out=asked.out)


def _line(error: Exception) -> str:
    """The error on one line; one of the system with the file it is about."""
    if isinstance(error, OSError) and error.strerror:
        where = "" if error.filename is None else f"{error.filename}: "
        return short(f"{where}{error.strerror}", 1000)
    return short(error, 1000)


def _warned(message, category, filename, lineno, file=None, line=None) -> None:
    print(f"warning: {short(message, 1000)}", file=sys.stderr, flush=True)


def _said(text: str, code: int) -> int:
    print(text, file=sys.stderr, flush=True)
    return code
