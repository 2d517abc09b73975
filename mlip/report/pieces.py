"""Pieces of a page as HTML: short facts, a table, several pictures in one place."""

import html
from collections.abc import Collection, Mapping, Sequence


def facts(known: Mapping[str, str]) -> str:
    """Short facts side by side: name -> what is known, both text."""
    pairs = "".join(
        f"<div><dt>{html.escape(name)}</dt><dd>{html.escape(text)}</dd></div>" for name, text in known.items()
    )
    return f"<dl class='facts'>{pairs}</dl>"


def table(
    caption: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    text_columns: Collection[str] = ("",),
    notes: Sequence[str] = (),
) -> str:
    """A table.

    Args:
        caption: text, as `columns` and `notes`, which stand below the table.
        rows: of HTML.
        text_columns: those that are not numbers, and so stand on the left.
    """
    classes = [" class='text'" if column in text_columns else "" for column in columns]

    def row(tag: str, cells: Sequence[str]) -> str:
        return "<tr>" + "".join(f"<{tag}{c}>{cell}</{tag}>" for c, cell in zip(classes, cells, strict=True)) + "</tr>"

    body = "\n".join(row("td", cells) for cells in rows)
    below = "".join(f"<p class='note'>{html.escape(note)}</p>\n" for note in notes)
    return (
        f"<div class='scroll'><table><caption>{html.escape(caption)}</caption>\n"
        f"<thead>{row('th', [html.escape(column) for column in columns])}</thead>\n"
        f"<tbody>{body}</tbody></table></div>\n{below}"
    )


def tabs(group: str, panels: Mapping[str, str]) -> str:
    """Several pictures in one place, one of which is shown; it needs no script.

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
