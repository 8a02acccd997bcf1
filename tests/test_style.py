"""The code is clean under its own tools, imports lightly, and the README tells the truth."""

import ast
import re
import subprocess
import sys
import tomllib
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


def imported(folder: str) -> set[tuple[str, str]]:
    """What the files of a folder import, anywhere in them: dotted names, each with its file."""
    found = set()
    for file in (ROOT / folder).glob("**/*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                found |= {(alias.name, file.name) for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                found |= {(f"{node.module}.{alias.name}", file.name) for alias in node.names}
    assert len(found) > 10
    return found


@pytest.mark.parametrize("kernel", ["delay", "gradients", "invertible", "losses", "quadrature"])
def test_a_kernel_imports_nothing_of_the_house_but_its_helpers(kernel):
    own = {name.split(".")[1] for name, _ in imported(f"diffsim/{kernel}") if "diffsim." in name}
    assert {name for name in own if not name.startswith("_")} <= {kernel}


def test_gradients_draw_nothing():
    drawn = {one for one in imported("diffsim/gradients") if one[0].startswith("matplotlib")}
    assert drawn == set()


def test_the_package_imports_no_script():
    outside = {"reports", "studies", *(path.stem for path in (ROOT / "scripts").glob("*.py"))}
    assert {one for one in imported("diffsim") if one[0].split(".")[0] in outside} == set()


def test_ci_runs_the_command_of_the_readme_and_makes_the_site():
    commands = re.findall(r"^python3.11 -m venv .*$", (ROOT / "README.md").read_text(), re.M)
    assert len(commands) == 2
    run = (ROOT / ".ci" / "run").read_text()
    assert run.strip().splitlines()[-1] == commands[1]
    site = re.findall(r"mkdocs build --strict \S+ \S+", (ROOT / "CONTRIBUTING.md").read_text())
    assert site == ["mkdocs build --strict -f scripts/guides/mkdocs.yml"]
    assert site[0] in run


def test_no_file_holds_two_ideas():
    """Past 400 lines a file is two ideas."""
    files = [*ROOT.glob("diffsim/**/*.py"), *ROOT.glob("scripts/**/*.py")]
    long = {str(f.relative_to(ROOT)): len(f.read_text().splitlines()) for f in files}
    assert len(files) > 20
    assert {name: lines for name, lines in long.items() if lines > 400} == {}


def test_the_text_of_a_flag_is_one_line():
    """In help a line that ends in the source ends there too."""
    seen, broken = 0, []
    for file in [*ROOT.glob("diffsim/**/*.py"), *ROOT.glob("scripts/**/*.py")]:
        for kind in ast.walk(ast.parse(file.read_text())):
            for item in kind.body[1:] if isinstance(kind, ast.ClassDef) else []:
                if isinstance(item, ast.Expr) and isinstance(item.value, ast.Constant):
                    seen += 1
                    if "\n" in str(item.value.value):
                        broken.append(f"{file.name}:{item.lineno}")
    assert seen > 50
    assert broken == []


def test_slips_that_may_survive_are_of_lines_that_are_there():
    """Each with its reason, and none for ever when its line has changed."""
    listed = tomllib.loads((ROOT / "tests" / "mutation.toml").read_text())["accepted"]
    assert len(listed) > 20
    for one in listed:
        lines = [line.strip() for line in (ROOT / one["file"]).read_text().splitlines()]
        assert one["old"] in lines, one
        assert one.get("new") != one["old"]
        assert one["reason"]
