"""How every script begins and ends: flags that all share, errors in one line."""

import dataclasses
import gc
import hashlib
import json
import os
import platform
import re
import signal
import sys
import tomllib
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout, suppress
from importlib.metadata import version
from itertools import dropwhile, takewhile
from pathlib import Path
from threading import Timer, get_ident
from typing import Any

ERRORS = (OSError, ValueError, TypeError, ImportError, FloatingPointError)
SHARED = """every script also takes
  --config FILE  flags from a TOML file or a run's settings.json; flags given here override them
  --json         print one JSON object; all other text goes to standard error
  --quiet        print nothing but errors, and what --json asks for
  --no-cache     compile afresh, and store nothing in the user's cache folder
  --debug        show the traceback of an error"""


def entry(main: Callable[[], object], *, timed: bool = False) -> None:
    """Run a script's main function, and end the program with the code it returns, if any.

    An error that is the user's to mend is one line and code 2, an interrupt code 130, a warning a
    line. Takes ``--config``, ``--json``, ``--quiet``, ``--no-cache`` and ``--debug`` from the
    command line.

    Args:
        main: imports what it needs, parses ``sys.argv`` and does the work; returns a code, what
            it found, or both in a pair.
        timed: whether it measures times: then all is compiled as a user's own program is.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # the compiler's notes to itself
    # Half as long to compile, and long batches run up to a third longer; later ones know no such.
    if version("jaxlib").startswith("0.10.") and not timed:
        os.environ.setdefault("XLA_FLAGS", "--xla_cpu_use_fusion_emitters=false")
    gc.set_threshold(20_000, 20, 50)  # tracing makes many objects that live
    if not _taken("--no-cache"):
        os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(_cache()))
    if _taken("--debug"):
        os.environ["DIFFSIM_DEBUG"] = "1"
    code, found, asked = 0, None, False
    with ExitStack() as stack:
        try:
            sys.argv[1:] = _configured(sys.argv[1:])
            asked, quiet = _json(), _taken("--quiet")
            if quiet:
                os.environ["TERM"] = "dumb"  # no bars, which go where errors go
            if quiet or asked:
                nowhere = stack.enter_context(Path(os.devnull).open("w"))
                stack.enter_context(redirect_stdout(nowhere if quiet else sys.stderr))
            stack.enter_context(_hearing())
            stack.enter_context(warnings.catch_warnings())
            warnings.showwarning = _warned
            stack.enter_context(redirect_stderr(_Lines(sys.stderr)))  # type: ignore[type-var]
            ended: Any = main()
            code, found = ended if isinstance(ended, tuple) else (0, ended)
            if isinstance(found, int):
                code, found = found, None
        except SystemExit as end:
            if not end.code and {"-h", "--help"} & set(sys.argv):
                print(SHARED)
            raise
        except (KeyboardInterrupt, Exception) as error:
            told = _told(error)
            if told is None:
                raise
            code = told
    if asked and found is not None:
        from studies.harness import plain

        print(json.dumps(plain(found)))
    if code == 130:
        _left(code)
    sys.exit(code)


def grouped(
    kind: type,
    run: Callable[[Any], object],
    description: str | None,
    *,
    default: Callable[[], Any] | None = None,
    again: str = "go on with --resume --out {out}",
) -> object:
    """Parse the flags, join the other processes of the run if there are any, and ``run(settings)``.

    With ``--resume``, what no flag says is as in the run's ``settings.json``.

    Args:
        kind: a frozen dataclass, the settings of the run, from which the flags are made.
        run: what to do with them, whose result is returned.
        description: for --help.
        default: makes the settings that hold unless a flag says otherwise, by default ``kind``.
        again: how to go on after an interrupt; ``{out}`` is the folder.
    """
    import tyro

    from diffsim.training.processes import Group

    # Before the settings, whose checks may compute.
    group, _ = tyro.cli(Group, add_help=False, return_unknown_args=True)
    try:
        with group.connected():
            settings = _parsed(kind, (default or kind)(), description, Group)
            kept = settings.out / "checkpoints" if "--resume" in again else None
            with hinting(again.format(out=settings.out), kept):
                return run(settings)
    except BaseException as error:
        if group.coordinator is None:
            raise
        code = _told(error)
        if code is None:
            traceback.print_exc()
        if code != 0:
            os._exit(1 if code is None else code)  # an orderly end would wait for the others
        raise


def _left(code: int) -> None:
    """End here: an interpreter that an interrupt met in the compiler breaks as it is taken down."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


@contextmanager
def _hearing() -> Iterator[None]:
    """Within, an interrupt waits while a module loads, as extensions break or drop it, and comes
    again where Python drops it, as in a callback of the garbage collector's."""
    before, unraisable, main = signal.getsignal(signal.SIGINT), sys.unraisablehook, get_ident()

    def again() -> None:
        timer = Timer(0.05, signal.pthread_kill, (main, signal.SIGINT))
        timer.daemon = True
        timer.start()

    def heard(number: int, frame: Any) -> None:
        while frame and not frame.f_code.co_filename.startswith("<frozen importlib"):
            frame = frame.f_back
        if not frame:
            raise KeyboardInterrupt
        again()

    def dropped(told: Any) -> None:
        again() if issubclass(told.exc_type, KeyboardInterrupt) else unraisable(told)

    if before is not signal.default_int_handler:  # not the main thread's to hear, or ignored
        yield
        return
    signal.signal(signal.SIGINT, heard)
    sys.unraisablehook = dropped
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        sys.unraisablehook = unraisable


