"""The training loop, on a task that costs nothing."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from point import HostPoint, Point

from diffsim.training import Checkpoints, Settings, Traced, Trainer, evaluate, train
from diffsim.training.metrics import read
from diffsim.training.player import Hosted

pytestmark = pytest.mark.usefixtures("one_by_one")


def settings(out, **changes):
    few = {"steps": 20, "batch": 4, "hidden": (8,), "log_every": 4, "checkpoint_every": 5}
    return Settings(out=out, **few | changes)


def stop_at(step, error):
    def progress(row):
        if row["step"] == step:
            raise error

    return progress


def bits(state):
    keys = [jax.random.key_data(state.key)]
    leaves = jax.tree.leaves((state.params, state.optimizer, state.step))
    return [np.asarray(leaf).tobytes() for leaf in leaves + keys]


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """A run of 20 steps in one go."""
    trainer = Trainer(Traced(Point()), settings(tmp_path_factory.mktemp("straight")))
    rows = []
    train(trainer, progress=rows.append)
    return trainer, rows


def test_a_run_writes_all_it_promises(straight):
    trainer, rows = straight
    out = trainer.settings.out
    assert Settings.load(out / "settings.json") == trainer.settings
    assert sorted(int(path.name) for path in (out / "checkpoints").iterdir()) == [10, 15, 20]
    assert list((out / "tensorboard").glob("events*"))
    written = read(out / "metrics.csv")
    assert [row["step"] for row in written] == [0, 4, 8, 12, 16, 20]
    assert [row["evaluations"] for row in written] == [4 * row["step"] for row in written]
    for row in written:
        assert row["loss"] == pytest.approx(row["term_distance"] + row["term_size"])
        assert row["legal_rate"] <= row["hit_rate"]
    assert [row["step"] for row in rows if len(row) == 1] == list(range(1, 21))


def test_bundled_updates_are_the_same_bit_for_bit(straight, tmp_path, monkeypatch):
    monkeypatch.setattr("diffsim.training.loop.PACE", 100.0)
    monkeypatch.setattr("diffsim.training.loop._clocks", lambda: np.zeros(2) + next(ticks))
    ticks = itertools.count(0.0, 1e-3)
    trainer, steps = Trainer(Traced(Point()), settings(tmp_path)), []
    train(trainer, progress=lambda row: steps.append(row["step"]))
    assert bits(trainer.state) == bits(straight[0].state)
    # 1, 2 and then up to each row (of 4) and checkpoint (of 5); rows come twice.
    assert steps == [0, 1, 3, 4, 4, 5, 8, 8, 10, 12, 12, 15, 16, 16, 20, 20]


def test_the_clocks_count_updates_alone_and_go_on_when_resumed(tmp_path, monkeypatch):
    """Clocks that go by 1 and 10 whenever they are read: twice for an update."""
    ticks = itertools.count(1)

    def clocks():
        return next(ticks) * np.array([1.0, 10.0])

    monkeypatch.setattr("diffsim.training.loop._clocks", clocks)
    trainer = Trainer(Traced(Point()), settings(tmp_path))
    with pytest.raises(KeyboardInterrupt):
        train(trainer, progress=stop_at(3, KeyboardInterrupt()))
    trainer.begin(dataclasses.replace(trainer.settings, resume=True))
    train(trainer)
    rows = read(tmp_path / "metrics.csv")
    assert [row["seconds"] for row in rows] == [0, 4, 8, 12, 16, 20]
    assert [row["cpu_seconds"] for row in rows] == [0, 40, 80, 120, 160, 200]
    trainer.begin(trainer.settings)
    train(trainer)  # a run that is done is left as it is
    assert repr(read(tmp_path / "metrics.csv")) == repr(rows)


def test_training_reduces_the_loss(tmp_path):
    trainer = Trainer(Traced(Point()), settings(tmp_path, steps=30, learning_rate=0.03, batch=16))
    before = trainer.measure()["loss"]
    for _ in range(30):
        trainer.update()
    # The best answer scores 0.001 · 2/3; the first one, all zero, 2/3.
    assert before == pytest.approx(2 / 3, rel=0.4)
    assert trainer.measure()["loss"] < 0.2 * before


@pytest.mark.parametrize(
    ("step", "error", "kept"),
    [
        (10, KeyboardInterrupt(), 10),
        (7, KeyboardInterrupt(), 7),
        (12, KeyboardInterrupt(), 12),  # updated, its row of metrics not yet written
        (14, RuntimeError(), 10),
    ],
    ids=["interrupt-at-checkpoint", "interrupt-between", "interrupt-before-row", "crash"],
)
def test_a_stopped_run_goes_on_bit_for_bit(straight, tmp_path, step, error, kept):
    with pytest.raises(type(error)):
        train(Trainer(Traced(Point()), settings(tmp_path)), progress=stop_at(step, error))
    again = Trainer(Traced(Point()), settings(tmp_path, resume=True))
    saved, _ = Checkpoints(tmp_path / "checkpoints").restore((again.state, jnp.zeros(2)))
    assert int(saved.step) == kept
    train(again)
    assert bits(again.state) == bits(straight[0].state)

    def table(trainer):
        rows = read(trainer.settings.out / "metrics.csv")
        return [row | {"seconds": 0, "cpu_seconds": 0} for row in rows]

    assert repr(table(again)) == repr(table(straight[0]))  # as text, so that nan is nan
    for clock in ("seconds", "cpu_seconds"):
        seconds = [row[clock] for row in read(tmp_path / "metrics.csv")]
        assert seconds == sorted(seconds)


def test_a_warm_start_is_the_network_of_another_run(straight, tmp_path, monkeypatch):
    """From one simulator to another; and what began so is restored when the other run is gone."""
    monkeypatch.setattr(Settings, "player", lambda self: Traced(Point()))
    learned = straight[0].state.params

    def same(trainer):
        return jax.tree.map(np.array_equal, trainer.state.params, learned)

    warm = {"warm_start": straight[0].settings.out}
    host = settings(tmp_path / "host", gradient="spsa", **warm)
    trainer = Trainer(Hosted(HostPoint()), host)
    assert all(jax.tree.leaves(same(trainer)))
    assert int(trainer.state.step) == 0
    with pytest.raises(
        ValueError, match=r"warm_start: expected weights of shapes \[\(9,\), .* in /"
    ):
        Trainer(Traced(Point()), settings(tmp_path / "wide", hidden=(9,), **warm))
    monkeypatch.setattr(Settings, "player", lambda self: Hosted(HostPoint()))
    train(trainer)
    elsewhere = dataclasses.replace(host, warm_start=tmp_path / "gone")
    elsewhere.save(tmp_path / "host" / "settings.json")
    assert bits(Trainer.restored(tmp_path / "host").state) == bits(trainer.state)
    with pytest.raises(FileNotFoundError):
        Trainer(Traced(Point()), dataclasses.replace(elsewhere, out=tmp_path / "cold"))


def test_a_folder_with_checkpoints_is_not_overwritten(straight):
    trainer = straight[0]
    with pytest.raises(FileExistsError, match="has checkpoints; expected --resume or another"):
        train(Trainer(Traced(Point()), trainer.settings))


def test_resuming_nothing_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="no checkpoint"):
        train(Trainer(Traced(Point()), settings(tmp_path / "none", resume=True)))


def test_a_loss_that_is_not_finite_stops_the_run_and_is_kept(tmp_path):
    # One start in forty is bad, so that the first bad batch of four comes after some good ones.
    trainer = Trainer(Traced(Point(poison=0.95)), settings(tmp_path, steps=200))
    with pytest.raises(FloatingPointError, match=r"not finite in the loss term size$") as caught:
        train(trainer)
    step = int(trainer.state.step)
    assert step > 0
    assert str(caught.value).startswith(f"step {step}: loss nan")
    again = Trainer(Traced(Point(poison=0.95)), trainer.settings)
    saved, _ = Checkpoints(tmp_path / "failure").restore((again.state, jnp.zeros(2)))
    assert bits(saved) == bits(trainer.state)
    again.state = saved
    with pytest.raises(FloatingPointError, match=f"step {step}: "):  # it shows the failure again
        again.update()
    bundled = Trainer(Traced(Point(poison=0.95)), dataclasses.replace(trainer.settings))
    with pytest.raises(FloatingPointError, match=f"step {step}: "):
        bundled.update(200)
    assert bits(bundled.state) == bits(trainer.state)


@pytest.mark.parametrize(
    "changes",
    [
        {"gradient": "score-function", "sigma": 0.1, "samples": 8},
        {"gradient": "evolution-strategies", "sigma": 0.1, "samples": 8},
        {"gradient": "central-difference"},
    ],
    ids=lambda changes: changes["gradient"],
)
def test_other_estimators_update_and_count_their_simulations(tmp_path, changes):
    trainer = Trainer(Traced(Point()), settings(tmp_path, **changes))
    before = bits(trainer.state)
    loss, size = trainer.update()
    assert np.isfinite([loss, size]).all()
    assert size > 0
    assert bits(trainer.state) != before
    each = {"score-function": 8, "evolution-strategies": 2 * 8, "central-difference": 2 * 2}
    assert trainer.evaluations_per_step() == 4 * each[changes["gradient"]]  # a batch of 4


def test_a_trainer_begins_again_as_if_new(straight, tmp_path):
    used = Trainer(Traced(Point()), settings(tmp_path / "a", seed=3))
    assert used.compile() > 0
    assert int(used.state.step) == 0
    train(used)
    compiled = used._update
    used.begin(settings(tmp_path / "b"))
    train(used)
    assert used._update is compiled
    assert bits(used.state) == bits(straight[0].state)


def test_every_run_of_a_seed_is_the_same_and_of_another_seed_not(straight, tmp_path):
    start = bits(Trainer(Traced(Point()), settings(tmp_path)).state)
    assert bits(Trainer(Traced(Point()), settings(tmp_path)).state) == start
    assert bits(Trainer(Traced(Point()), settings(tmp_path, seed=1)).state) != start


@pytest.mark.parametrize("count", [1, 100, 300])
def test_evaluation_counts_every_serve_once(count):
    task, key = Point(), jax.random.key(5)
    got = evaluate(Traced(task), lambda seen: 0.5 * seen[:2], key, count)
    starts = jax.vmap(task.sample)(jax.random.split(key, count))
    error = 0.5 * np.linalg.norm(np.asarray(starts.position)[:, :2], axis=1)
    assert got["hit_rate"].value == (error < 1).sum() / count
    assert got["legal_rate"].value == (error < 0.5).sum() / count
    assert got["landing_error_cm"].value == pytest.approx(100 * error[error < 0.5].mean())
