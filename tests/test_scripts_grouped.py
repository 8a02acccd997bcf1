"""Scripts of several processes: flags, and how they end."""

import dataclasses
from contextlib import contextmanager
from pathlib import Path

import pytest
from script import ended

from _entry import grouped
from diffsim.training.processes import Group


@dataclasses.dataclass(frozen=True)
class Little:
    """Settings of next to nothing."""

    steps: int = 3
    """Updates."""
    out: Path = Path("runs/little")
    """Folder."""

    def __post_init__(self):
        if self.steps < 1:
            raise ValueError(f"steps: expected > 0, got {self.steps}")


def grouped_ended(monkeypatch, run, *flags, kind=Little, **options):
    """The code with which a script of several processes ends."""
    main = lambda: grouped(kind, run, "Does little.", **options)  # noqa: E731
    return ended(monkeypatch, main, *flags)


def test_run_gets_its_own_settings_alone(monkeypatch):
    seen = []
    assert grouped_ended(monkeypatch, seen.append, "--steps", "5") == 0
    assert grouped_ended(monkeypatch, seen.append, default=lambda: Little(7)) == 0
    assert seen == [Little(5), Little(7)]
    assert {type(one) for one in seen} == {Little}


def test_help_tells_settings_and_processes_apart(monkeypatch, capsys):
    assert grouped_ended(monkeypatch, print, "--help") == 0
    out = capsys.readouterr().out
    assert out.index("--steps") < out.index("group options") < out.index("--coordinator")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--steps", "0"), "steps: expected > 0, got 0"),
        (("--processes", "2"), "coordinator: expected host:port or auto"),
    ],
)
def test_a_bad_flag_is_explained(monkeypatch, capsys, flags, message):
    assert grouped_ended(monkeypatch, print, *flags) == 2
    assert message in " ".join(capsys.readouterr().err.split())


def test_an_interrupt_says_how_to_go_on(monkeypatch, capsys, tmp_path):
    def run(settings):
        raise KeyboardInterrupt

    monkeypatch.chdir(tmp_path)
    assert grouped_ended(monkeypatch, run, "--out", "there") == 130
    assert capsys.readouterr().err == "\ninterrupted; nothing is kept yet: start again\n"
    (tmp_path / "there" / "checkpoints" / "5").mkdir(parents=True)
    assert grouped_ended(monkeypatch, run, "--out", "there") == 130
    assert capsys.readouterr().err == "\ninterrupted; go on with --resume --out there\n"

    @contextmanager
    def connected(group):
        raise KeyboardInterrupt
        yield

    monkeypatch.setattr(Group, "connected", connected)
    assert grouped_ended(monkeypatch, run) == 130
    assert capsys.readouterr().err == "\ninterrupted\n"


def test_of_several_processes_one_that_fails_does_not_wait_for_the_others(monkeypatch, capsys):
    @contextmanager
    def connected(group):
        yield

    def leave(code):
        raise SystemExit(-code)

    def run(settings):
        raise LookupError("of a simulator")

    monkeypatch.setattr(Group, "connected", connected)
    monkeypatch.setattr("os._exit", leave)
    flags = "--coordinator", "localhost:1", "--processes", "2", "--process", "1"
    assert grouped_ended(monkeypatch, run, *flags) == -1
    assert "LookupError: of a simulator" in capsys.readouterr().err
    assert grouped_ended(monkeypatch, run, *flags, "--steps", "0") == -2
    with pytest.raises(LookupError):
        grouped_ended(monkeypatch, run)


def test_processes_meet_before_settings_are_made(monkeypatch):
    """Settings may compute something to check themselves, and JAX joins others only before."""
    met = []

    @contextmanager
    def connected(group):
        met.append(group.coordinator)
        yield

    @dataclasses.dataclass(frozen=True)
    class Computing(Little):
        def __post_init__(self):
            assert met == ["auto"]

    monkeypatch.setattr(Group, "connected", connected)
    flags = "--coordinator", "auto", "--steps", "5"
    assert grouped_ended(monkeypatch, print, *flags, kind=Computing) == 0