@contextmanager
def hinting(again: str, kept: Path | None = None) -> Iterator[None]:
    """Within, an interrupt is told with how to go on after it, if there is something ``kept``."""
    try:
        yield
    except KeyboardInterrupt as interrupt:
        some = kept is None or any(kept.glob("[0-9]*"))
        interrupt.add_note(again if some else "nothing is kept yet: start again")
        raise


def _parsed(kind: Any, default: Any, description: str | None, group: Any) -> Any:
    """The settings alone; --help shows the flags of the group as well."""
    import tyro

    flags: Any = tyro.conf.OmitArgPrefixes
    beside: Any = ("group", flags[group], group())
    both = dataclasses.make_dataclass(kind.__name__, [beside], bases=(kind,), frozen=True)
    names = [field.name for field in dataclasses.fields(kind)]
    default = _resumed(kind, default)
    held = both(**{name: getattr(default, name) for name in names})
    options = tyro.cli(both, default=held, description=description)
    return kind(**{name: getattr(options, name) for name in names})


def _resumed(kind: Any, default: Any) -> Any:
    """The settings of the run that the flags resume, else the default."""
    import tyro

    from diffsim.training.stored import Stored

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


def _json() -> bool:
    """Whether the last word on it asks for JSON; none of them is left."""
    said = [word for word in sys.argv[1:] if word in ("--json", "--no-json")]
    _taken("--json"), _taken("--no-json")
    return said[-1:] == ["--json"]


def _configured(words: list[str]) -> list[str]:
    """The command line with the flags of ``--config`` after its leading names, before the rest."""
    joined = [part for w in words for part in (w.split("=", 1) if _is_config(w) else [w])]
    if "--config" not in joined:
        return words
    at = joined.index("--config")
    if at + 1 == len(joined):
        raise ValueError("--config: expected a file, got none")
    file, rest = Path(joined[at + 1]), joined[:at] + joined[at + 2 :]
    values = _values(file)
    leading = next((i for i, word in enumerate(rest) if word.startswith("-")), len(rest))
    return rest[:leading] + list(_flags(values)) + rest[leading:]


def _values(file: Path) -> dict[str, Any]:
    """The names and values in a JSON or TOML file; ValueError for anything else."""
    kind, read = ("JSON", json.loads) if file.suffix == ".json" else ("TOML", tomllib.loads)
    try:
        values: Any = read(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file}: expected {kind}: {error}") from None
    if not isinstance(values, dict):
        raise ValueError(f"{file}: expected names and values, got {str(values)[:40]!r}")
    return values


def _is_config(word: str) -> bool:
    return word.startswith("--config=")


def _flags(values: dict[str, Any]) -> Iterator[str]:
    for name, value in values.items():
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            yield f"--{flag}" if value else f"--no-{flag}"
        elif value is not None:
            yield f"--{flag}"
            if isinstance(value, dict):
                value = [word for pair in value.items() for word in pair]
            yield from map(str, value) if isinstance(value, list) else [str(value)]


def _told(error: BaseException) -> int | None:
    """Say how the program ends in one line, and with which code; None where it is a fault of it."""
    if isinstance(error, SystemExit):  # after --help or a bad flag
        return int(error.code or 0)
    if isinstance(error, KeyboardInterrupt):
        return _said("; ".join(["\ninterrupted", *getattr(error, "__notes__", [])]), 130)
    if not isinstance(error, ERRORS) and type(error).__name__ != "ProcessLostError":
        return None
    if os.environ.get("DIFFSIM_DEBUG"):
        traceback.print_exc()
    text = str(error)
    if isinstance(error, OSError) and error.strerror:
        text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return _said("error: " + (_line(text) or type(error).__name__), 2)


class _Lines:
    """Standard error, where a bad flag is told in one line and not in a frame."""

    def __init__(self, stream):
        self._stream = stream

    def __getattr__(self, name: str):
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        return self._stream.write(_unframed(text) or text)


def _unframed(text: str) -> str:
    """What the parser of flags says in a frame, up to a rule or gap in it; "" for other text."""
    if "For full helptext" not in text:
        return ""
    lines = re.sub(r"\x1b\[[0-9;]*m", "", text).splitlines()[1:]  # without colours and title
    bare = [line.strip("│ ") for line in lines]
    rule = re.compile("[─-]*").fullmatch
    said = " ".join(takewhile(lambda line: not rule(line), dropwhile(rule, bare)))
    return f"error: {_line(re.sub('^Error parsing ([A-Za-z]+: )?', '', said))}; see --help"


def _line(text: str) -> str:
    """The text on one printable line of at most 1000 characters, its end among them."""
    text = text if len(text) <= 1000 else f"{text[:600]} … {text[-397:]}"
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def _warned(message, category, filename, lineno, file=None, line=None) -> None:
    _said(f"warning: {_line(str(message))}", 0)


def _said(text: str, code: int) -> int:
    print(text, file=sys.stderr, flush=True)
    return code
