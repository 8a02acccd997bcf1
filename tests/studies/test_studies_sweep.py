"""The ball/paddle comparison: its task, its bookkeeping, its words and its command."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import script

from diffsim.gradients import Gaussian, Pathwise, compare
from diffsim.physics import Compliant, Impulse, Smoothed
from studies.gradients import sweep, verdict
from studies.gradients.keep_up import KeepUp, contact

pytestmark = pytest.mark.slow  # compiles or starts so much that the default run has no room


def test_keep_up_against_the_closed_form(monkeypatch):
    """On a paddle at rest the ball is at e^{2n} of its height when time is up."""
    monkeypatch.setattr("studies.gradients.keep_up.HEAVE", 0.0)
    loss = jax.jit(lambda weights, task: task(weights))
    for bounces in (1, 3):
        task = KeepUp.create(0.8, bounces)
        height = task.height
        # Drag takes a little of it.
        expected = (0.8 ** (2 * bounces) - 0.5) * height
        assert float(loss(jnp.zeros(3), task)) == pytest.approx(expected**2, abs=0.05 * height**2)


def test_contacts():
    assert isinstance(contact("impulse"), Impulse)
    stiff, soft = contact("compliant:1e4"), contact("compliant:1e2")
    assert isinstance(stiff, Compliant)
    assert stiff.substeps == pytest.approx(10 * soft.substeps, rel=0.05)
    assert isinstance(contact("smoothed:500"), Smoothed)
    for name in ("compliant", "compliant:-1", "glue", "smoothed:inf"):
        with pytest.raises(ValueError, match="expected impulse, compliant:STIFFNESS"):
            contact(name)
    with pytest.raises(ValueError, match="bounces: expected at least 1, got 0"):
        KeepUp.create(0.8, 0)


def test_settings():
    axes = {"bounces": (1, 2, 4), "sigma": (0.1, 0.2)}
    found = sweep.settings(sweep.Setting(), axes)
    assert [(s.bounces, s.sigma) for s in found] == [(2, 0.1), (1, 0.1), (4, 0.1), (2, 0.2)]
    assert len(sweep.settings(sweep.Setting(), axes, full=True)) == 6
    every = sweep.names(["all"])
    assert "complex-step" not in every
    assert len(every) > 20
    for name in every:
        sweep.configured(name, 0.1, 64).check()
    with pytest.raises(ValueError, match="methods: expected all or some of"):
        sweep.names(["complex-step"])


def test_compare_shares_what_it_compiled():
    traced = []

    def loss(x, factor):
        traced.append(1)
        return factor * jnp.sum(x**2)

    for factor, sigma in ((1.0, 0.1), (3.0, 0.2)):
        found = compare(
            loss,
            jnp.ones(2),
            {"noisy": Pathwise(Gaussian(sigma), samples=4)},
            args=(factor,),
            chunk=1,
            reference=2 * factor * jnp.ones(2),
            key=jax.random.key(0),
            replications=64,
        )
        assert found.rows[0].variance.value == pytest.approx(
            2 * (2 * factor * sigma) ** 2 / 4, rel=0.6
        )
        assert found.rows[0].bias.low < 0.1 * factor
    assert len(traced) == 1


@pytest.fixture
def easy(monkeypatch):
    """A loss that needs no physics: a bowl whose bottom the task's height moves."""
    loss = lambda weights, task: jnp.sum((weights + task.height) ** 2)  # noqa: E731
    monkeypatch.setattr(sweep, "_loss", loss)


