"""Mutants of one folder of diffsim, made by Cosmic Ray, against the fast tests of that folder.

    python tests/mutate.py losses --sample 40

A mutant is one small slip in the source: another operator or number, a condition turned round.
Each is tried in a copy of the checkout, by the test files that run its line; one that no test
notices is printed, and the command ends with 1. Those that may survive are in ``mutation.toml``,
each with its reason. Compiled code and imports are kept between mutants, and the tests that run the
line come first: most mutants cost a few seconds, one that survives the time of its tests.
"""

import argparse
import ast
import contextlib
import importlib
import itertools
import json
import multiprocessing
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

FORK = multiprocessing.get_context("fork")
NO_TESTS = 5  # pytest's exit code for a file whose tests are all slow
ROOT = Path(__file__).resolve().parents[1]
CONFIG = tomllib.loads((ROOT / "tests" / "mutation.toml").read_text())


class Mutant(NamedTuple):
    """One slip: the file as it would be, and the line that differs."""

    file: Path
    code: str
    number: int
    old: str
    new: str

    def __str__(self) -> str:
        place = f"{self.file.relative_to(ROOT)}:{self.number}"
        return f"{place}\n  - {self.old}\n  + {self.new}"

    @property
    def accepted(self) -> bool:
        """Whether it is listed as one that may survive."""
        return any(
            self.file == ROOT / one["file"]
            and self.old == one["old"]
            and one.get("new", self.new) == self.new
            for one in CONFIG["accepted"]
        )


def places(file: Path) -> list[tuple[Path, str, int]]:
    """Where a file can be changed: the operator, and which of its occurrences."""
    from cosmic_ray.ast import ast_nodes, get_ast
    from cosmic_ray.plugins import get_operator, operator_names

    code = file.read_text()
    notes = {
        number
        for node in ast.walk(ast.parse(code))
        for noted in (getattr(node, "annotation", None), getattr(node, "returns", None))
        if noted is not None
        for number in range(noted.lineno, noted.end_lineno + 1)
    }  # a slip in an annotation fails at once or does nothing
    lines, nodes, found = code.splitlines(), list(ast_nodes(get_ast(code))), []
    for name in operator_names():
        if re.search(CONFIG["exclude"], name) or get_operator(name).arguments():
            continue
        operator = get_operator(name)()
        spans = [span for node in nodes for span in operator.mutation_positions(node)]
        found += [
            (file, name, k)
            for k, ((n, column), _) in enumerate(spans)
            # The bare star of a signature is no product.
            if n not in notes and not lines[n - 1].startswith("*,", column)
        ]
    return found


def mutant(file: Path, name: str, occurrence: int) -> Mutant | None:
    """The mutant, unless more than one line changes."""
    from cosmic_ray.mutating import mutate_code
    from cosmic_ray.plugins import get_operator

    code = file.read_text()
    changed = mutate_code(code, get_operator(name)(), occurrence)
    pairs = zip(code.splitlines(), changed.splitlines())
    lines = [(n, old.strip(), new.strip()) for n, (old, new) in enumerate(pairs, 1) if old != new]
    return Mutant(file, changed, *lines[0]) if len(lines) == 1 else None


def started(job: Callable[[], int], copy: Path, limit: float) -> int | None:
    """How a job ends in a forked process that works in the copy; None if it takes too long.

    What every test imports is there before the fork; what it starts ends with it.
    """
    process = FORK.Process(target=_run, args=(job, copy))
    process.start()
    try:
        process.join(limit)
        return process.exitcode
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.join()


def _run(job: Callable[[], int], copy: Path) -> None:
    os.setsid()
    os.chdir(copy)
    os.environ["PYTHONPATH"] = str(copy)
    sys.path[:] = [str(copy), *(place for place in sys.path if not _own(place))]
    with open(copy / "told", "w") as told:
        os.dup2(told.fileno(), 1)
        os.dup2(told.fileno(), 2)
        os._exit(job())


def _own(place: str) -> bool:
    return Path(place or ".").resolve() in (ROOT, ROOT / "tests")


def tried(tests: list[str], *plugins: object) -> int:
    """pytest's exit code for the fast tests of some files: 0 when all pass."""
    import pytest

    known = "ignore::pytest.PytestAssertRewriteWarning"  # of what was imported before the fork
    flags = ["-n", "0", "-x", "-q", "-W", known, "-p", "no:cacheprovider"]
    return pytest.main([*flags, *tests], plugins=list(plugins))


class Reach(NamedTuple):
    """What the tests of a file run: of each file its lines, and of each line the tests."""

    lines: dict[str, dict[int, list[str]]]  # "" stands for the import of the tests
    seconds: dict[str, float]  # of each test


