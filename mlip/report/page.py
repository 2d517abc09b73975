"""The frame of a report: one self-contained HTML file with inline style and scripts.

A content security policy forbids the page to fetch anything. The page follows the reader's light or dark theme, and can
be printed.
"""

import html
import json
import re
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from mlip import __version__

_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
_SCRIPTS = ("page.js", "chart.js", "structure_view.js")


def write_page(path: Path, title: str, subtitle: str, sections: Mapping[str, str]) -> None:
    """Write a page with sections (heading -> HTML) and links to them at its top; title and subtitle are plain text."""
    names = {heading: re.sub(r"\W+", "-", heading.lower()) for heading in sections}
    links = "".join(f"<a href='#{name}'>{html.escape(heading)}</a>" for heading, name in names.items())
    body = "\n".join(
        f"<section id='{names[heading]}'><h2>{html.escape(heading)}</h2>\n{content}\n</section>"
        for heading, content in sections.items()
    )
    path.write_text(
        f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<title>{html.escape(title)}</title>
<style>{_resource("page.css")}</style></head><body>
<header><h1>{html.escape(title)}</h1><p class="note">{html.escape(subtitle)}</p><nav>{links}</nav></header>
<main>
{body}
</main>
<footer class="note">mlip {__version__}</footer>
<script>{"".join(map(_resource, _SCRIPTS))}</script>
</body></html>
""",
        encoding="utf-8",
    )


def json_block(data: Any) -> str:
    """HTML element that holds data for a script as JSON, to be placed beside what the data describe."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    return f"<script type='application/json'>{text}</script>"


def _resource(name: str) -> str:
    return (files("mlip.report") / name).read_text(encoding="utf-8")
