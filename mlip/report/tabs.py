"""Several pictures in one place, one of which is shown: HTML that needs no script."""

import html
from collections.abc import Mapping


def tabs(group: str, panels: Mapping[str, str]) -> str:
    """
    Args:
        group: a word that no other tabs of the page have.
        panels: label (text) -> HTML; the first is shown until the reader chooses another.
    """
    parts = []
    for number, (label, content) in enumerate(panels.items()):
        name = f"{group}-{number}"
        checked = " checked" if number == 0 else ""
        parts.append(
            f"<input type='radio' name='{group}' id='{name}'{checked}><label for='{name}'>{html.escape(label)}</label>"
            f"<div>{content}</div>"
        )
    return f"<div class='tabs'>{''.join(parts)}</div>"
