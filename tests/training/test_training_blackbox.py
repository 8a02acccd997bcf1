"""The training loop with a simulator that JAX cannot trace: the same run, by the host step."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from point import HostPoint, Point
from test_training_loop import bits, settings, stop_at

from diffsim.training import Hosted, Traced, Trainer, evaluate, train
from diffsim.training.metrics import read

# Compiles or starts so much that the default run has no room.
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_by_one")]


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """A run of 20 steps in one go."""
    trainer = Trainer(
        Hosted(HostPoint()), settings(tmp_path_factory.mktemp("host"), gradient="spsa")
    )
    train(trainer)
    return trainer


def test_the_host_step_makes_the_same_run_as_tracing_does(straight, tmp_path):
    traced = Trainer(Traced(Point()), settings(tmp_path, gradient="spsa"))
    train(traced)
    # Adam divides by the size of the gradient, which magnifies the rounding of differences.
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7),
        straight.state.params, traced.state.params,
    )  # fmt: skip
    rows, traced_rows = (read(t.settings.out / "metrics.csv") for t in (straight, traced))
    for row, traced_row in zip(rows, traced_rows, strict=True):
        assert row.keys() == traced_row.keys()
        for name in row.keys() - {"seconds", "cpu_seconds", "evaluations"}:
            assert row[name] == pytest.approx(traced_row[name], rel=1e-4, nan_ok=True)
        # The host's count has the loss at the point itself as well.
        assert row["evaluations"] == row["step"] * 4 * (2 * 16 + 1)


def test_a_stopped_run_goes_on_bit_for_bit(straight, tmp_path):
    stopped = Trainer(Hosted(HostPoint()), settings(tmp_path, gradient="spsa"))
    with pytest.raises(KeyboardInterrupt):
        train(stopped, progress=stop_at(7, KeyboardInterrupt()))
    again = Trainer(Hosted(HostPoint()), settings(tmp_path, gradient="spsa", resume=True))
    train(again)
    assert bits(again.state) == bits(straight.state)


def test_workers_give_the_same_update(tmp_path):
    one, other = (
        Trainer(Hosted(HostPoint(workers=workers)), settings(tmp_path, gradient="spsa"))
        for workers in (0, 1)
    )
    assert one.update() == other.update()
    assert bits(one.state) == bits(other.state)
    workers = other.player.box._host.pool._workers
    processes = [worker.process for worker in workers]
    assert len(processes) == 1
    other.player.close()
    assert not workers
    assert processes[0].poll() is not None


def test_an_error_of_the_simulator_ends_the_run_and_keeps_the_state(tmp_path):
    def broken(weights, start, real):
        raise LookupError("no such contact")

    trainer = Trainer(Hosted(HostPoint(simulator=broken)), settings(tmp_path, gradient="spsa"))
    before = bits(trainer.state)
    with pytest.raises(LookupError, match="no such contact") as caught:
        trainer.update()
    assert "The simulator's input: array([" in "".join(caught.value.__notes__)
    assert bits(trainer.state) == before


def test_evaluation_asks_the_simulator(tmp_path):
    task, key = HostPoint(), jax.random.key(5)
    got = evaluate(Hosted(task), lambda seen: 0.5 * seen[:2], key, 100)
    starts = jax.vmap(task.sample)(jax.random.split(key, 100))
    error = 0.5 * np.linalg.norm(np.asarray(starts.position)[:, :2], axis=1)
    assert got["hit_rate"].value == (error < 1).sum() / 100
    assert got["landing_error_cm"].value == pytest.approx(100 * error[error < 0.5].mean())
    assert jnp.isfinite(got["legal_rate"].value)
