"""The code is clean under its own tools, imports lightly, and the README tells the truth."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize(
    "command", [["ruff", "check"], ["ruff", "format", "--check"], ["mypy"]], ids=" ".join
)
def test_clean(command):
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_import_is_light():
    code = (
        "import sys, diffsim; print({'brax', 'mujoco', 'matplotlib', 'scipy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "set()", done.stdout + done.stderr


def test_ci_runs_the_command_of_the_readme():
    commands = re.findall(r"^python3.11 -m venv .*$", (ROOT / "README.md").read_text(), re.M)
    assert len(commands) == 2
    last = (ROOT / ".ci" / "run").read_text().strip().splitlines()[-1]
    assert last == commands[1]


def test_no_file_holds_two_ideas():
    """Past 400 lines a file is two ideas."""
    files = [*ROOT.glob("diffsim/**/*.py"), *ROOT.glob("scripts/*.py")]
    long = {str(f.relative_to(ROOT)): len(f.read_text().splitlines()) for f in files}
    assert len(files) > 20
    assert {name: lines for name, lines in long.items() if lines > 400} == {}
