"""Building blocks of a page as HTML: short facts, tables, tabs."""

import html
from collections.abc import Collection, Mapping, Sequence


def facts(known: Mapping[str, str]) -> str:
    """HTML of short facts side by side; `known` maps names to values, both plain text."""
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
    """A table as HTML.

    Args:
        caption: plain text, like `columns` and `notes`; the notes stand below the table.
        rows: cells as HTML.
        text_columns: columns that hold text instead of numbers and are aligned left.
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
    """Tabs, one of which is shown at a time, as HTML that needs no script.

    Args:
        group: identifier of these tabs, unique on the page.
        panels: label (plain text) -> HTML; the first is shown until the reader chooses another.
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
