"""The benchmark of flights: the C loop against the closed form and ours, and what is said."""

import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import vmap
from script import ended
from tyro.extras import subcommand_cli_from_dict

from diffsim.physics import Ball, BallState, Surface, World, simulate
from studies import physics as study
from studies.physics import c_loop, engines, scenes

SMALL = study.Sizes(batches=(1, 2), horizons=(0.5,), step=0.1, peer_step=0.01)
compiled_c = pytest.mark.skipif(
    not any(map(shutil.which, ("cc", "gcc", "clang"))), reason="there is no C compiler"
)


def engine(name, begun, modes=("forward",)):
    return study.Engine(name, "plane", modes, begun)


@compiled_c
@pytest.mark.parametrize("width", [1, 16])
def test_the_c_loop_has_the_closed_form(width):
    """Without air and friction RK4 and the impacts are exact; 4 s have up to five bounces."""
    rows = study.starts(100).astype(float)
    ends = study.Loop(scenes.plane(), width)(rows, 4.0, 0.05)()
    np.testing.assert_allclose(ends[:, :3], study.closed_form(rows, 4.0), atol=1e-12)
    np.testing.assert_allclose(ends[:, 6:], rows[:, 6:])  # no friction turns them


@compiled_c
def test_the_c_loop_and_ours_agree():
    """On a table, past its edge and on the floor, with drag and spin, each at its step."""
    rows = study.starts(40).astype(float)
    world = scenes.court()

    def ours(row):
        state = BallState(row[:3], row[3:6], row[6:])
        return simulate(world, state, duration=1.0, step=0.05)

    wanted = vmap(ours)(jnp.asarray(rows))
    assert set(np.unique(wanted.impacts.surface)) == {-1, 0, 1}  # the table and the floor
    for width in (1, 16):
        found = study.Loop(world, width)(rows, 1.0, 0.01)()
        for column, part in enumerate(("position", "velocity", "spin")):
            tolerance = {"position": 1e-6, "velocity": 1e-5, "spin": 1e-3}[part]
            np.testing.assert_allclose(
                found[:, 3 * column : 3 * column + 3], getattr(wanted.final, part), atol=tolerance
            )


def test_a_world_that_the_c_loop_has_not_is_named():
    tilted = Surface.create(normal=[0.0, 0.1, 1.0], name="slope")
    worlds = {
        "net": World.create(),
        "slope": World.create([tilted]),
        "gravity": World.create([], gravity=[1.0, 0.0, -9.81]),
        "spin_decay_time": World.create([], ball=Ball.create(spin_decay_time=1.0)),
    }
    for name, world in worlds.items():
        with pytest.raises(ValueError, match=f"world: expected .*, got {name}"):
            study.Loop(world)


@compiled_c
def test_a_ball_that_comes_to_rest_is_told():
    row = np.array([[0.0, 0.0, 0.77, 0, 0, 0, 0, 0, 0]])
    with pytest.raises(FloatingPointError, match="balls come to rest"):
        study.Loop(scenes.court())(row, 10.0, 0.05)()


def test_the_closed_form_by_hand():
    """A drop from rest by h bounces after √(2h/g), and is at e² h when it has come up again."""
    radius, e, g = (float(x) for x in (0.02, 0.9, 9.81))
    row = np.array([[0.0, 0.0, 1 + radius, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0]])
    apex = (1 + e) * np.sqrt(2 / g)
    np.testing.assert_allclose(
        study.closed_form(row, apex), [[apex, 0.0, radius + e**2]], rtol=1e-12
    )


