"""Short facts side by side, as HTML."""

import html
from collections.abc import Mapping


def facts(known: Mapping[str, str]) -> str:
    """Name -> what is known, both text."""
    pairs = "".join(
        f"<div><dt>{html.escape(name)}</dt><dd>{html.escape(text)}</dd></div>" for name, text in known.items()
    )
    return f"<dl class='facts'>{pairs}</dl>"
