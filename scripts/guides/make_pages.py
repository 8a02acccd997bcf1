"""Pages of the site that are made from elsewhere: guides, README, reference, papers. For MkDocs."""

import re
from pathlib import Path

import griffe
import jupytext
import yaml
from mkdocs.structure.files import File

ROOT = Path(__file__).parents[2]
GUIDES = Path(__file__).parent


class Docstrings(griffe.Extension):
    """Examples are code: as text, ``>>>`` would be a quotation. ``a, b: x`` is one entry each."""

    example = re.compile(r"^>>> .*(?:\n.+)*", re.MULTILINE)
    shared = re.compile(r"^( +)(\w+(?:, \w+)+):( .*(?:\n\1 .*)*)", re.MULTILINE)

    def on_object(self, *, obj, **_):
        if obj.docstring:
            text = self.example.sub(r"```pycon\n\g<0>\n```", obj.docstring.value)
            obj.docstring.value = self.shared.sub(self.separate, text)

    @staticmethod
    def separate(found: re.Match) -> str:
        indent, names, told = found.groups()
        return "\n".join(f"{indent}{name}:{told}" for name in names.split(", "))


def guide(path: Path) -> str:
    """A program in the percent format as Markdown."""
    cells = jupytext.read(path).cells
    return "\n\n".join(
        cell.source if cell.cell_type == "markdown" else f"```python\n{cell.source}\n```"
        for cell in cells
    ).replace("  # noqa: E402", "")


def linked(text: str) -> str:
    """The README's links as the site's."""
    text = re.sub(r"\(scripts/guides/(?:pages/)?(\w+)\.(?:py|md)\)", r"(\1.md)", text)
    text = text.replace("(CONTRIBUTING.md)", "(contributing.md)")
    text = text.replace("(CITATION.cff)", "(references.md)")
    return text.replace("[scripts/guides](scripts/guides)", "scripts/guides")


def references() -> str:
    """The papers of the methods, from CITATION.cff."""
    lines = ["# References\n"]
    for paper in yaml.safe_load((ROOT / "CITATION.cff").read_text())["references"]:
        names = ", ".join(f"{a['given-names']} {a['family-names']}" for a in paper["authors"])
        where = paper.get("journal") or paper.get("collection-title")
        place = f" *{where}*," if where else ""
        end = "" if paper["title"][-1] in "?!" else "."
        lines.append(f"- {names}: {paper['title']}{end}{place} {paper['year']} — {paper['notes']}")
    return "\n".join(lines) + "\n"


def on_files(files, config):
    def add(uri: str, content: str | bytes) -> None:
        files.append(File.generated(config, uri, content=content))

    add("index.md", linked((ROOT / "README.md").read_text()))
    add("contributing.md", (ROOT / "CONTRIBUTING.md").read_text())
    add("references.md", references())
    for path in sorted(GUIDES.glob("*.py")):
        if path.name != Path(__file__).name:
            add(f"{path.stem}.md", guide(path))
    for package in sorted((ROOT / "diffsim").glob("*/__init__.py")):
        name = package.parent.name
        add(f"api/{name}.md", f"# diffsim.{name}\n\n::: diffsim.{name}\n")
    for picture in sorted((ROOT / "data").glob("*.[pg][ni][gf]")):
        add(f"data/{picture.name}", picture.read_bytes())
    return files


def on_page_markdown(markdown, **_):
    return markdown.replace("](../../../data/", "](data/")


def on_page_content(html, **_):
    """Sphinx roles of the docstrings as plain code."""
    return re.sub(r":(?:\w+:)?\w+:<code>~?", "<code>", html)
