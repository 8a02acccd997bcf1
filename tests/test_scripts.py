"""Every script ends as the shared entry says: 2 and one line, 130, or a traceback if asked for."""

import importlib.util
import os
import sys
from pathlib import Path

import pytest
import script

from diffsim.training.checkpoint import _SUM

SCRIPTS = sorted(path.stem for path in script.SCRIPTS.glob("[a-z]*.py"))


@pytest.fixture
def entry(monkeypatch):
    spec = importlib.util.spec_from_file_location("_entry", script.SCRIPTS / "_entry.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(os, "environ", dict(os.environ))
    return module


def ended(entry, monkeypatch, main, *words):
    monkeypatch.setattr(sys, "argv", ["some.py", *words])
    with pytest.raises(SystemExit) as end:
        entry.entry(main)
    return end.value.code


def test_how_a_script_ends(entry, monkeypatch, capsys):
    def fails(error):
        def main():
            raise error

        return main

    assert ended(entry, monkeypatch, lambda: None) == 0
    assert ended(entry, monkeypatch, lambda: 3) == 3
    for kind in (ValueError, TypeError, FileNotFoundError, ImportError, FloatingPointError):
        assert ended(entry, monkeypatch, fails(kind("no\nluck"))) == 2
        assert capsys.readouterr().err == "error: no luck\n"
    assert ended(entry, monkeypatch, fails(KeyboardInterrupt())) == 130
    assert capsys.readouterr().err == "\ninterrupted\n"


def test_debug_shows_where_it_happened(entry, monkeypatch):
    seen = []

    def main():
        seen.append(sys.argv)
        raise ValueError("no luck")

    monkeypatch.setattr(sys, "argv", ["some.py", "--steps", "3", "--debug"])
    with pytest.raises(ValueError, match="no luck"):
        entry.entry(main)
    assert seen == [["some.py", "--steps", "3"]]


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_script_uses_the_entry_and_only_it(name):
    """Nothing is done by importing a script, and nothing ends it but the entry."""
    text = (script.SCRIPTS / f"{name}.py").read_text()
    main = text.index('if __name__ == "__main__":')
    assert "    from _entry import entry\n\n    entry(" in text[main:]
    assert "sys.exit" not in text
    assert Path(script.SCRIPTS / f"{name}.py").read_text().startswith('"""')


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["simulate", "data/none.toml", "--plot", "x.foo"], "path: expected a name ending in"),
        (["identify", "none.csv", "--plot", "x.foo"], "path: expected a name ending in"),
        (["identify", "none.csv"], "No such file"),
        (["make_gpr", "--directory", "FILE"], "expected a folder, got a file"),
        (["make_flights", "--directory", "FILE"], "expected a folder, got a file"),
        (["train", "--out", "FILE"], "FILE"),
        (["train", "--resume", "--out", "nowhere"], "no checkpoint in "),
        (["train_closed_loop", "--out", "USED"], "has checkpoints; expected --resume or another"),
        (["train_brax", "--out", "USED"], "USED: has a metrics.csv; expected another --out"),
    ],
)
def test_what_cannot_be_is_said_before_the_work(words, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("FILE").touch()
    Path("USED", "checkpoints", "3").mkdir(parents=True)
    Path("USED", "checkpoints", "3", _SUM).touch()
    Path("USED", "metrics.csv").touch()
    assert script.run(*words) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("error: ")
    assert said.err.count("\n") == 1
    assert message in said.err


def test_what_is_compiled_is_kept_unless_asked_not_to(entry, monkeypatch, tmp_path):
    seen = []
    monkeypatch.delitem(os.environ, "JAX_COMPILATION_CACHE_DIR", raising=False)
    monkeypatch.setitem(os.environ, "XDG_CACHE_HOME", str(tmp_path))

    def main():
        seen.append(os.environ.get("JAX_COMPILATION_CACHE_DIR"))

    assert ended(entry, monkeypatch, main, "--no-cache") == 0
    assert ended(entry, monkeypatch, main) == 0
    assert seen[0] is None
    assert Path(seen[1]).parent == tmp_path / "diffsim"
