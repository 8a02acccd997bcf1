"""The published figures can be made again: every command is one that its script takes."""

import functools
import inspect
import json
import subprocess
import sys
from pathlib import Path

import pytest
import script
import tyro

import reproduce

ROOT = Path(__file__).parents[1]


class Parsed(Exception):
    """A script has read its command line; there is no need to do what it says."""


def ends(function):
    """What looks like the function to a parser of flags, and does nothing."""

    @functools.wraps(function)
    def parsed(*args, **kwargs):
        raise Parsed

    return parsed


@pytest.fixture
def parsing(monkeypatch):
    """Scripts end as soon as their command line is read, whichever way they read it."""
    cli, several = tyro.cli, tyro.extras.subcommand_cli_from_dict

    def one(f, *args, **kwargs):
        found = cli(ends(f) if inspect.isfunction(f) else f, *args, **kwargs)
        if not kwargs.get("return_unknown_args"):
            raise Parsed
        return found

    def many(functions, **kwargs):
        return several({name: ends(f) for name, f in functions.items()}, **kwargs)

    monkeypatch.setattr(tyro, "cli", one)
    monkeypatch.setattr(tyro.extras, "subcommand_cli_from_dict", many)


def parse(command: str) -> int | None:
    """The code with which a script refuses a command line; None if it takes it."""
    name, *flags = command.split()
    try:
        return script.run(Path(name).stem, *flags)
    except Parsed:
        return None


def test_every_command_is_one_that_its_script_takes(parsing, monkeypatch):
    monkeypatch.chdir(ROOT)
    refused = [c for _, c in reproduce.FIGURES.values() if parse(c) is not None]
    assert refused == []
    scripts = {command.split()[0] for _, command in reproduce.FIGURES.values()}
    assert [name for name in scripts if parse(f"{name} --of-no-script 3") != 2] == []
    assert parse("benchmark.py scale --of-no-script 3") == 2
    assert parse("train.py --task leg") == 2


def test_every_picture_has_its_command():
    pictures = {f"data/{p.name}" for p in (ROOT / "data").iterdir() if p.suffix in (".png", ".gif")}
    told = " ".join(what.replace(",", "") for what, _ in reproduce.FIGURES.values())
    assert pictures <= set(told.split())
    assert len(pictures) > 5


def test_the_list_and_what_is_not_on_it(capsys):
    assert script.run("reproduce", "--json") == 0
    listed = {row.pop("name"): row for row in json.loads(capsys.readouterr().out)}
    assert set(listed) == set(reproduce.FIGURES)
    assert listed["scale"]["command"] == ["benchmark.py", "scale", "--path", "OUT/scale.png"]
    assert script.run("reproduce") == 0
    out = capsys.readouterr().out
    assert all(name in out for name in listed)
    assert script.run("reproduce", "returns", "nothing") == 2
    said = capsys.readouterr()
    assert said.err.startswith("error: ")
    assert said.err.count("\n") == 1
    assert "got 'nothing'" in said.err
    assert said.out == ""


RUN = """
import sys; sys.path.insert(0, {scripts!r})
from pathlib import Path; import reproduce, tyro; from _entry import entry
reproduce.SCRIPTS = Path({own!r})
reproduce.FIGURES = {{name: ("", command) for name, command in {figures!r}.items()}}
entry(lambda: tyro.cli(reproduce.main))
"""


def test_commands_run_one_after_the_other_in_their_folders(tmp_path):
    """In a process of its own, which is interrupted."""
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "draws.py").write_text(
        "import sys; from pathlib import Path\n"
        "print('drawn'); Path(sys.argv[2]).write_text(sys.argv[1]); sys.exit(int(sys.argv[1]))\n"
    )
    (tmp_path / "own" / "waits.py").write_text(
        "import os, signal, sys, time; from pathlib import Path\n"
        "try:\n    time.sleep(0.5); os.kill(os.getppid(), signal.SIGINT); time.sleep(60)\n"
        "except KeyboardInterrupt:\n    Path(sys.argv[1]).touch()\n"
    )
    figures = {"bad": "draws.py 3 OUT/x", "good": "draws.py 0 OUT/x", "long": "waits.py OUT/saved"}
    program = RUN.format(scripts=str(ROOT / "scripts"), own=str(tmp_path / "own"), figures=figures)

    def run(*words):
        arguments = [sys.executable, "-c", program, *words, "--out", str(tmp_path / "a b")]
        return subprocess.run(arguments, capture_output=True, text=True, timeout=60)

    done = run("bad", "good")
    assert done.returncode == 3
    assert done.stderr == "bad: ended with 3\n"
    assert done.stdout.count("drawn") == 2
    for name, code in (("bad", "3"), ("good", "0")):
        assert (tmp_path / "a b" / name / "x").read_text() == code
        assert (tmp_path / "a b" / name / "output.txt").read_text() == "drawn\n"
    done = run("long")
    assert (done.returncode, done.stderr) == (130, "\ninterrupted\n")
    assert (tmp_path / "a b" / "long" / "saved").exists()  # it was told, and waited for
