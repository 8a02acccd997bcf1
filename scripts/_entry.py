"""How every script begins and ends: flags that all share, errors in one line."""

import hashlib
import json
import os
import platform
import sys
import tomllib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, redirect_stdout
from pathlib import Path
from typing import Any

ERRORS = (OSError, ValueError, TypeError, ImportError, FloatingPointError)
SHARED = """every script also takes
  --config FILE  flags from a TOML file, or from a run's settings.json; those given here come first
  --quiet        print nothing but errors, and what --json asks for
  --no-cache     compile afresh, and keep nothing of it in the user's cache folder
  --debug        show the traceback of an error"""


def entry(main: Callable[[], object]) -> None:
    """Run a script's main function, and end the program with the code it returns, if any.

    Takes ``--config``, ``--quiet``, ``--no-cache`` and ``--debug`` from the command line.

    Args:
        main: imports what it needs, parses ``sys.argv`` and does the work.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # the compiler's notes to itself
    if not _taken("--no-cache"):
        os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(_cache()))
    debug, code, stack = _taken("--debug"), None, ExitStack()
    if debug:
        os.environ["DIFFSIM_DEBUG"] = "1"
    try:
        sys.argv[1:] = _configured(sys.argv[1:])
        if _taken("--quiet"):
            os.environ["TERM"] = "dumb"  # no bars, which go where errors go
            if "--json" not in sys.argv:
                nowhere = stack.enter_context(Path(os.devnull).open("w"))  # noqa: SIM115
                stack.enter_context(redirect_stdout(nowhere))
        code = main()
    except SystemExit as end:
        if not end.code and {"-h", "--help"} & set(sys.argv):
            print(SHARED)
        raise
    except KeyboardInterrupt:
        code = _said("\ninterrupted", 130)
    except ERRORS as error:
        if debug:
            raise
        code = _said("error: " + (" ".join(str(error).split()) or type(error).__name__), 2)
    finally:
        stack.close()
    sys.exit(code if isinstance(code, int) else 0)


def _cache() -> Path:
    """Where compiled programs are kept: one folder a kind of processor, as they run on no other."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        kind = next(line for line in lines if line.startswith(("flags", "Features")))
    except (OSError, StopIteration):
        kind = platform.processor()
    return home / "diffsim" / hashlib.sha256(kind.encode()).hexdigest()[:12]


def _taken(flag: str) -> bool:
    """Whether a flag is there, and is no longer."""
    words = sys.argv[1:]
    sys.argv[1:] = [word for word in words if word != flag]
    return len(words) > len(sys.argv[1:])


def _configured(words: list[str]) -> list[str]:
    """The command line with the flags of ``--config`` after its leading names, before the rest."""
    joined = [part for w in words for part in (w.split("=", 1) if _is_config(w) else [w])]
    if "--config" not in joined:
        return words
    at = joined.index("--config")
    if at + 1 == len(joined):
        raise ValueError("--config: expected a file, got none")
    file, rest = Path(joined[at + 1]), joined[:at] + joined[at + 2 :]
    text = file.read_text(encoding="utf-8")
    try:
        values = json.loads(text) if file.suffix == ".json" else tomllib.loads(text)
    except ValueError as error:
        kind = "JSON" if file.suffix == ".json" else "TOML"
        raise ValueError(f"{file}: expected {kind}: {error}") from None
    if not isinstance(values, dict):
        raise ValueError(f"{file}: expected names and values, got {text[:40]!r}")
    leading = next((i for i, word in enumerate(rest) if word.startswith("-")), len(rest))
    return rest[:leading] + list(_flags(values)) + rest[leading:]


def _is_config(word: str) -> bool:
    return word.startswith("--config=")


def _flags(values: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for name, value in values.items():
        flag = prefix + name.replace("_", "-")
        if isinstance(value, dict):
            yield from _flags(value, f"{flag}.")
        elif isinstance(value, bool):
            yield f"--{flag}" if value else f"--no-{flag}"
        elif value is not None:
            yield f"--{flag}"
            yield from map(str, value) if isinstance(value, list) else [str(value)]


def _said(text: str, code: int) -> int:
    print(text, file=sys.stderr, flush=True)
    return code
