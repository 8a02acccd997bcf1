"""Mutants of one folder of diffsim, made by Cosmic Ray, against the fast tests of that folder.

    python tests/mutate.py losses --sample 40

A mutant is one small slip in the source: another operator or number, a condition turned round.
Each is tried in a copy of the checkout; one that no test notices is printed, and the command ends
with 1. Those that may survive are in ``mutation.toml``, each with its reason. Compiled code is
kept between mutants, so that most cost a few seconds.
"""

import argparse
import ast
import itertools
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
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
    nodes, found = list(ast_nodes(get_ast(code))), []
    for name in operator_names():
        if re.search(CONFIG["exclude"], name) or get_operator(name).arguments():
            continue
        operator = get_operator(name)()
        spans = [span for node in nodes for span in operator.mutation_positions(node)]
        found += [(file, name, k) for k, ((n, _), _) in enumerate(spans) if n not in notes]
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


def noticed(mutant: Mutant | None, copy: Path, tests: list[str], limit: float) -> bool:
    """Whether the tests fail with the mutant in the place of its file."""
    environment = os.environ | {
        "PYTHONPATH": str(copy),
        "PYTHONDONTWRITEBYTECODE": "1",
        "JAX_COMPILATION_CACHE_DIR": str(copy / "cache"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }
    command = [sys.executable, "-m", "pytest", "-n", "0", "-x", "-q", "-p", "no:cacheprovider"]
    if mutant:
        (copy / mutant.file.relative_to(ROOT)).write_text(mutant.code)
    try:
        done = subprocess.run(
            [*command, *tests], cwd=copy, env=environment, capture_output=True, timeout=limit
        )
        return done.returncode != 0
    except subprocess.TimeoutExpired:
        return True
    finally:
        if mutant:
            shutil.copy(mutant.file, copy / mutant.file.relative_to(ROOT))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", help="of diffsim, such as losses")
    parser.add_argument("--sample", type=int, help="so many, drawn at random; all without it")
    parser.add_argument("--seed", type=int, default=0, help="of the draw")
    parser.add_argument("--limit", type=float, default=900, help="seconds for a mutant's tests")
    asked = parser.parse_args()
    files = [
        file
        for file in sorted((ROOT / "diffsim" / asked.folder).rglob("*.py"))
        if file.name not in CONFIG["leave_out"]
    ]
    if not files:
        parser.error(f"folder: expected one of diffsim with source in it, got {asked.folder!r}")
    every = [place for file in files for place in places(file)]
    random.Random(asked.seed).shuffle(every)
    drawn = (mutant(*place) for place in every)
    left = [one for one in itertools.islice(drawn, asked.sample) if one and not one.accepted]
    print(f"{len(every)} places in {len(files)} files, {len(left)} mutants to try", flush=True)
    tests, alive = CONFIG["tests"].get(asked.folder, [f"tests/{asked.folder}"]), []
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "checkout"
        kept = shutil.ignore_patterns(".*", "__pycache__", "runs")
        shutil.copytree(ROOT, copy, ignore=kept)
        if noticed(None, copy, tests, 10 * asked.limit):
            print("the tests fail without a mutant")
            return 2
        for count, one in enumerate(left, 1):
            if not noticed(one, copy, tests, asked.limit):
                alive.append(one)
                print(f"survived: {one}", flush=True)
            if count % 10 == 0 or count == len(left):
                print(f"{count} tried, {count - len(alive)} killed", flush=True)
    return 1 if alive else 0


if __name__ == "__main__":
    sys.exit(main())
