"""Output that several commands share: tables on the terminal, pages in the browser."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from mlip.benchmark.tables import Table


def console(stderr: bool = False, width: int | None = None):
    """A rich console without markup: brackets of file names and of extras (mlip[phonons]) are printed as they are.

    rich is imported only when something is printed.
    """
    from rich.console import Console

    return Console(stderr=stderr, width=width, markup=False, emoji=False)


def print_rows(out, title: str, rows: Iterable[tuple]) -> None:
    """Print a table of names and values without a header."""
    print_table(out, title, ("", "value"), list(rows), show_header=False)


def print_table(out, title: str, header: tuple[str, ...], rows: Sequence[tuple], **style: Any) -> None:
    """Print a table with the first column left-aligned, the others right-aligned; `style` goes to `terminal_table`."""
    from rich.text import Text

    from mlip.terminal import terminal_table

    # rich would wrap the table's own title at the table's width; a soft wrap keeps numbers with their units
    out.print(Text(title, style="bold"), soft_wrap=True)
    cells = [[Text(_cell(value)) for value in row] for row in rows]
    out.print(terminal_table(header, cells, header[:1], **style))


def show_table(table: "Table", out: Path | None, as_json: bool) -> None:
    """Print a table, as JSON if asked, and save it to `out` if given."""
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        table.save(out)
    if as_json:
        print(json.dumps(table.as_records()))
        return
    out_console = console()
    out_console.print(table.to_rich(out_console.width))


def show_page(page: Path) -> None:
    """Open the page in the browser; if there is none, as on a login node, print a note to stderr."""
    import webbrowser

    if not webbrowser.open(page.resolve().as_uri()):
        typer.echo(f"no browser here: open {page.resolve()} yourself", err=True)


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.6g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
