"""How every script begins and ends: help, flags from files, one line and 2, or 130."""

import json
import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path
from unittest import mock

import jax
import pytest
import script
from script import ended

import _entry
from diffsim.training.checkpoint import _SUM
from diffsim.training.processes import ProcessLostError

SCRIPTS = sorted(path.stem for path in script.SCRIPTS.glob("[a-z]*.py"))
FAST = ("simulate", "train", "benchmark", "compare_gradients", "integrate")
BENCHMARKS = ("accelerator", "closed-loop", "growth", "invertible", "sphere")
KINDS = (
    ValueError, TypeError, FileNotFoundError, ImportError, FloatingPointError, ProcessLostError,
)  # fmt: skip


@pytest.fixture
def scene(tmp_path):
    file = tmp_path / "scene.toml"
    file.write_text("duration = 0.2\n[ball]\nposition = [0, 0, 1]\n")
    return file


@pytest.fixture(autouse=True)
def same_environment(monkeypatch):
    for name in ("TERM", "DIFFSIM_DEBUG", "TF_CPP_MIN_LOG_LEVEL"):
        monkeypatch.setenv(name, "")
    precision = jax.config.jax_enable_x64
    yield  # what a script sets is taken back
    jax.config.update("jax_enable_x64", precision)


@pytest.mark.parametrize("words", [(n,) for n in FAST] + [("benchmark", n) for n in BENCHMARKS])
def test_help_has_no_markup_and_tells_the_shared_flags(words, capsys):
    assert script.run(*words, "--help") == 0
    text = capsys.readouterr().out
    assert "`" not in text
    assert ":func:" not in text
    assert "--config FILE" in text
    if len(words) == 2:
        assert words[1] in text
        assert "--" in text.split("every script")[0].replace("--help", "")  # its own flags


def test_a_file_gives_flags_and_the_command_line_overrides_it(scene, tmp_path, capsys):
    config = tmp_path / "flags.toml"
    config.write_text("json = true\n")
    assert script.run("simulate", scene, "--config", config) == 0
    assert json.loads(capsys.readouterr().out)["status"] == "ok"
    words = _entry._configured(["scene", f"--config={config}", "--no-json"])
    assert words == ["scene", "--json", "--no-json"]  # the last one counts


def test_a_run_s_settings_come_back(tmp_path):
    from diffsim.training import Settings

    written = Settings(steps=7, hidden=(8, 8), robot="arm", target=(0.5, 0.1), out=tmp_path)
    written.save(tmp_path / "settings.json")
    words = _entry._configured(["--config", str(tmp_path / "settings.json"), "--steps", "9"])
    import tyro

    read = tyro.cli(Settings, args=words)
    assert (read.steps, read.hidden, read.robot, read.target) == (9, (8, 8), "arm", (0.5, 0.1))
    assert read.out == tmp_path
    assert read.sigma is None


def test_a_table_in_a_file_gives_names_and_values(tmp_path):
    config = tmp_path / "flags.toml"
    config.write_text("seed = 3\n[set]\nnum_envs = 64\nlearning_rate = 1e-3\n")
    words = _entry._configured(["--config", str(config)])
    assert words == ["--seed", "3", "--set", "num_envs", "64", "learning_rate", "0.001"]


@pytest.mark.parametrize(
    ("text", "told"),
    [("steps = ", "expected TOML"), (None, "No such file"), ("stepz = 1\n", "stepz"),
     ("steps = " + "[" * 5000, "expected TOML: maximum recursion"), ("\0", "expected TOML")],
)  # fmt: skip
def test_a_file_that_cannot_be_used_is_told(text, told, scene, tmp_path, capsys):
    config = tmp_path / "bad.toml"
    if text is not None:
        config.write_text(text)
    assert script.run("simulate", scene, "--config", config) == 2
    assert told in capsys.readouterr().err


def test_quiet_says_nothing_but_what_json_asks_for(scene, capsys):
    assert script.run("simulate", scene, "--quiet") == 0
    assert capsys.readouterr().out == ""
    assert script.run("simulate", scene, "--quiet", "--json") == 0
    assert json.loads(capsys.readouterr().out)["status"] == "ok"


def fails(error):
    def main():
        raise error

    return main


