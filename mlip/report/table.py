"""A table as HTML."""

import html
from collections.abc import Collection, Sequence


def table(
    caption: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    text_columns: Collection[str] = ("",),
    notes: Sequence[str] = (),
) -> str:
    """
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
