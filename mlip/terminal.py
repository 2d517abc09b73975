"""Layout of tables on the terminal, shared by all commands."""

from collections.abc import Container, Iterable, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text


def terminal_table(
    columns: Sequence[str],
    rows: Iterable[Sequence[Any]] = (),
    text_columns: Container[str] = (),
    *,
    whole: Container[str] = (),
    **style: Any,
) -> Table:
    """A rich table to print on a console.

    Args:
        columns: headings.
        rows: cells of each row, as text or rich renderables.
        text_columns: names of the left-aligned columns; the others are right-aligned.
        whole: names of the columns whose cells are not wrapped.
        style: arguments of rich's Table, such as `title` and `caption`.
    """
    table = Table(**style)
    for name in columns:
        justify = "left" if name in text_columns else "right"
        table.add_column(Text(name), justify=justify, overflow="fold", no_wrap=name in whole)
    for row in rows:
        table.add_row(*row)
    return table
