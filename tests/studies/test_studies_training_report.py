"""The comparison of trainings as a person sees it: table, CSV files and figure."""

import csv
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from point import Point
from rich.console import Console
from scipy.stats import t

from diffsim._intervals import Interval
from studies import harness
from studies.training import report
from studies.training.plan import Plan, Run

ROOT = Path(__file__).parents[2]


def made(gradient, seed, rate, cost, compile_seconds=3.0, steps=20):
    """A run whose error falls as 30 exp(−rate · step) cm."""
    rows = [
        {
            "step": 10 * i,
            "evaluations": 10 * i * cost,
            "seconds": 0.1 * i * cost,
            "cpu_seconds": 0.05 * i * cost,
            "loss": 1.0,
            "legal_rate": min(1.0, 0.1 * i),
            "landing_error_cm": 30 * math.exp(-rate * 10 * i),
        }
        for i in range(steps + 1)
    ]
    error = 2.0 + seed
    final = {"landing_error_cm": Interval(error, error, error), "legal_rate": Interval(1.0, 1, 1)}
    return Run(gradient, seed, compile_seconds, rows, final)


RUNS = [made("pathwise", seed, 0.02 + 0.002 * seed, 1) for seed in range(3)] + [
    made("spsa", seed, 0.001, 32, 7.0) for seed in range(3)
]


def test_the_summary_counts_what_it_took():
    fast, slow = report.summary(RUNS, 6.0)
    # 30 exp(−rate · step) ≤ 6: steps 81, 74 and 68, seen every 10 steps; legal from step 90 on.
    assert (fast["evaluations"], fast["evaluations_low"], fast["evaluations_high"]) == (90, 90, 90)
    assert (fast["reached"], fast["seeds"], fast["derivatives"]) == (3, 3, True)
    assert fast["landing_error_cm"] == pytest.approx(3.0)
    half = t.ppf(0.975, 2) / 3**0.5  # of 2, 3 and 4, whose deviation is 1
    assert fast["landing_error_cm_low"] == pytest.approx(3 - half)
    assert fast["landing_error_cm_high"] == pytest.approx(3 + half)
    assert (slow["reached"], slow["derivatives"]) == (0, False)
    assert math.isinf(slow["evaluations"])
    assert fast["seconds"] == pytest.approx(0.9)
    assert report.summary(RUNS, 6.0, "cpu_seconds")[0]["seconds"] == pytest.approx(0.45)
    one = report.summary(RUNS[:1], 6.0)[0]
    assert math.isnan(one["landing_error_cm_low"])
    mixed = report.summary([RUNS[0], made("pathwise", 1, 0.001, 1)], 6.0)[0]
    assert mixed["reached"] == 1
    assert math.isinf(mixed["evaluations"])  # the later of two
    assert mixed["evaluations_low"] == 90


def test_the_table_reads(capsys):
    harness.show("until 6 cm", report.shown(report.summary(RUNS, 6.0)))
    head, columns, fast, slow = capsys.readouterr().out.splitlines()
    assert (head.strip(), columns.split()[0]) == ("until 6 cm", "gradient")
    for text in ("derivatives", "3 of 3", "90 (90 – 90)", "3.00 ("):
        assert text in fast
    for text in ("values only", "0 of 3", "never", "7"):
        assert text in slow


def test_the_figure_has_both_panels_and_bands(tmp_path, monkeypatch):
    from matplotlib.figure import Figure

    figures, subplots = [], Figure.subplots

    def spy(figure, *args, **options):
        figures.append(figure)
        return subplots(figure, *args, **options)

    monkeypatch.setattr(Figure, "subplots", spy)
    path = report.error_against_cost(RUNS, 6.0, path=tmp_path / "error.png")
    assert path.stat().st_size > 5_000
    left, right = figures[0].axes
    for axes, cost in ((left, 10), (right, 0.1)):
        assert axes.get_xscale() == axes.get_yscale() == "log"
        curve = axes.lines[0]
        np.testing.assert_allclose(curve.get_xdata(), cost * np.arange(6, 21))  # over half legal
        np.testing.assert_allclose(
            curve.get_ydata(), 30 * np.exp(-0.022 * 10 * np.arange(6, 21)), rtol=1e-6
        )
        assert len(axes.collections) == len(axes.lines) - 1 == 2  # a band each, and the level
    assert "pathwise (compiles in 3 s)" in [text.get_text() for text in figures[0].legends[0].texts]
    with pytest.raises(ValueError, match="ending in"):
        report.error_against_cost(RUNS, path=tmp_path / "error.bmp")
    never = [made("spsa", 0, 0.1, 1, steps=4)]  # no curve, but no error either
    assert report.error_against_cost(never, path=tmp_path / "none.svg").exists()


def test_a_plan_runs_to_its_files(tmp_path, monkeypatch):
    monkeypatch.setattr("diffsim.training.settings.Settings.task", lambda settings: Point())
    plan = Plan(("spsa",), (0, 1), steps=4, batch=2, log_every=2, out=tmp_path)
    with (tmp_path / "log").open("w") as log:
        report.run(plan, Console(file=log))
    assert "wrote" in (tmp_path / "log").read_text()
    with (tmp_path / "curves.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["seed"], float(row["step"])) for row in rows] == [
        (seed, step) for seed in "01" for step in (0, 2, 4)
    ]
    with (tmp_path / "summary.csv").open() as file:
        assert [row["gradient"] for row in csv.DictReader(file)] == ["spsa"]
    assert (tmp_path / "error.png").exists()
    assert not list(tmp_path.glob(".*"))


def test_a_bad_flag_of_the_script_is_explained():
    command = [sys.executable, str(ROOT / "scripts" / "compare_training.py")]
    bad = subprocess.run([*command, "--seeds", "1", "1"], capture_output=True, text=True,
                         check=False)  # fmt: skip
    assert bad.returncode == 2
    assert "seeds: expected different ones" in bad.stderr
    assert "Traceback" not in bad.stderr
