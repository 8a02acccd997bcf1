"""What is installed: the archives' contents, their metadata, and the lower bounds."""

import email
import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def run(*command, **options) -> str:
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    for name in ("build", "hatchling", "hatch_fancy_pypi_readme"):
        pytest.importorskip(name, reason=f"{name} is not installed (extra test)")
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT)
    return folder


def test_the_archives_hold_the_package_and_nothing_else(built):
    wheel = zipfile.ZipFile(next(built.glob("diffsim_jax-*.whl")))
    names = wheel.namelist()
    for name in ("motion/arm.xml", "py.typed", "report/web/three.js", "report/web/three.LICENSE",
                 "report/web/page.js", "report/web/page.css"):  # fmt: skip
        assert f"diffsim/{name}" in names
    assert {name.split("/")[0].split("-")[0] for name in names} == {"diffsim", "diffsim_jax"}
    assert sum(info.file_size for info in wheel.infolist()) < 5e6
    with tarfile.open(next(built.glob("diffsim_jax-*.tar.gz"))) as source:
        inside = {name.split("/")[1] for name in source.getnames() if "/" in name}
    assert {"diffsim", "LICENSE", "README.md", "CITATION.cff", "pyproject.toml"} <= inside
    assert not inside & {"tests", "data", "scripts", "runs"}


def test_the_metadata_is_complete(built):
    wheel = zipfile.ZipFile(next(built.glob("diffsim_jax-*.whl")))
    name = next(name for name in wheel.namelist() if name.endswith("METADATA"))
    about = email.message_from_string(wheel.read(name).decode())
    assert about["Name"] == "diffsim-jax"
    assert about["Project-URL"] is None  # there is no public address to claim
    for minor in (11, 12, 13):
        assert f"Programming Language :: Python :: 3.{minor}" in about.get_all("Classifier")
    text = str(about.get_payload())
    assert "a contact model of your own" in text  # the words of a link that leads into a checkout
    links = re.findall(r"\]\(([^)]+)\)", text)
    assert [link for link in links if not link.startswith(("https://", "#"))] == []


def test_the_wheel_works_alone(built, tmp_path):
    """Unpacked somewhere, with nothing of the checkout in reach."""
    zipfile.ZipFile(next(built.glob("*.whl"))).extractall(tmp_path)
    code = (
        "import diffsim; from diffsim.motion.arm import Arm; from diffsim.report import html;"
        "print(Arm.load().joint_count, len(html._web('three.js')) > 1e5, diffsim.__file__)"
    )
    told = run(sys.executable, "-c", code, cwd=tmp_path, env=os.environ | {"PYTHONPATH": "."})
    assert told.split()[:2] == ["7", "True"]
    assert str(tmp_path) in told


def test_every_extra_that_an_error_names_exists():
    extras = PROJECT["optional-dependencies"]
    used = [
        extra
        for folder in ("diffsim", "scripts")
        for file in ROOT.glob(f"{folder}/**/*.py")
        for extra in re.findall(r"_extra\.missing\([^)]*, \"(\w+)\"\)", file.read_text())
    ]
    assert {"gym", "hdf5", "rf", "video", "demo"} <= set(used)
    assert set(used) <= set(extras)
    named = re.findall(r"\[([\w,]+)\]", extras["all"][0])[0].split(",")
    assert set(used) <= set(named) <= set(extras)


def lowest() -> list[str]:
    """The dependencies, each at its lower bound."""
    return [requirement.replace(">=", "==") for requirement in PROJECT["dependencies"]]


def test_every_dependency_has_a_lower_bound():
    assert all(re.fullmatch(r"[\w-]+==[\d.]+", one) for one in lowest())


@pytest.mark.slow
def test_the_lowest_versions_work(tmp_path):
    """Installed as the bounds say, a scene is drawn and a training runs."""
    if "3.11" not in sys.version:
        pytest.skip("the lowest versions have wheels for Python 3.11")
    run(sys.executable, "-m", "venv", tmp_path / "venv")
    python = tmp_path / "venv" / "bin" / "python"
    run(python, "-m", "pip", "install", "-q", *lowest())
    scene = ROOT / "tests/physics/scenes/net_table_floor.toml"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    picture, out = tmp_path / "flight.pdf", tmp_path / "run"
    run(python, ROOT / "scripts/simulate.py", scene, "--plot", picture, env=environment)
    run(python, ROOT / "scripts/train.py", "--steps", 1, "--batch", 8, "--out", out,
        env=environment)  # fmt: skip
    assert picture.stat().st_size > 1000
    assert (out / "report.html").exists()