def reached(test: str, copy: Path, limit: float) -> Reach:
    """What the tests of a file reach, measured in a process of its own."""
    found = copy / "reached.json"

    def job() -> int:
        import coverage

        measured = coverage.Coverage(data_file=None, include=[f"{copy}/diffsim/*"])
        seconds: dict[str, float] = {}

        class Watch:
            def pytest_runtest_logstart(self, nodeid):
                measured.switch_context(nodeid)

            def pytest_runtest_logreport(self, report):
                seconds[report.nodeid] = seconds.get(report.nodeid, 0) + report.duration

        measured.start()
        code = tried([test], Watch())
        measured.stop()
        data = measured.get_data()
        lines = {name: data.contexts_by_lineno(name) for name in data.measured_files()}
        found.write_text(json.dumps([lines, seconds]))
        return code

    if started(job, copy, limit) not in (0, NO_TESTS):
        sys.exit(f"{test} fails without a mutant:\n{(copy / 'told').read_text()[-2000:]}")
    lines, seconds = json.loads(found.read_text())
    return Reach(
        {name: {int(number): by for number, by in own.items()} for name, own in lines.items()},
        seconds,
    )


def survives(mutant: Mutant, copy: Path, reach: dict[str, Reach], limit: float) -> bool:
    """Whether no test of the files that run its line fails with it.

    Tests that run the line come first, the shortest before others. The rest of their files follow:
    they may use what was traced before.
    """
    place = copy / mutant.file.relative_to(ROOT)
    near = {test: own for test, found in reach.items() if (own := found.lines.get(str(place)))}
    # A line that is no code of its own, such as one of a signature, is run by all that import it.
    tests = [test for test in near if mutant.number in near[test]] or list(near)
    if not tests:
        return True
    seconds = {name: s for test in tests for name, s in reach[test].seconds.items()}
    first = {name for test in tests for name in near[test].get(mutant.number, [])}

    class Order:
        def pytest_collection_modifyitems(self, items):
            items.sort(key=lambda item: (item.nodeid not in first, seconds.get(item.nodeid, 0)))

        def pytest_runtest_logstart(self, nodeid):
            limit = 30 + 10 * seconds.get(nodeid, 0)  # of work: a loop without end is a failure
            signal.setitimer(signal.ITIMER_PROF, limit)

    code = place.read_text()
    place.write_text(mutant.code)
    try:
        return started(lambda: tried(tests, Order()), copy, limit) == 0
    finally:
        place.write_text(code)


def prepared(folder: Path) -> Path:
    """A copy of the checkout, and in this process what its tests import or are told."""
    copy = folder.resolve() / "checkout"
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".*", "__pycache__", "runs"))
    os.environ |= {
        "MPLBACKEND": "Agg",
        "JAX_PLATFORMS": "cpu",
        "JAX_COMPILATION_CACHE_DIR": str(copy / "cache"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }
    sys.dont_write_bytecode = True
    for name in CONFIG["import_first"]:
        importlib.import_module(name)
    return copy


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", help="of diffsim, such as losses")
    parser.add_argument("--sample", type=int, help="so many, drawn at random; all without it")
    parser.add_argument("--seed", type=int, default=0, help="of the draw")
    parser.add_argument("--files", default="*", help="only those of this name, such as 'sur*'")
    parser.add_argument("--limit", type=float, default=900, help="seconds for a file or a mutant")
    asked = parser.parse_args()
    files = [
        file
        for file in sorted((ROOT / "diffsim" / asked.folder).rglob(f"{asked.files}.py"))
        if file.name not in CONFIG["leave_out"]
    ]
    if not files:
        parser.error(f"folder: expected one of diffsim with source in it, got {asked.folder!r}")
    every = [place for file in files for place in places(file)]
    random.Random(asked.seed).shuffle(every)
    drawn = (one for place in every if (one := mutant(*place)) and not one.accepted)
    left = list(itertools.islice(drawn, asked.sample))
    print(f"{len(every)} places in {len(files)} files, {len(left)} mutants to try", flush=True)
    alive = 0
    with tempfile.TemporaryDirectory() as folder:
        copy = prepared(Path(folder))
        tests = sorted((copy / "tests" / asked.folder).glob("test_*.py"))
        reach = {str(one): reached(str(one), copy, asked.limit) for one in tests}
        for count, one in enumerate(left, 1):
            if survives(one, copy, reach, asked.limit):
                alive += 1
                print(f"survived: {one}", flush=True)
            if count % 10 == 0 or count == len(left):
                print(f"{count} tried, {count - alive} killed", flush=True)
    return 1 if alive else 0


if __name__ == "__main__":
    sys.exit(main())
