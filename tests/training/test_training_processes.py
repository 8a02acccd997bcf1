"""Processes and devices that share a run: what makes none is refused, and who failed is told."""

import jax
import jax.numpy as jnp
import pytest

from diffsim.training import processes
from diffsim.training.processes import Group, ProcessLostError, own, together
from diffsim.training.sharding import averaged

GONE = "another one has gone or failed; start all again, with --resume"


def test_what_failed_between_processes_is_told_from_what_failed_in_one(monkeypatch):
    gloo = "UNKNOWN: Gloo AllGather failed: Connection reset by peer"
    with pytest.raises(ValueError, match=r"^UNKNOWN"), together():
        raise ValueError(gloo)  # alone: no other has gone
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    for kind in (jax.errors.JaxRuntimeError, ValueError):
        with pytest.raises(ProcessLostError, match=f"process 0 of 2: {GONE}"), together():
            raise kind(gloo)
    with pytest.raises(ValueError, match="batch: expected"), together():
        raise ValueError("batch: expected more")


def test_shares_are_equal(monkeypatch):
    monkeypatch.setattr(jax, "device_count", lambda: 3)
    with pytest.raises(ValueError, match="batch: expected a multiple of the 3 devices, got 8"):
        averaged(lambda _, rows: rows.mean())(None, jnp.zeros(8))
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    for index, share in enumerate(([0, 1, 2], [3, 4, 5])):
        monkeypatch.setattr(jax, "process_index", lambda index=index: index)
        assert own(jnp.arange(6)).tolist() == share
    with pytest.raises(ValueError, match="batch: expected a multiple of the 2 processes, got 3"):
        own(jnp.zeros(3))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"processes": 2, "process": 0}, "coordinator: expected host:port or auto with processes"),
        ({"process": 0}, "coordinator: expected host:port or auto with processes"),
        ({"coordinator": "localhost:1234"}, "process: expected 0 <= process < processes"),
        ({"coordinator": "a:1", "processes": 2, "process": 2}, "got process 2 and processes 2"),
        ({"coordinator": "a:1", "processes": 2, "process": -1}, "got process -1 and processes 2"),
        ({"coordinator": "auto", "processes": 1, "process": 1}, "got process 1 and processes 1"),
        ({"coordinator": "a:1", "processes": 2}, "got process None and processes 2"),
        ({"coordinator": "localhost"}, "coordinator: expected host:port or auto, got 'localhost'"),
        ({"coordinator": "a:123456"}, "coordinator: expected host:port or auto, got 'a:123456'"),
        ({"patience": 0}, "patience: expected > 0, got 0"),
        ({"patience": -1}, "patience: expected > 0, got -1"),
    ],
)
def test_groups_that_make_no_run_are_refused(given, message):
    with pytest.raises(ValueError, match=message):
        Group(**given)


def test_groups_that_make_a_run():
    assert Group("a:1", 2, 1, patience=1).process == 1
    assert Group("a:65535", 1, 0).processes == 1
    assert Group("auto").process is None
    assert Group("auto", 2).processes == 2, "the rest is in the environment"


def test_the_first_process_listens_where_it_was_told_to_and_nowhere_else(monkeypatch):
    told = {}

    def initialize(*given, **named):
        told.update(named, given=given)

    monkeypatch.setattr(jax.distributed, "initialize", initialize)
    monkeypatch.delenv("JAX_COORDINATOR_BIND_ADDRESS", raising=False)
    for group, address in (
        (Group("10.0.0.7:1234", 2, 1, 7), "10.0.0.7:1234"),
        (Group("auto"), None),
    ):
        group._connect()
        assert told == {
            "given": (address, group.processes, group.process),
            "coordinator_bind_address": address,
            "heartbeat_timeout_seconds": group.patience,
            "shutdown_timeout_seconds": group.patience,
        }
    monkeypatch.setenv("JAX_COORDINATOR_BIND_ADDRESS", "0.0.0.0:9")
    Group("10.0.0.7:1234", 2, 1)._connect()
    assert told["coordinator_bind_address"] == "0.0.0.0:9"


def test_means_of_processes_are_of_what_each_has(monkeypatch):
    assert processes.averaged({"a": 3}) == {"a": 3}
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(
        processes.multihost_utils, "process_allgather",
        lambda tree: jax.tree.map(lambda leaf: jnp.stack([leaf, 3 * leaf]), tree),
    )  # fmt: skip
    found = processes.averaged({"a": jnp.array([1.0, -2.0])})
    assert found["a"].tolist() == [2, -4]