def test_how_a_script_ends(monkeypatch, capsys):
    assert ended(monkeypatch, lambda: None) == 0
    assert ended(monkeypatch, lambda: 3) == 3
    for kind in KINDS:
        assert ended(monkeypatch, fails(kind("no\nluck"))) == 2
        assert capsys.readouterr().err == "error: no luck\n"
    assert ended(monkeypatch, fails(FileNotFoundError(2, "No such file", "it"))) == 2
    assert capsys.readouterr().err == "error: it: No such file\n"
    assert ended(monkeypatch, fails(KeyboardInterrupt())) == 130
    assert capsys.readouterr().err == "\ninterrupted\n"


def test_what_a_script_found_is_one_json_object(monkeypatch, capsys):
    def main():
        print("a table")
        return 1, {"x": float("nan")}

    for words, out, err in (
        ((), "a table\n", ""),
        (("--json",), '{"x": null}\n', "a table\n"),
        (("--json", "--quiet"), '{"x": null}\n', ""),
        (("--json", "--no-json"), "a table\n", ""),
    ):
        assert ended(monkeypatch, main, *words) == 1
        assert tuple(capsys.readouterr()) == (out, err)


def test_a_fault_of_the_program_is_not_hidden(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["some.py"])
    with pytest.raises(LookupError):
        _entry.entry(fails(LookupError("a slip")))


def test_an_interrupt_says_how_to_go_on(monkeypatch, capsys):
    def main():
        with _entry.hinting("do it again"):
            raise KeyboardInterrupt

    assert ended(monkeypatch, main) == 130
    assert capsys.readouterr().err == "\ninterrupted; do it again\n"


class Collected:
    """An interrupt comes while it is thrown away, where no error can be raised."""

    def __del__(self):
        raise KeyboardInterrupt


