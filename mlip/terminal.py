"""Tables on the terminal, made in one place: the console lays them out, whoever prints says what is in them."""

from collections.abc import Container, Iterable, Sequence
from typing import Any

from rich.table import Table


def terminal_table(
    columns: Sequence[str],
    rows: Iterable[Sequence[Any]] = (),
    text_columns: Container[str] = (),
    *,
    whole: Container[str] = (),
    **style: Any,
) -> Table:
    """A table of rich's, for a console to print.

    Args:
        rows: cells of each, text or rich's own.
        text_columns: names of those that are set to the left; numbers are set to the right.
        whole: names of those whose cells are not broken while others can be.
        style: arguments of rich's Table, such as `title` and `caption`.
    """
    table = Table(**style)
    for name in columns:
        justify = "left" if name in text_columns else "right"
        table.add_column(name, justify=justify, overflow="fold", no_wrap=name in whole)
    for row in rows:
        table.add_row(*row)
    return table