def test_without_a_compiler_there_is_no_c_and_no_error_on_the_court(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    c_loop.built.cache_clear()
    study.reference.cache_clear()
    loops = tuple(engine for engine in study.ENGINES if engine.name.startswith("C "))
    assert [row["note"] for row in study.rows(SMALL, 60.0, loops)] == ["no compiler"] * 2
    found = np.zeros((1, 3)), (), np.zeros(1)
    assert set(study.errors("court", "forward", 0.5, found).values()) == {None}


def test_what_is_wrong_or_missing_is_said():
    def missing(*case):
        raise ModuleNotFoundError("No module named 'peer'", name="peer")

    def wrong(rows, mode, seconds, sizes):
        end, slope = np.full((len(rows), 3), np.nan), np.full((len(rows), 9), np.inf)
        return engines.Ready(lambda: (end, slope, np.ones(len(rows))))

    two = engine("peer", missing), engine("wrong", wrong, ("reverse",))
    absent, first, second = study.rows(SMALL, 60.0, two)
    assert (absent["note"], absent["balls"]) == ("not installed: peer", "1, 2")
    assert first["note"] == "1 balls not ok, 1 ends not finite, 1 gradients not finite"
    assert second["gradient"] is None


def test_what_does_not_fit_is_said():
    """Time and memory are foretold from the size before; what was begun counts."""
    now = [0.0]

    def slow(rows, mode, seconds, sizes):
        now[0] += 59.5
        end = study.closed_form(rows, seconds)
        return engines.Ready(lambda: (end, (), np.zeros(len(rows))), 1.0, 7, 10**9 * len(rows))

    sizes = study.Sizes(batches=(1, 2, 8), horizons=(0.5,), memory=3.0)
    found = study.rows(sizes, 60.0, (engine("slow", slow),), lambda: now[0])
    assert [row["note"] for row in found] == [None, "over budget", "over memory"]
    assert found[0]["B/ball"] == 1e9
    assert found[0]["worst, m"] < 1e-6  # of the starts in float32
    large = study.measured(engine("slow", slow), "forward", 8, 0.5, sizes)
    assert (large["note"], large["ms"]) == ("over memory", None)


@pytest.mark.parametrize("wrong", [{"batches": ()}, {"horizons": (0.0,)}, {"step": -1.0}])
def test_sizes_that_cannot_be_are_named(wrong):
    (name,) = wrong
    with pytest.raises(ValueError, match=f"{name}: expected positive numbers, got"):
        study.Sizes(**wrong)


@compiled_c
def test_errors_see_a_wrong_end_and_a_wrong_derivative():
    end, jacobian = study.reference("court", 0.5, 4)
    status = np.zeros(4)
    right = study.errors("court", "forward-mode", 0.5, (end, jacobian @ engines.TANGENT, status))
    assert right["error, m"] == right["gradient"] == 0
    wrong = end + np.array([[0.0, 0.0, 1.0]]), 1.5 * jacobian.sum(1), status
    found = study.errors("court", "reverse", 0.5, wrong)
    np.testing.assert_allclose([found["worst, m"], found["gradient"]], [1.0, 0.5])


@compiled_c
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the peers
def test_every_engine_has_its_rows(tmp_path, monkeypatch, capsys):
    path = tmp_path / "speeds.png"
    words = ["physics", "--plot", str(path), "--json", "--limit", "1e6"]
    words += ["--sizes.batches", "2", "--sizes.horizons", "0.5", "--sizes.peer-step", "0.005"]
    both = {"physics": study.benchmark, "other": study.benchmark}
    with jax.enable_x64(False), jax.numpy_dtype_promotion("standard"):  # as scripts and peers do
        assert ended(monkeypatch, lambda: subcommand_cli_from_dict(both), *words) == 0
    (found,) = json.loads(capsys.readouterr().out).values()
    told = [(row["engine"], row["mode"]) for row in found]
    assert told == [(e.name, mode) for e in study.ENGINES for mode in e.modes]
    for row in found:
        if row["engine"] == "ours, kernels" and jax.default_backend() == "cpu":
            assert row["note"] == "no NVIDIA GPU"
            continue
        assert row["ms"] > 0, row
        if row["engine"].startswith("ours"):
            assert row["worst, m"] < 1e-5, row
            assert (row["gradient"] or 0) < 1e-4, row
        elif row["engine"].startswith("C"):
            assert row["worst, m"] < 1e-5, row
        else:
            assert row["equations"] is None or row["equations"] > 1000
    assert path.stat().st_size > 10_000