def test_an_interrupted_program_ends_where_it_is():
    """What the compiler was at work on breaks an interpreter that throws it away."""
    code = """
import os
from _entry import entry

class Broken:
    def __del__(self, abort=os.abort):
        abort()

def main():
    print("begun")
    raise KeyboardInterrupt

broken = Broken()
entry(main)"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": str(script.SCRIPTS)}, capture_output=True, text=True,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (130, "begun\n", "\ninterrupted\n")


def test_an_interrupt_that_python_drops_comes_again(monkeypatch, capsys):
    def main():
        Collected()
        time.sleep(60)

    assert ended(monkeypatch, main) == 130
    assert capsys.readouterr().err == "\ninterrupted\n"


def test_an_interrupt_waits_for_a_module_to_load(monkeypatch, capsys, tmp_path):
    text = "import os, signal\nos.kill(os.getpid(), signal.SIGINT)\nloaded = sum(range(10**5))\n"
    (tmp_path / "module_that_loads.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)

    def main():
        import module_that_loads

        assert module_that_loads.loaded
        time.sleep(60)

    assert ended(monkeypatch, main) == 130
    assert capsys.readouterr().err == "\ninterrupted\n"
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_debug_shows_where_it_happened(monkeypatch, capsys):
    assert ended(monkeypatch, fails(ValueError("no luck")), "--steps", "3", "--debug") == 2
    assert sys.argv == ["some.py", "--steps", "3"]
    said = capsys.readouterr().err
    assert said.startswith("Traceback")
    assert said.endswith("error: no luck\n")


def test_a_long_error_says_what_was_got():
    assert _entry._line(f"expected {'one of many, ' * 200} got 'foo'").endswith("got 'foo'")


@pytest.mark.filterwarnings("default")
def test_a_warning_is_one_line(monkeypatch, capsys):
    assert ended(monkeypatch, lambda: warnings.warn("mind\nthe gap", stacklevel=1)) == 0
    assert capsys.readouterr().err == "warning: mind the gap\n"


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
    Path("USED", "metrics.csv").write_text("step\n")
    Path("USED", "settings.json").touch()
    assert script.run(*words) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("error: ")
    assert said.err.count("\n") == 1
    assert message in said.err


# What each script cannot use: a file, a folder, a flag.
REFUSED = {
    "benchmark": ["sphere --largest 0", "spher", "delay --scans x", "growth none"],
    "compare_gradients": ["--out FILE", "--out BROKEN", "--sigma 0.1 -1", "--samples 0 --full"],
    "compare_training": ["--out FILE", "--seeds 0 0", "--gradients foo"],
    "delay": ["broken.npy", "broken.csv", "none.csv", "broken.npy --plot FILE/x.png"],
    "digits": ["--out FILE/x.png", "--steps 0", "--seeds 1"],
    "evaluate": ["BROKEN", "FILE", "BROKEN --serves 0", "--seed 1"],
    "identify": ["broken.csv", "broken.csv --scene broken.toml", "broken.csv --plot x.foo"],
    "integrate": ["broken.npy", "none.npy", "broken.npy --closed perhaps"],
    "invert_landing": ["--samples 0", "--hidden 0", "--spread x"],
    "make_flights": ["--directory FILE", "--noise -1 --directory OUT"],
    "make_gpr": ["--directory FILE", "--direktory OUT"],
    "radar": ["--plot FILE/x.png", "--pulses 0", "--position nan 0 0"],
    "reproduce": ["nothing", "--jsonn"],
    "simulate": ["broken.toml", "broken.toml --html x.png", ""],
    "train": ["--out FILE", "--resume --out BROKEN", "--steps 0", "--gradient foo", "--stepz 3"],
    "train_brax": ["--out FILE", "--budget 0", "--limit x", "--algorithm foo"],
    "train_closed_loop": ["--out FILE", "--resume --out BROKEN", "--env foo", "--discount 1.01"],
}


@pytest.fixture
def broken(tmp_path, monkeypatch):
    """Here are files and folders that cannot be used."""
    monkeypatch.chdir(tmp_path)
    Path("FILE").touch()
    Path("broken.npy").write_bytes(b"\x93NUMPY\x01\x00junk")
    Path("broken.csv").write_text("a,b\nx,y\n")
    Path("broken.toml").write_text("[ball]\nposition = 3\n")
    Path("BROKEN", "checkpoints", "3").mkdir(parents=True)
    Path("BROKEN", "checkpoints", "3", _SUM).touch()
    for name in ("settings", "finished"):
        Path("BROKEN", f"{name}.json").write_text('{"steps": [')


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_script_refuses_what_it_cannot_use_in_one_line(name, broken, capsys):
    def files():
        return sorted(filter(Path.is_file, Path().rglob("*")))

    before = files()
    for words in REFUSED[name]:
        assert script.run(name, *words.split()) == 2, words
        said = capsys.readouterr()
        assert said.err.startswith("error: "), words
        assert said.err.count("\n") == 1, said.err
        assert len(said.err) < 1100
        assert not said.out, words
        assert files() == before, words
        if "see --help" not in said.err:
            assert script.run(name, *words.split(), "--debug") == 2
            shown = capsys.readouterr().err
            assert shown.startswith("Traceback")
            assert shown.endswith(said.err)
            os.environ["DIFFSIM_DEBUG"] = ""


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_script_ends_with_130_after_an_interrupt(name, monkeypatch, capsys):
    for place in ("tyro.cli", "tyro.extras.subcommand_cli_from_dict"):
        monkeypatch.setattr(place, mock.Mock(side_effect=KeyboardInterrupt))
    assert script.run(name) == 130
    assert capsys.readouterr().err.startswith("\ninterrupted")


# A file, a figure, a run, a sweep, a benchmark; while it imports, compiles, and works.
@pytest.mark.slow
@pytest.mark.parametrize("seconds", [0.5, 1.5, 4.0, 7.0])
@pytest.mark.parametrize(
    "words",
    ["simulate scene.toml --x64 --gradient", "radar", "train", "train_closed_loop",
     "benchmark sphere", "compare_gradients", "invert_landing"],
)  # fmt: skip
def test_an_interrupt_at_any_time_ends_a_program_without_a_traceback(
    words, seconds, scene, tmp_path
):
    name, *rest = words.split()
    command = [sys.executable, str(script.SCRIPTS / f"{name}.py"), *rest, "--no-cache"]
    paths = os.environ | {"PYTHONPATH": str(script.SCRIPTS.parent)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    program = subprocess.Popen(command, cwd=tmp_path, env=paths, start_new_session=True, **pipes)
    time.sleep(seconds)
    os.killpg(program.pid, signal.SIGINT)
    _, said = program.communicate(timeout=60)
    assert program.returncode == 130, said
    assert said.splitlines()[-1].startswith("interrupted")
    assert "Traceback" not in said


def test_what_is_compiled_is_kept_unless_asked_not_to(monkeypatch, tmp_path):
    seen = []
    monkeypatch.delitem(os.environ, "JAX_COMPILATION_CACHE_DIR", raising=False)
    monkeypatch.setitem(os.environ, "XDG_CACHE_HOME", str(tmp_path))

    def main():
        seen.append(os.environ.get("JAX_COMPILATION_CACHE_DIR"))

    assert ended(monkeypatch, main, "--no-cache") == 0
    assert ended(monkeypatch, main) == 0
    assert seen[0] is None
    assert Path(seen[1]).parent == tmp_path / "diffsim"
