"""The studies' harness: who is called when, what is kept, and what is printed where."""

import json

import numpy as np
import pytest
import tyro
from script import ended

from studies import harness


def test_calls_take_turns_and_a_seed_shuffles_them():
    order = []
    calls = {name: lambda name=name: order.append(name) or len(order) for name in "abc"}
    found = harness.turns(calls, range(3))
    assert order == list("abc") * 3
    np.testing.assert_array_equal(found["b"], [2, 5, 8])
    order.clear()
    harness.turns(calls, range(20), seed=0)
    rounds = ["".join(order[i : i + 3]) for i in range(0, 60, 3)]
    assert {"".join(sorted(one)) for one in rounds} == {"abc"}  # each once a round
    assert len(set(rounds)) > 3


def test_seconds_leave_the_first_call_out_if_warm():
    ticks, called = iter([1.0, 3.0, 10.0, 14.0]), []
    seconds = harness.timed(lambda: called.append(1), lambda: next(ticks), warm=True)
    assert (seconds(), seconds(), len(called)) == (2.0, 4.0, 4)


def test_a_table_has_every_column_and_a_dash_for_what_is_not_known(capsys):
    rows = [{"name": "a", "x": 0.123456}, {"name": "b", "x": float("nan"), "y": np.float32(2)}]
    found = harness.show("some table", iter(rows))
    assert found == {"some table": [{"name": "a", "x": 0.123456}, {"name": "b", "x": None, "y": 2}]}
    title, heads, first, second = capsys.readouterr().out.splitlines()
    assert title.strip() == "some table"
    assert heads.split() == ["name", "x", "y"]
    assert first.split() == ["a", "0.123", "–"]
    assert second.split() == ["b", "–", "2"]


def test_rows_are_saved_as_json_and_csv(tmp_path):
    rows = [{"x": 1.0, "y": np.inf}]
    assert json.loads(harness.save(tmp_path / "a.json", rows).read_text()) == [{"x": 1, "y": None}]
    assert harness.save(tmp_path / "a.csv", rows).read_text().split() == ["x,y", "1.0,inf"]


@pytest.mark.parametrize("asked", [True, False])
def test_json_is_all_that_goes_to_the_output_if_asked_for(asked, monkeypatch, capsys):
    def first(size: int = 2) -> harness.Found:
        """One benchmark."""
        return harness.show("sizes", [{"size": size}])

    def other() -> harness.Found:
        """Another."""
        raise AssertionError

    words = ["first", "--size", "3", *["--json"] * asked]
    both = {"first": first, "other": other}
    assert ended(monkeypatch, lambda: tyro.extras.subcommand_cli_from_dict(both), *words) == 0
    said = capsys.readouterr()
    table = said.err if asked else said.out
    assert table.split() == ["sizes", "size", "3"]
    if asked:
        assert json.loads(said.out) == {"sizes": [{"size": 3}]}
