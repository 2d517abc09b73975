"""Links to files of the repository that are no pages: in the built pages they are downloads.

So one link serves both readers: on a code host it opens the file, and in the built pages it brings a copy.
"""

import os
import re
from pathlib import Path

_LINK = re.compile(r"(?<!!)\[([^\]]+)\]\((\.\.?/[^)#\s]+)\)")
_FENCE = re.compile(r"(^```.*?^```)", re.DOTALL | re.MULTILINE)


def to_the_code_host(app, docname: str, source: list[str]) -> None:
    """For Sphinx's event `source-read`."""
    pages = Path(app.srcdir).resolve()
    here = (pages / docname).parent

    def downloaded(match: re.Match) -> str:
        text, target = match.groups()
        path = Path(os.path.normpath(here / target))
        if path.is_relative_to(pages) or not path.is_file():
            return match.group(0)
        return f"{{download}}`{text.replace('`', '')} <{target}>`"

    parts = _FENCE.split(source[0])
    source[0] = "".join(part if part.startswith("```") else _LINK.sub(downloaded, part) for part in parts)
