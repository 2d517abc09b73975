"""Pages that a command has written, in the user's browser."""

import webbrowser
from pathlib import Path

import typer


def show_page(page: Path) -> None:
    """Open the page; where there is no browser, such as on a login node, say so on stderr."""
    if not webbrowser.open(page.resolve().as_uri()):
        typer.echo(f"no browser here: open {page.resolve()} yourself", err=True)
