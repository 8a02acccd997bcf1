"""Scene files made to break the reader: one short line, within a second, or a scene."""

import os
import sys
import time

import numpy as np
import pytest
from test_physics_scene import BALL, DISK, SCENE, SURFACE, simulate

from diffsim.physics import Surface
from diffsim.physics import scene as scenes

NASTY = {
    "kind a list": SURFACE + "kind = []\n",
    "kind a table": SURFACE + "kind = {a = 1}\n",
    "500 deep": BALL + "mass = " + "[" * 500 + "]" * 500,
    "5000 deep": "a = " + "{a=" * 5000 + "1" + "}" * 5000,
    "deep keys": ".".join("a" * 3000) + " = 1",
    "deep tables": "[" + ".".join("a" * 3000) + "]",
    "5 MB": BALL + "velocity = [" + "1," * 2_500_000 + "]",
    "long list": BALL + "velocity = [" + "1," * 200_000 + "]",
    "long rows": DISK + "center_polynomial = [" + "[0,0,0]," * 65 + "]",
    "many surfaces": BALL + "[[surface]]\nkind='floor'\n" * 257,
    "line feed in a key": BALL + '"a\\nb" = 1\n',
    "escape in a key": BALL + '"\\u001b[31m" = 1\n',
    "long value": BALL + "mass = '" + "x" * 200_000 + "'\n",
    "long kind": SURFACE + "kind = '" + "x" * 200_000 + "'\n",
    "long key": BALL + "x" * 200_000 + " = 1\n",
    "long name": DISK + "name = '" + "x" * 61 + "'\n",
    "line feed in a name": DISK + 'name = "a\\nb"\n',
    "digits": BALL + "mass = " + "9" * 5000,
    "hexadecimal digits": BALL + "mass = 0x" + "f" * 5000,
    "beyond float": BALL + "mass = 1e299\nradius = 1e300",
    "nul": "\0",
    "zero radius by rounding": BALL + "mass = 1e-400\n",
}


def told(text):
    """The error of a file, told within a second; None for one that is a scene."""
    begun = time.process_time()  # of this process, whatever else the machine does
    try:
        scenes.loads(text)
    except scenes.SceneError as error:
        line = str(error)
        assert line.isprintable(), line
        assert 5 < len(line) < 450, line
        slowly = sys.gettrace() is not None  # as where the lines that run are written down
        assert time.process_time() - begun < (10 if slowly else 1)
        return line
    return None


@pytest.mark.parametrize("case", NASTY)
def test_a_nasty_file_is_told_in_one_short_line(case):
    assert told(NASTY[case])


@pytest.mark.parametrize("size", ["1e-200", "1e200"])
def test_only_the_direction_of_a_normal_counts(size):
    scene = scenes.loads(DISK + f"normal = [{size}, 0, 0]\n")
    np.testing.assert_allclose(scene.world.surfaces[0].rotation[:, 2], [1, 0, 0], atol=1e-15)


@pytest.mark.parametrize("name", ["/dev/zero", "/", "a\nb"])
def test_what_is_no_file_is_told(name):
    with pytest.raises(scenes.SceneError) as caught:
        scenes.load(name)
    assert str(caught.value).isprintable()


ALONG = {
    "a long normal": "normal = [123.4, 567.8, 91.2]\nu = [123.4, 567.8, 91.2]\n",
    "its multiple": "normal = [123.4, 567.8, 91.2]\nu = [-246.8, -1135.6, -182.4]\n",
    "all but for rounding": "normal = [1, 0, 0]\nu = [1, 1e-9, 0]\n",
}


@pytest.mark.parametrize("case", ALONG)
def test_a_u_along_the_normal_is_told(case):
    assert "u: expected a direction across the normal" in told(DISK + ALONG[case])
    normal, u = (
        [float(x) for x in line.split("[")[1].rstrip("]").split(",")]
        for line in ALONG[case].splitlines()
    )
    with pytest.raises(ValueError, match=r"^u: expected a direction across the normal"):
        Surface.create(normal=normal, u=u)


@pytest.mark.parametrize("size", [1e-4, 1.0, 1e25, 1e-30])
def test_a_good_pair_of_any_size_is_taken(size):
    for dtype in (np.float32, np.float64):
        n, u = np.array([[0, 0, size], [3 * size, 4 * size, size]], dtype)
        rotation = Surface.create(normal=n, u=u).rotation
        np.testing.assert_allclose(rotation.T @ rotation, np.eye(3), atol=1e-6)
        np.testing.assert_allclose(rotation[:, 0], [0.6, 0.8, 0], atol=1e-6)
    scene = scenes.loads(DISK + f"normal = [0, 0, {size}]\nu = [{3 * size}, {4 * size}, {size}]\n")
    np.testing.assert_allclose(scene.world.surfaces[0].rotation[:, 0], [0.6, 0.8, 0], atol=1e-12)


def test_surfaces_without_a_name_are_numbered_and_two_of_one_name_told():
    two = SURFACE + "kind = 'floor'\n[[surface]]\nkind = 'floor'\ncenter = [0, 0, 1]\n"
    assert [one.name for one in scenes.loads(two).world.surfaces] == ["floor", "floor 2"]
    assert "expected each its own name" in told(two + "name = 'floor'\n")


@pytest.mark.parametrize("name", ["none/../x.bmp", "/proc/plot.png", "folder.png"])
def test_a_plot_that_cannot_be_written_is_told_before_the_simulation(tmp_path, name):
    (tmp_path / "folder.png").mkdir()
    path = tmp_path / name
    done = simulate(SCENE, "--plot", str(path))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ")
    assert os.path.basename(name) in done.stderr
    assert done.stderr.count("\n") == 1
    assert [one.name for one in tmp_path.iterdir()] == ["folder.png"]
