"""Display of pages in the user's browser."""

import webbrowser
from pathlib import Path

import typer


def show_page(page: Path) -> None:
    """Open the page in the browser; if there is none, as on a login node, print a note to stderr."""
    if not webbrowser.open(page.resolve().as_uri()):
        typer.echo(f"no browser here: open {page.resolve()} yourself", err=True)
