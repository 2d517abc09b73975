"""Tables on the terminal, as the commands on data print them."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlip.benchmark.tables import Table


def console(stderr: bool = False):
    """A rich console; it is imported when something is printed."""
    from rich.console import Console

    return Console(stderr=stderr)


def print_rows(out, title: str, rows: Iterable[tuple]) -> None:
    """A table of names and values without a header."""
    print_table(out, title, ("", "value"), list(rows), show_header=False)


def print_table(out, title: str, header: tuple[str, ...], rows: Sequence[tuple], **style: Any) -> None:
    """First column to the left, the others to the right; `style` goes to `terminal_table`."""
    from rich.text import Text

    from mlip.terminal import terminal_table

    # Not as the table's own title, which wraps at its width; nor wrapped by the terminal's, amid a number and its unit.
    out.print(Text(title, style="bold"), soft_wrap=True)
    cells = [[Text(_cell(value)) for value in row] for row in rows]
    out.print(terminal_table(header, cells, header[:1], **style))


def show_table(table: "Table", out: Path | None, as_json: bool) -> None:
    """Print a table, and write it where asked to."""
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        table.save(out)
    if as_json:
        print(json.dumps(table.as_records()))
        return
    out_console = console()
    out_console.print(table.to_rich(out_console.width))


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.6g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
