"""What every script shares: help without markup, settings from files, quiet."""

import json

import jax
import pytest
import script

FAST = ("simulate", "train", "benchmark", "compare_gradients", "integrate")
BENCHMARKS = ("accelerator", "closed-loop", "growth", "invertible", "sphere")


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
    words = script.load("_entry")._configured(["scene", f"--config={config}", "--no-json"])
    assert words == ["scene", "--json", "--no-json"]  # the last one counts


def test_a_run_s_settings_come_back(tmp_path):
    from diffsim.training import Settings

    entry = script.load("_entry")
    written = Settings(steps=7, hidden=(8, 8), robot="arm", target=(0.5, 0.1), out=tmp_path)
    written.save(tmp_path / "settings.json")
    words = entry._configured(["--config", str(tmp_path / "settings.json"), "--steps", "9"])
    import tyro

    read = tyro.cli(Settings, args=words)
    assert (read.steps, read.hidden, read.robot, read.target) == (9, (8, 8), "arm", (0.5, 0.1))
    assert read.out == tmp_path
    assert read.sigma is None


@pytest.mark.parametrize(
    ("text", "told"),
    [("steps = ", "expected TOML"), (None, "No such file"), ("stepz = 1\n", "stepz")],
)
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