def test_sweep_measures_and_goes_on_after_an_interruption(easy, tmp_path, monkeypatch):
    points = sweep.settings(sweep.Setting(samples=8), {"sigma": (0.1, 0.2)})
    methods = ("pathwise", "score-function")
    quick = {"replications": 64, "reference_samples": 20_000}
    real, calls = sweep.measure, []

    def interrupted(setting, name, **others):
        calls.append(name)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(setting, name, **others)

    monkeypatch.setattr(sweep, "measure", interrupted)
    file = tmp_path / "deep" / "finished.json"
    with pytest.raises(KeyboardInterrupt):
        list(sweep.sweep(points, methods, sweep.Store(file), **quick))
    rows = list(sweep.sweep(points, methods, sweep.Store(file), **quick))
    assert len(calls) == 5  # two before, one lost, and the two that were missing
    assert len(rows) == 4
    assert [p.name for p in file.parent.iterdir()] == ["finished.json"]
    again = list(sweep.sweep(points, methods, sweep.Store(file), **quick))
    assert again == rows
    assert len(calls) == 5
    for row in rows:
        assert row["verdict"] in ("right", "cannot tell"), row
        assert row["relative_bias"] < 0.1
    smooth, rough = rows[:2]
    assert smooth["verdict"] == "right"
    assert smooth["evaluations"] == rough["evaluations"] == 8
    assert rough["evaluations_to_tenth"] > 3 * smooth["evaluations_to_tenth"]


def row(method, verdict="right", seconds=1.0, **changes):
    base = {"horizon": 0.8, "bounces": 2, "contact": "impulse", "radius": 0.25, "sigma": 0.1,
            "samples": 64}  # fmt: skip
    return base | {
        "method": method, "verdict": verdict, "relative_bias": 0.9 if verdict == "wrong" else 0.01,
        "relative_deviation": 1.0, "seconds_to_tenth": None if verdict == "wrong" else seconds,
        "evaluations_to_tenth": None if verdict == "wrong" else 100 * seconds, "cosine": 0.5,
    } | changes  # fmt: skip


def test_words():
    rows = [
        row("pathwise", seconds=0.5), row("score-function", seconds=2.0),
        row("pathwise", "wrong", bounces=4), row("score-function", seconds=3.0, bounces=4),
        row("pathwise", "cannot tell", bounces=8), row("score-function", bounces=8),
        row("pathwise", "cannot tell", bounces=9), row("score-function", "wrong", bounces=9),
    ]  # fmt: skip
    base = {axis: rows[0][axis] for axis in verdict.AXES}
    analytic, score, bounces = verdict.words(rows, base)
    assert analytic.startswith(
        "pathwise: right in 1 of 4 settings, cannot tell in 2, cheapest in 1; where right, 50"
    )
    assert analytic.endswith("wrong in 1, worst bias 90% at bounces 4.")
    assert "right in 3 of 4 settings, cheapest in 2" in score
    assert bounces == (
        "Over bounces: 2: pathwise by 4×, 4: score-function, alone right, "
        "8: score-function, alone shown right, 9: cannot tell."
    )


@pytest.mark.parametrize(
    ("low", "high", "error", "verdict"),
    [
        (0.0, 0.05, 0.01, "right"),
        (0.0, 0.05, 0.03, "cannot tell"),  # the reference is not known well enough
        (0.0, 0.68, 0.0, "cannot tell"),  # not refuted is not right
        (0.15, 0.3, 0.02, "wrong"),
        (0.15, 0.3, 0.03, "cannot tell"),
    ],
)
def test_verdicts_of_bias_intervals(low, high, error, verdict):
    record = {
        "objective": "smoothed", "bias": high / 2, "bias_low": 2 * low, "bias_high": 2 * high,
        "variance": 1.0, "samples": 64, "evaluations": 64, "seconds": 1.0,
    }  # fmt: skip
    reference = {"gradient": [0.0, 2.0], "error": 2 * error, "evaluations": 64}
    found = sweep.judged(record, reference)
    assert found["verdict"] == verdict
    assert (found["seconds_to_tenth"] is None) == (verdict == "wrong")
    ranked = sweep.judged({**record, "objective": "rank-shaped"}, reference)
    assert (ranked["verdict"], ranked["seconds_to_tenth"]) == (None, None)
    flat = sweep.judged(record, {**reference, "gradient": [0.0, 0.0], "error": 0.0})
    assert flat["verdict"] == "cannot tell", "there is no gradient to be a tenth of"


