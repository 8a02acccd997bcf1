"""Scene files: what they may hold, what they are told when they may not, and the script."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from diffsim.physics import scene as scenes

ROOT = Path(__file__).parents[2]
SCENE = Path(__file__).parent / "scenes" / "many_bounces.toml"

BALL = "duration = 1.0\n[ball]\nposition = [0, 0, 1]\n"
SURFACE = BALL + "[[surface]]\n"
DISK = SURFACE + 'kind = "disk"\nradius = 0.1\n'

# The text of a file and the whole of its error.
BAD = {
    "unknown key": ("speed = 1\n" + BALL,
        "speed: unknown key, got 1; allowed: air, ball, duration, gravity, step, surface"),
    "unknown key of a table": (BALL + "colour = 'red'\n",
        "ball.colour: unknown key, got 'red'; allowed: drag_coefficient, inertia_factor, "
        "magnus_coefficient, mass, position, radius, spin, spin_decay_time, velocity"),
    "floor has no radius": (SURFACE + "kind = 'floor'\nradius = 1\n",
        "surface[0].radius: unknown key, got 1; allowed: center, center_polynomial, friction, "
        "kind, name, normal, restitution, restitution_slope, rotation_axis, rotation_rate, "
        "tangential_restitution, two_sided, u"),
    "no duration": ("[ball]\nposition = [0, 0, 1]\n",
        "duration: missing, expected a number > 0"),
    "no position": ("duration = 1\n[ball]\n",
        "ball.position: missing, expected numbers of shape [3], finite"),
    "no radius": (SURFACE + "kind = 'disk'\n",
        "surface[0].radius: missing, expected a number > 0"),
    "duration not positive": ("duration = 0\n", "duration: expected a number > 0, got 0"),
    "step too short": ("step = 1e-9\n" + BALL,
        "duration: expected what takes at most 4e+09 bytes, got 1 s in steps of 1e-09 s, "
        "which take 4e+11"),
    "too long": (BALL.replace("1.0", "2e5"),
        "duration: expected what takes at most 4e+09 bytes, got 200000 s in steps of 0.05 s, "
        "which take 6.6e+09"),
    "wrong shape": ("gravity = [0, -9.81]\n" + BALL,
        "gravity: expected numbers of shape [3], finite, got [0, -9.81]"),
    "wrong shape of a matrix": (DISK + "center_polynomial = [[0, 0]]\n",
        "surface[0].center_polynomial: expected numbers of shape [K <= 64, 3], finite, "
        "got [[0, 0]]"),
    "number for a vector": (BALL + "velocity = 3\n",
        "ball.velocity: expected numbers of shape [3], finite, got 3"),
    "negative mass": (BALL + "mass = -1\n", "ball.mass: expected a number > 0, got -1"),
    "negative density": (BALL + "[air]\ndensity = -1.2\n",
        "air.density: expected a number >= 0, got -1.2"),
    "inertia": (BALL + "inertia_factor = 1.1\n",
        "ball.inertia_factor: expected a number in (0, 1], got 1.1"),
    "restitution": (DISK + "restitution = 1.6\n",
        "surface[0].restitution: expected a number in [0, 1.5], got 1.6"),
    "nan": (BALL + "mass = nan\n", "ball.mass: expected a number > 0, got nan"),
    "inf in a vector": (BALL + "spin = [0, inf, 0]\n",
        "ball.spin: expected numbers of shape [3], finite, got [0, inf, 0]"),
    "true for a number": (BALL + "mass = true\n", "ball.mass: expected a number > 0, got True"),
    "text for a number": (BALL + "mass = 'heavy'\n",
        "ball.mass: expected a number > 0, got 'heavy'"),
    "number for true": (DISK + "two_sided = 1\n",
        "surface[0].two_sided: expected true or false, got 1"),
    "number for a name": (DISK + "name = 3\n", "surface[0].name: expected a string, got 3"),
    "kind": (SURFACE + "kind = 'wall'\n",
        "surface[0].kind: expected one of table, net, net_cord, floor, rectangle, disk, "
        "got 'wall'"),
    "no kind": (SURFACE, "surface[0].kind: expected one of table, net, net_cord, floor, "
        "rectangle, disk, got None"),
    "zero normal": (DISK + "normal = [0, 0, 0]\n",
        "surface[0].normal: expected a direction, got [0, 0, 0]"),
    "u along the normal": (DISK + "normal = [0, 1, 0]\nu = [0, 2, 0]\n",
        "surface[0].u: expected a direction across the normal, got [0, 2, 0]"),
    "two centres": (DISK + "center = [0, 0, 0]\ncenter_polynomial = [[0, 0, 0]]\n",
        "surface[0].center: expected center or center_polynomial, got both"),
    "rate without axis": (DISK + "rotation_rate = 1\n",
        "surface[0].rotation_rate: expected together with rotation_axis"),
    "one surface": (BALL + "[surface]\nkind = 'floor'\n",
        "surface: expected [[surface]] tables, got one [surface]"),
    "ball a number": ("duration = 1\nball = 3\n", "ball: expected a table, got 3"),
    "air a list": ("duration = 1\nair = []\n[ball]\nposition = [0, 0, 1]\n",
        "air: expected a table, got []"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_scene_is_told_in_one_line(case):
    text, message = BAD[case]
    with pytest.raises(scenes.SceneError) as caught:
        scenes.loads(text)
    assert str(caught.value) == message


def test_unreadable_files(tmp_path):
    with pytest.raises(scenes.SceneError, match=r"missing\.toml: cannot be read"):
        scenes.load(tmp_path / "missing.toml")
    for name, content in (("text.toml", b"duration = = 1"), ("binary.toml", b"\xff\xfe\x00")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(scenes.SceneError) as caught:
            scenes.load(tmp_path / name)
        assert "\n" not in str(caught.value)


def test_what_is_left_out_has_its_default():
    scene = scenes.loads(SURFACE + "kind = 'table'\n[[surface]]\nkind = 'net'\nname = 'mesh'\n")
    assert (scene.duration, scene.step, scene.paths) == (1.0, 0.05, ())
    assert scenes.loads(BALL.replace("1.0", "1e5")).duration == 1e5  # a day fits into memory
    assert scene.world.gravity.tolist() == [0, 0, -9.81]
    assert [surface.name for surface in scene.world.surfaces] == ["table", "mesh"]
    assert scene.world.surfaces[0].center.tolist() == [0, 0, 0.76]
    assert scene.state.velocity.tolist() == scene.state.spin.tolist() == [0, 0, 0]


def test_a_moving_surface_follows_its_polynomial_and_turns():
    scene = scenes.loads(
        DISK + "center_polynomial = [[1, 0, 0], [0, 2, 0], [0, 0, 3]]\n"
        "normal = [0, 0, 2]\nrotation_axis = [0, 3, 0]\nrotation_rate = 0.5\n"
    )
    assert scene.world.surfaces[0].driven
    pose = scene.paths[0](np.float64(2.0))
    np.testing.assert_allclose(pose.position, [1, 4, 12], rtol=1e-12)
    np.testing.assert_allclose(pose.velocity, [0, 2, 12], rtol=1e-12)
    np.testing.assert_allclose(pose.angular_velocity, [0, 0.5, 0], rtol=1e-12)
    np.testing.assert_allclose(pose.rotation[:, 2], [np.sin(1), 0, np.cos(1)], atol=1e-12)
    np.testing.assert_allclose(pose.rotation.T @ pose.rotation, np.eye(3), atol=1e-12)


def test_text_table_and_json_of_what_is_not_finite():
    assert scenes.plain([1.0, [float("nan"), float("inf")]]) == [1.0, [None, None]]
    vector = [0.0, None, 1.0]
    final = {"position": vector, "velocity": vector, "spin": vector}
    text = scenes.table(
        {"final": final, "impacts": [], "status": "not-finite", "jacobian": [vector]}
    )
    assert text.splitlines()[0] == "status    not-finite"
    assert "nan" in text
    assert "jacobian" in text


def test_every_key_comes_where_it_belongs():
    scene = scenes.loads(
        "duration = 0.5\nstep = 0.02\ngravity = [0.1, 0.2, -3]\n[air]\ndensity = 1.1\n[ball]\n"
        "position = [1, 2, 3]\nvelocity = [4, 5, 6]\nspin = [7, 8, 9]\nmass = 0.1\nradius = 0.2\n"
        "inertia_factor = 0.3\ndrag_coefficient = 0.4\nmagnus_coefficient = 0.5\n"
        "spin_decay_time = 0.6\n[[surface]]\nkind = 'rectangle'\nhalf_extents = [2, 3]\n"
        "restitution = 0.11\nrestitution_slope = 0.12\nfriction = 0.13\n"
        "tangential_restitution = 0.14\ncenter = [0.21, 0.22, 0.23]\nnormal = [0, 1, 0]\n"
        "u = [0, 0, 1]\nedge_radius = 0.15\nname = 'wall'\ntwo_sided = true\n"
        "[[surface]]\nkind = 'disk'\nradius = 0.7\nedge_radius = 0.01\n"
    )
    assert (scene.duration, scene.step) == (0.5, 0.02)
    found = [scene.world.gravity, scene.world.air, scene.state, scene.world.ball]
    numbers = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(found)])
    np.testing.assert_allclose(numbers, [0.1, 0.2, -3, 1.1, *range(1, 10), *np.arange(1, 7) / 10])
    wall, disk = scene.world.surfaces
    for surface, wanted in (
        (wall, {"half_extents": [2, 3], "restitution": 0.11, "restitution_slope": 0.12,
                "friction": 0.13, "tangential_restitution": 0.14, "edge_radius": 0.15,
                "center": [0.21, 0.22, 0.23], "two_sided": True, "disk_radius": np.inf,
                "rotation": [[0, 1, 0], [0, 0, 1], [1, 0, 0]]}),
        (disk, {"disk_radius": 0.7, "edge_radius": 0.01, "two_sided": True, "once": False}),
    ):  # fmt: skip
        for name, value in wanted.items():
            np.testing.assert_allclose(getattr(surface, name), value, atol=1e-15, err_msg=name)
    assert (wall.name, disk.name) == ("wall", "disk")


def test_a_description_has_the_numbers_of_the_rollout():
    text = BALL.replace("1.0", "0.6") + "velocity = [0.3, 0, 0]\nspin = [0, 90, 5]\n"
    scene = scenes.loads(text + "[[surface]]\nkind = 'table'\n[[surface]]\nkind = 'floor'\n")
    rollout = scenes.run(scene)
    told, impacts = scenes.describe(scene, rollout), rollout.impacts
    assert told["status"] == "ok"
    assert len(told["impacts"]) == int(impacts.valid.sum()) >= 2
    for i, impact in enumerate(told["impacts"]):
        assert impact == {
            "time": float(impacts.time[i]), "surface": "table",
            "position": impacts.before.position[i].tolist(),
            "velocity_before": impacts.before.velocity[i].tolist(),
            "velocity_after": impacts.after.velocity[i].tolist(),
            "spin_after": impacts.after.spin[i].tolist(),
        }  # fmt: skip
    for name, values in told["final"].items():
        assert values == getattr(rollout.final, name).tolist()
    lines = scenes.table(told).splitlines()
    assert lines[0] == "status    ok"
    first = {f"  {name}": values for name, values in list(told["impacts"][0].items())[2:]}
    for name, values in (told["final"] | first).items():
        line = next(line for line in lines if line.startswith(f"{name} "))
        np.testing.assert_allclose([float(x) for x in line.split()[1:]], values, atol=1e-6)
    line = next(line for line in lines if line.startswith("impact"))
    assert float(line.split()[1]) == pytest.approx(told["impacts"][0]["time"], abs=1e-6)
    assert line.endswith("s on table")


def simulate(*arguments):
    return subprocess.run(
        [sys.executable, ROOT / "scripts" / "simulate.py", *arguments],
        env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=120,
        check=False,
    )  # fmt: skip


def test_script_prints_what_the_library_computes():
    done = simulate(SCENE, "--json", "--gradient", "--x64")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert set(result) == {"final", "impacts", "status", "jacobian"}
    assert result["status"] == "ok"
    assert np.shape(result["jacobian"]) == (9, 9)
    scene = scenes.load(SCENE)
    ours = scenes.describe(scene, scenes.run(scene))
    assert len(result["impacts"]) == len(ours["impacts"]) >= 3
    assert set(result["impacts"][0]) == {
        "time", "surface", "position", "velocity_before", "velocity_after", "spin_after",
    }  # fmt: skip
    for key, vector in ours["final"].items():
        np.testing.assert_allclose(result["final"][key], vector, atol=1e-10)
    # The floor is the same everywhere: moving the start along x moves the end as much.
    np.testing.assert_allclose(np.array(result["jacobian"])[:, 0], np.eye(9)[0], atol=1e-10)


def test_script_refuses_a_bad_file_in_one_line(tmp_path):
    bad = tmp_path / "bad.toml"
    bad.write_text(BALL + "mass = -1\n")
    done = simulate(bad)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: ball.mass: expected a number > 0, got -1\n"
