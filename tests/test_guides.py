"""The guides and the README's snippets run as they are written."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from diffsim.physics import scene

ROOT = Path(__file__).parents[1]
GUIDES = sorted(
    path for path in (ROOT / "scripts/guides").glob("*.py") if path.name != "make_pages.py"
)
README = (ROOT / "README.md").read_text()
SNIPPETS = re.findall(r"```python\n(.*?)```", README, re.S)


def run(*arguments, cwd) -> str:
    environment = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"}
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=environment | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("guide", GUIDES, ids=lambda path: path.stem)
def test_a_guide_runs(guide, tmp_path):
    assert run(guide, cwd=tmp_path)


def test_every_guide_is_prose_and_code_and_on_the_site():
    site = (ROOT / "scripts/guides/mkdocs.yml").read_text()
    assert len(GUIDES) == 10
    for guide in GUIDES:
        text = guide.read_text()
        compile(text, guide, "exec")
        assert text.startswith("# %% [markdown]\n# # ")
        assert "\n# %%\n" in text
        assert f"- {guide.stem}.md" in site
        assert f"scripts/guides/{guide.name}" in README


SHORT = {
    "gradients": "Estimate(",
    "losses": "1.08744",
    "invertible": "Inversion(status=OK, x=[1, 3]",
    "quadrature": "Integral(value=8.378",
}
LONG = {
    "motion": "",
    "training": "simulations an update",
    "envs": "",
    "delay": "DelayEstimate(count=2",
}


@pytest.mark.parametrize("told", [SHORT, pytest.param(LONG, marks=pytest.mark.slow)])
def test_the_snippets_of_the_readme_run(told, tmp_path):
    """In one process, each with names of its own, as they are in the README."""
    chosen = {name: [s for s in SNIPPETS if f"from diffsim.{name} " in s] for name in told}
    assert all(len(found) == 1 for found in chosen.values())
    assert len(SNIPPETS) == len(SHORT) + len(LONG) == 8
    file = tmp_path / "snippets.py"
    texts = [found[0] for found in chosen.values()]
    file.write_text(f"for text in {texts!r}:\n    exec(text, {{}})\n")
    lines = run(file, cwd=tmp_path).splitlines()
    assert len(lines) == len(told)
    for line, part in zip(lines, told.values(), strict=True):
        assert part in line


def test_the_scene_of_the_readme_is_the_one_that_is_explained():
    name = re.findall(r"scripts/simulate.py (\S+)", README)[0]
    text = (ROOT / name).read_text()
    assert text in (ROOT / "scripts/guides/pages/measured.md").read_text()
    assert [surface.name for surface in scene.loads(text).world.surfaces] == ["table", "paddle"]


def test_the_readme_is_short_and_its_links_lead_somewhere():
    assert len(README.encode()) <= 9000
    links = re.findall(r"\]\(([^)#]+)\)", README)
    assert len(links) > 10
    assert [x for x in links if not x.startswith("https://") and not (ROOT / x).exists()] == []


def test_the_citation_is_valid():
    pytest.importorskip("cffconvert", reason="cffconvert is not installed (extra test)")
    program = "from cffconvert.cli.cli import cli; cli()"
    told = run("-c", program, "--validate", "-i", ROOT / "CITATION.cff", cwd=ROOT)
    assert "valid" in told.lower()


@pytest.mark.slow
def test_the_site_is_made_without_a_warning(tmp_path):
    pytest.importorskip("mkdocs", reason="mkdocs is not installed (extra docs)")
    config = ROOT / "scripts/guides/mkdocs.yml"
    run("-m", "mkdocs", "build", "--strict", "-q", "-f", config, "-d", tmp_path, cwd=ROOT)
    assert "Jupyter" not in (tmp_path / "bucket.html").read_text()
    physics = (tmp_path / "api" / "physics.html").read_text()
    assert "simulate" in physics
    assert 'title="diffsim.physics.Impacts.before"' in physics  # of an entry "before, after: …"