def test_no_method_is_its_own_judge(easy, tmp_path):
    assert all(sweep.judge_of(name) != name for name in sweep.METHODS)
    quick = {"replications": 8, "reference_samples": 20_000}
    store = sweep.Store(tmp_path / "finished.json")
    setting = sweep.Setting(samples=64)
    rows = list(sweep.sweep([setting], ["measure-valued", "pathwise"], store, **quick))
    first, second = (np.asarray(row["reference_norm"]) for row in rows)
    assert first != second
    assert abs(first - second) < 4 * np.hypot(*(row["reference_error"] for row in rows))


def test_a_reference_ends_when_its_time_is_up(easy):
    make = lambda **limit: sweep.reference(  # noqa: E731
        sweep.Setting(), "score-function", seed=0, samples=3 * sweep.PORTION, **limit
    )
    whole, short = make(), make(seconds=0.0)
    assert (whole["evaluations"], short["evaluations"]) == (3 * sweep.PORTION, sweep.PORTION)
    assert short["error"] == pytest.approx(np.sqrt(3) * whole["error"], rel=0.1)
    apart = np.linalg.norm(np.subtract(whole["gradient"], short["gradient"]))
    assert 0 < apart < 4 * short["error"]


@pytest.fixture
def command(capsys):
    """Run the script; return its exit code, output and errors."""

    def run(*arguments):
        code = script.run("compare_gradients", *arguments)
        output = capsys.readouterr()
        return code, output.out, output.err

    return run


def test_command_compares(easy, command, tmp_path):
    arguments = ["--out", tmp_path, "--replications", "16", "--reference-samples", "2000",
                 "--bounces", "1", "2", "--sigma", "0.1", "--samples", "64",
                 "--horizon", "0.8", "--contact", "impulse", "--radius", "0.25"]  # fmt: skip
    code, output, _ = command(*arguments)
    assert code == 0
    assert "When is which gradient right, and what does it cost?" in output
    rows = json.loads((tmp_path / "comparison.json").read_text())
    assert {(r["bounces"], r["method"]) for r in rows} == {
        (n, m) for n in (1, 2) for m in ("pathwise", "score-function")
    }
    assert (tmp_path / "comparison.csv").read_text().count("\n") == 5
    assert (tmp_path / "comparison.png").stat().st_size > 10_000
    assert "Over bounces" in (tmp_path / "answer.txt").read_text()


def test_command_runs_a_case_and_refuses_bad_input(command, tmp_path):
    code, output, _ = command("--case", "chaos", "--effort", "100000", "--out", tmp_path)
    assert code == 0, output
    assert "13 of 13 published figures agree" in output
    assert (tmp_path / "chaos.csv").exists()
    assert command("--methods", "newton", "--out", tmp_path)[::2][0] == 2
    code, _, errors = command("--base.contact", "glue", "--out", tmp_path)
    assert (code, errors.count("\n")) == (2, 1)
    assert "error: contact: expected impulse" in errors


@pytest.mark.slow
def test_every_method_takes_part(easy, command, tmp_path):
    one = "--bounces 2 --sigma 0.1 --samples 64 --horizon 0.8 --contact impulse --radius 0.25"
    code, output, _ = command("--methods", "all", "--out", tmp_path, "--replications", "16",
                              "--reference-samples", "2000", *one.split())  # fmt: skip
    assert code == 0
    rows = json.loads((tmp_path / "comparison.json").read_text())
    assert {row["method"] for row in rows} == set(sweep.names(["all"]))
    assert all(row["cosine"] > 0.5 for row in rows)
    assert "evolution-strategies-ranked: another objective, whose cosine is" in output


@pytest.mark.slow
def test_physics_through_the_command(command, tmp_path):
    arguments = "--replications 16 --bounces 1 2 --sigma 0.1 --samples 32 --base.samples 32"
    physics = "--horizon 0.8 --radius 0.25 --contact impulse compliant:100"
    code, *_ = command("--out", tmp_path, *arguments.split(), *physics.split())
    assert code == 0
    rows = json.loads((tmp_path / "comparison.json").read_text())
    assert len(rows) == 6
    once = next(r for r in rows if r["bounces"] == 1 and r["method"] == "pathwise")
    assert once["verdict"] == "right"
