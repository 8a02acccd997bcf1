"""The parts of training: checkpoints, metrics, settings, intervals and the scripts' flags."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from diffsim import gradients
from diffsim._intervals import Interval, mean_interval, student_interval, wilson
from diffsim.training import MLP, Checkpoints, Settings
from diffsim.training.evaluate import rows, summary
from diffsim.training.metrics import MetricsWriter, read

SCRIPTS = Path(__file__).parents[2] / "scripts"


def state(scale, impl="threefry2x32"):
    return {
        "params": (scale * jnp.arange(3.0), jnp.float32(scale)),
        "key": jax.random.key(int(scale), impl=impl),
        "step": jnp.asarray(int(scale)),
    }


def same(a, b):
    """Equal in structure, dtype and every bit."""
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert x.dtype == y.dtype
        if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            x, y = jax.random.key_data(x), jax.random.key_data(y)
        assert np.asarray(x).tobytes() == np.asarray(y).tobytes()


@pytest.mark.parametrize("impl", ["threefry2x32", "rbg"])
def test_a_checkpoint_gives_back_every_bit_and_typed_keys(tmp_path, impl):
    saved = state(np.pi, impl)
    Checkpoints(tmp_path / "deep" / "down").save(3, saved)
    same(Checkpoints(tmp_path / "deep" / "down").restore(state(0, impl)), saved)


def test_the_last_three_checkpoints_stay_and_nothing_else(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    for step in range(1, 6):
        checkpoints.save(step, state(step))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["3", "4", "5"]
    checkpoints.save(5, state(9))  # a step already there is left alone
    same(checkpoints.restore(state(0)), state(5))


def test_one_checkpoint_is_not_enough(tmp_path):
    with pytest.raises(ValueError, match="keep: expected >= 2, got 1"):
        Checkpoints(tmp_path, keep=1)
    assert Checkpoints(tmp_path, keep=2).steps() == []
    assert Settings(spin=0.0, floor=0).floor == 0


def test_a_missing_checkpoint_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=f"no checkpoint in {tmp_path}"):
        Checkpoints(tmp_path).restore(state(0))


def test_a_resumed_metrics_file_drops_rows_after_its_checkpoint(tmp_path):
    with MetricsWriter(tmp_path) as metrics:
        for step in range(0, 50, 10):
            metrics.write({"step": step, "loss": 1 / (1 + step), "error": float("nan")})
    before = (tmp_path / "metrics.csv").read_text().splitlines()
    with MetricsWriter(tmp_path, 21) as metrics:
        metrics.write({"error": 1.0, "step": 30, "loss": 7.0})  # the file's order is kept
    lines = (tmp_path / "metrics.csv").read_text().splitlines()
    assert lines == [*before[:4], "30,7.0,1.0"]  # what is kept, to the letter
    got = read(tmp_path / "metrics.csv")
    assert [row["step"] for row in got] == [0, 10, 20, 30]
    assert [row["loss"] for row in got] == [1, 1 / 11, 1 / 21, 7]  # to the last bit
    assert np.isnan(got[0]["error"])
    assert not list(tmp_path.glob("*.tmp"))
    assert list((tmp_path / "tensorboard").glob("events*"))
    assert read(tmp_path / "none.csv") == []


def test_settings_come_back_from_json(tmp_path):
    settings = Settings(
        gradient="score-function", sigma=0.1, samples=5, hidden=(7,), target=(1.0, 0.2),
        out=tmp_path, resume=True,
    )  # fmt: skip
    settings.save(tmp_path / "settings.json")
    assert Settings.load(tmp_path / "settings.json") == settings
    assert [path.name for path in tmp_path.iterdir()] == ["settings.json"]


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("steps", 0, "steps: expected > 0, got 0"),
        ("batch", -1, "batch: expected > 0, got -1"),
        ("learning_rate", float("nan"), "learning_rate: expected > 0, got nan"),
        ("clip", 0.0, "clip: expected > 0"),
        ("spin", -0.5, "spin: expected >= 0, got -0.5"),
        ("floor", -1, "floor: expected >= 0, got -1"),
        ("floor", float("nan"), "floor: expected >= 0, got nan"),
        ("gradient", "newton", "gradient: expected one of pathwise, .*, got 'newton'"),
        ("gradient", "complex-step", "gradient: expected a method for real weights"),
        ("generator", "spline", "generator: expected one of .*bspline.*, got 'spline'"),
    ],
)
def test_bad_settings_name_the_field_and_what_is_allowed(field, value, expected):
    with pytest.raises(ValueError, match=expected):
        Settings(**{field: value})


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"any_target": True, "objective": "fastest"}, "objective: expected target where any is d"),
        ({"radar": True, "observe_spin": True}, "observe_spin: expected off with a radar"),
        *(
            (own | {"simulator": "mujoco"}, "simulator: expected events for any target")
            for own in (
                {"any_target": True}, {"objective": "fastest"}, {"randomise": True}, {"radar": True}
            )
        ),
    ],
)  # fmt: skip
def test_settings_that_exclude_each_other_are_refused(settings, expected):
    with pytest.raises(ValueError, match=expected):
        Settings(**settings)
    for name, value in settings.items():
        assert getattr(Settings(**{name: value}), name) == value


def test_estimator_settings_are_refused_where_the_estimator_has_none():
    with pytest.raises(ValueError, match=r"samples: .*central-difference"):
        Settings(gradient="central-difference", samples=3)
    with pytest.raises(ValueError, match=r"sigma: .*spsa"):
        Settings(gradient="spsa", sigma=0.1)
    with pytest.raises((ValueError, TypeError), match="samples"):
        Settings(gradient="spsa", samples=0)


@pytest.mark.parametrize("name", [name for name in gradients.METHODS if name != "complex-step"])
def test_every_gradient_name_builds_its_method(name):
    method = Settings(gradient=name).method()
    assert method == gradients.METHODS[name]
    for field, value in (("samples", 8), ("sigma", 0.25)):
        if field in type(method).__dataclass_fields__:
            assert getattr(Settings(gradient=name, **{field: value}).method(), field) == value


def test_sigma_sets_the_law_of_a_sampling_estimator():
    assert Settings(gradient="score-function", sigma=0.25).method().law == gradients.Gaussian(0.25)


@pytest.mark.parametrize("name", ["minimum-jerk", "dmp"])
def test_settings_build_the_task_they_describe(name):
    task = Settings(generator=name, spin=3.0, target=(1.1, -0.2)).task()
    assert task.generator(jnp.zeros(task.weight_count))(0.0).position.shape == (3,)
    assert float(task.serves.spin) == 3
    assert task.target.tolist() == [1.1, -0.2]


def test_the_network_starts_at_zero_in_the_default_precision():
    import flax.nnx as nnx

    network = MLP(6, (8,), 24, rngs=nnx.Rngs(0))
    out = network(jnp.ones(6))
    assert out.dtype == jnp.float64
    assert not out.any()


@pytest.mark.parametrize(("successes", "count"), [(0, 10), (10, 10), (3, 10), (950, 1000)])
def test_wilson_is_scipys(successes, count):
    expected = scipy.stats.binomtest(successes, count).proportion_ci(0.95, method="wilson")
    got = wilson(successes, count)
    # z is rounded to six decimals.
    np.testing.assert_allclose(got, [successes / count, expected.low, expected.high], atol=1e-7)


def test_the_mean_interval_is_the_normal_one():
    values = np.random.default_rng(0).normal(3, 2, 50)
    expected = scipy.stats.norm.interval(0.95, values.mean(), scipy.stats.sem(values))
    np.testing.assert_allclose(mean_interval(values), [values.mean(), *expected], rtol=1e-6)
    assert np.isnan(mean_interval(np.array([]))).all()
    one = mean_interval(np.array([2.0]))
    assert one.value == 2
    assert np.isnan([one.low, one.high]).all()


def test_measures_read_as_text():
    none = Interval(*[float("nan")] * 3)
    texts = dict(rows({"hit_rate": Interval(0.5, 0.25, 1.0), "legal_rate": Interval(0.0, 0.0, 0.1),
                       "landing_error_cm": none}))  # fmt: skip
    assert texts["hit rate"] == "50.0 % [25.0, 100.0]"
    assert texts["landing error"] == "no legal landing"


def script(name, *flags, timeout=60):
    command = [sys.executable, str(SCRIPTS / name), *map(str, flags)]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)


def test_train_lists_every_setting():
    done = script("train.py", "--help")
    assert done.returncode == 0, done.stderr
    for field in dataclasses.fields(Settings):
        flag = {"robot": "task"}.get(field.name, field.name)
        assert "--" + flag.replace("_", "-") in done.stdout


def test_a_bad_flag_of_train_is_explained_with_exit_code_2():
    done = script("train.py", "--steps", 0)
    assert done.returncode == 2
    assert "steps: expected > 0, got 0" in done.stderr
    assert "Traceback" not in done.stderr
    assert script("train.py", "--speed", 3).returncode == 2


def test_evaluate_says_what_is_missing(tmp_path):
    done = script("evaluate.py", tmp_path)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "settings.json" in done.stderr


@pytest.mark.slow
def test_training_by_the_script_reaches_its_bar(tmp_path):
    out = tmp_path / "run"
    done = script("train.py", "--out", out, timeout=1800)
    assert done.returncode == 0, done.stderr
    for name in ("settings.json", "metrics.csv", "tensorboard", "checkpoints", "learning.png",
                 "rallies.png", "rallies.gif"):  # fmt: skip
        assert (out / name).exists(), name
    assert not list(out.rglob("*.tmp"))
    assert read(out / "metrics.csv")[-1]["step"] == Settings().steps
    done = script("evaluate.py", out, timeout=600)
    assert done.returncode == 0, done.stderr
    numbers = {line[:22].strip(): float(line[22:].split()[0]) for line in
               done.stdout.splitlines()[1:]}  # fmt: skip
    assert numbers["hit rate"] >= 99  # %
    assert numbers["legal landings"] >= 98.5  # %
    assert numbers["within limits"] >= 99  # %
    assert numbers["landing error"] <= 4.2  # cm
    again = script("train.py", "--out", out, timeout=600)
    assert again.returncode == 2
    assert "--resume" in again.stderr


def test_every_measure_is_told_in_its_unit():
    texts = rows({
        "worst_load": Interval(0.873, 0.8, 0.9), "sound_rate": Interval(1.0, 0.9, 1.0),
        "flight_time": Interval(0.456, 0.44, 0.47), "loss_of": Interval(1.2345, 1.0, 2.0),
        "landing_error_cm": Interval(3.14, 3.0, 3.3), "feasible_rate": Interval(0.5, 0.4, 0.6),
    })  # fmt: skip
    assert texts == [
        ("landing error", "3.1 cm [3.0, 3.3]"), ("flight of the return", "0.46 s [0.44, 0.47]"),
        ("swings within limits", "50.0 % [40.0, 60.0]"), ("worst share of a limit", "87 %"),
        ("sound simulations", "100.0 % [90.0, 100.0]"), ("loss of", "1.23 [1, 2]"),
    ]  # fmt: skip


def test_a_summary_leaves_out_what_is_no_number():
    outcome = {
        "legal": np.array([True, False, True]), "landing_error": np.array([0.01, np.nan, 0.03]),
        "load": np.array([0.2, 0.9, 0.5]), "flight_time": np.array([1.0, 2.0, 3.0]),
        "landing": np.zeros((3, 2)),
    }  # fmt: skip
    found = summary(outcome)
    assert list(found) == ["legal_rate", "landing_error_cm", "worst_load", "flight_time"]
    assert found["legal_rate"] == wilson(2, 3)
    assert found["landing_error_cm"] == pytest.approx(mean_interval(np.array([1.0, 3.0])))
    assert found["worst_load"] == (0.9, 0.9, 0.9)
    assert found["flight_time"] == mean_interval(np.array([1.0, 2.0, 3.0]))


def test_student_s_interval_is_scipys():
    values = [1.0, 2.0, 4.0]
    low, high = scipy.stats.t.interval(0.95, 2, np.mean(values), scipy.stats.sem(values))
    np.testing.assert_allclose(student_interval(values), [np.mean(values), low, high])
    assert np.isnan(student_interval([1.0])[1:]).all()
