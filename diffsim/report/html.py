"""One self-contained HTML page of facts, tables, figures and replays; it asks no network.

A page is a list of parts, each made by a function here; :func:`write` puts them in one file with
the code they need. three.js (MIT, see ``web/three.LICENSE``) draws the replays.
"""

from __future__ import annotations

import base64
import json
import math
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from html import escape
from pathlib import Path

from diffsim._files import checked, replacing

WEB = Path(__file__).with_name("web")
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
VIEWS = {
    "in perspective": "0.35 -0.85 0.45",
    "from the side": "0 -1 0.001",
    "from above": "0 -0.001 1",
    "from the paddle": "-1 0 0.15",
}
SPEEDS = (0.1, 0.25, 0.5, 1, 2)


def facts(values: Mapping[str, object]) -> str:
    """Names and values, one line each.

    >>> facts({"seed": 0})
    '<table><tr><th>seed</th><td>0</td></tr></table>'
    """
    rows = (f"<tr><th>{escape(k)}</th><td>{escape(str(v))}</td></tr>" for k, v in values.items())
    return f"<table>{''.join(rows)}</table>"


def prose(lines: Sequence[str]) -> str:
    """A paragraph a line.

    >>> prose(["a < b"])
    '<p>a &lt; b</p>'
    """
    return "".join(f"<p>{escape(line)}</p>" for line in lines)


def sortable_table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table that a click on a heading sorts; numbers by their value, those missing last.

    A cell may be a pair (text, value): what it shows, and what it is sorted by.

    >>> sortable_table(["bias"], [[("1 %", 0.01)]]).count('<td data-value="0.01">1 %</td>')
    1
    """
    head = "".join(f"<th>{escape(name)}</th>" for name in columns)
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
    return (
        f'<div class="wide"><table class="sortable"><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _cell(value: object) -> str:
    text, key = value if isinstance(value, tuple) else (value, value)
    if key is None or (isinstance(key, float) and math.isnan(key)):
        text, key = None if text is key else text, ""
    if isinstance(text, float):
        text = f"{text:.4g}"
    return f'<td data-value="{escape(str(key))}">{escape("–" if text is None else str(text))}</td>'


def figure(draw: Callable[[Path], object], about: str) -> str:
    """A vector picture.

    Args:
        draw: writes it to the .svg file it is given.
        about: what it shows, for those who cannot see it.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "figure.svg"
        draw(file)
        data = base64.b64encode(file.read_bytes()).decode()
    source = f"data:image/svg+xml;base64,{data}"
    return f'<div class="wide"><img alt="{escape(about)}" src="{source}"></div>'


def replay(film: Mapping[str, object]) -> str:
    """Rallies to play, pause, scrub and turn: see :func:`diffsim.report.film.film`."""
    speeds = "".join(
        f"<option value={s}{' selected' * (s == 0.25)}>speed {s:g}</option>" for s in SPEEDS
    )
    views = "".join(f'<option value="{v}">{name}</option>' for name, v in VIEWS.items())
    data = json.dumps(film, separators=(",", ":"), allow_nan=False).replace("</", "<\\/")
    return (
        '<div class="replay"><div class="key"></div><div class="stage"></div><div class="bar">'
        '<button class="play">play</button><select class="rally" aria-label="rally"></select>'
        '<input class="scrub" type="range" min="0" step="any" aria-label="time">'
        '<span class="clock"></span>'
        f'<select class="speed" aria-label="speed">{speeds}</select>'
        f'<select class="view" aria-label="view">{views}</select>'
        '<label><input class="cloud" type="checkbox" checked> landings</label></div>'
        f'<script type="application/json">{data}</script></div>'
    )


def write(path: str | os.PathLike, title: str, parts: Mapping[str, str]) -> Path:
    """Write a page.

    Args:
        path: the file, .html; its folder is made.
        title: above everything.
        parts: heading -> what a function of this module made.

    Returns:
        The path written.

    Raises:
        ValueError: another suffix.

    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = write(f"{folder}/run.html", "A run", {"Settings": facts({"seed": 0})})
    ...     "<h1>A run</h1>" in file.read_text()
    True
    """
    file = checked(path, (".html",))
    body = "".join(f"<h2>{escape(heading)}</h2>\n{part}\n" for heading, part in parts.items())
    code = [_web("page.js")]
    if any('class="replay"' in part for part in parts.values()):
        code = ["/*\n" + _web("three.LICENSE") + "*/", _web("three.js"), *code]
    scripts = "".join(f"<script>{one}</script>\n" for one in code)
    with replacing(file) as temporary:
        temporary.write_text(
            f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
            f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
            f'<meta name="viewport" content="width=device-width">\n<title>{escape(title)}</title>\n'
            f"<style>{_web('page.css')}</style></head>\n<body><h1>{escape(title)}</h1>\n"
            f"{body}{scripts}</body></html>\n",
            encoding="utf-8",
        )
    return file


@cache
def _web(name: str) -> str:
    return (WEB / name).read_text(encoding="utf-8")
