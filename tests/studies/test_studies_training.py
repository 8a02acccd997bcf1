"""Trainings with several gradients: one compilation each, going on where they were stopped."""

import dataclasses

import pytest
from point import Point

from diffsim.gradients import METHODS
from diffsim.training import Trainer
from studies.training.plan import Plan, Run, differentiates, run

# Compiles or starts so much that the default run has no room.
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_by_one")]


def plan(out, **changes):
    few = {"gradients": ("pathwise", "spsa"), "seeds": (0, 1), "steps": 8, "batch": 4}
    return Plan(out=out, log_every=4, **few | changes)


def silent(gradient, seed, row):
    pass


@pytest.fixture
def compiled(monkeypatch):
    """How many updates were compiled."""
    made, compile_ = [], Trainer.compile

    def spy(trainer):
        made.append(trainer.settings.gradient)
        return compile_(trainer)

    monkeypatch.setattr(Trainer, "compile", spy)
    return made


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A plan run in one go: its folder, its runs and what was reported."""
    reports, out = [], tmp_path_factory.mktemp("whole")
    runs = list(run(plan(out), Point(), progress=lambda *at: reports.append(at)))
    return out, runs, reports


def same_rows(first, second):
    """Equal but for the seconds; as text, so that nan is nan."""
    zero = {"seconds": 0, "cpu_seconds": 0}
    return repr([row | zero for row in first]) == repr([row | zero for row in second])


def test_every_gradient_is_trained_from_every_seed(whole):
    _, runs, reports = whole
    assert [(r.gradient, r.seed) for r in runs] == [
        ("pathwise", 0), ("spsa", 0), ("pathwise", 1), ("spsa", 1),
    ]  # fmt: skip
    for r in runs:
        assert [row["step"] for row in r.rows] == [0, 4, 8]
        # One simulation a serve, or sixteen pairs of them.
        each = 1 if r.gradient == "pathwise" else 32
        assert [row["evaluations"] for row in r.rows] == [0, 16 * each, 32 * each]
        assert r.rows[1]["seconds"] < r.compile_seconds  # which are not part of it
        low, value, high = r.final["hit_rate"].low, r.final["hit_rate"].value, 1.0
        assert 0 <= low <= value <= high
    assert {at[:2] for at in reports} == {(r.gradient, r.seed) for r in runs}


def test_an_interrupted_plan_goes_on(whole, tmp_path, compiled):
    one = plan(tmp_path, gradients=("pathwise",))

    def stop(gradient, seed, row):
        if (seed, row["step"]) == (1, 5):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(run(one, Point(), progress=stop))
    assert compiled == ["pathwise"]  # once for both seeds
    steps: list[tuple] = []
    again = list(run(one, Point(), progress=lambda _, seed, row: steps.append((seed, row["step"]))))
    assert {step for seed, step in steps if seed == 1} == {6, 7, 8}
    assert all(seed == 1 for seed, _ in steps)  # the other was finished, and is only read
    for first, second in zip(whole[1][::2], again, strict=True):
        assert same_rows(first.rows, second.rows)
        assert repr(first.final) == repr(second.final)
    compiled.clear()
    assert repr(list(run(one, Point(), progress=silent))) == repr(again)
    assert compiled == []


def test_other_settings_in_the_folder_are_refused_before_anything_runs(whole, compiled):
    folder = whole[0] / "spsa" / "seed-1"
    before = (folder / "settings.json").read_text()
    other = plan(whole[0], gradients=("haar", "spsa"), seeds=(5, 1), steps=9)
    with pytest.raises(FileExistsError, match=r"seed-1: has a run with other settings; change"):
        list(run(other, Point(), progress=silent))
    assert compiled == []
    assert (folder / "settings.json").read_text() == before
    assert not (whole[0] / "haar").exists()


def test_reaching_a_level_needs_error_and_rate():
    seen = [(float("nan"), 0.0), (3.0, 0.1), (9.0, 1.0), (5.0, 0.95)]
    rows = [{"landing_error_cm": error, "legal_rate": rate} for error, rate in seen]
    one = Run("pathwise", 0, 1.0, rows, {})
    assert one.reached(6.0) == rows[3]
    assert one.reached(10.0) == rows[2]
    assert one.reached(4.0) is None


DERIVATIVES = {"pathwise", "pathwise-forward", "pathwise-smoothed", "forward-gradient",
               "smoothing-first-order", "alpha-order", "inverse-variance",
               "total-propagation"}  # fmt: skip


@pytest.mark.parametrize("name", [name for name in METHODS if name != "complex-step"])
def test_which_methods_differentiate(name):
    assert differentiates(METHODS[name]) == (name in DERIVATIVES)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"gradients": ()}, "gradients: expected different ones, at least one"),
        ({"seeds": (1, 1)}, r"seeds: expected different ones, at least one, got \(1, 1\)"),
        ({"gradients": ("newton",)}, "gradient: expected one of pathwise"),
        ({"steps": 0}, "steps: expected > 0, got 0"),
        ({"error": 0.0}, "error: expected > 0, got 0.0"),
        ({"clock": "sun"}, "clock: expected seconds or cpu_seconds, got 'sun'"),
    ],
)
def test_bad_plans_are_refused(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        plan(tmp_path, **changes)


def test_settings_of_a_run_have_their_own_folder(tmp_path):
    found = plan(tmp_path).settings("alpha-order", 1)
    assert found.out == tmp_path / "alpha-order" / "seed-1"
    assert (found.samples, found.sigma, found.checkpoint_every) == (8, 0.05, 2)
    assert dataclasses.replace(found, seed=0).method().samples == 8
