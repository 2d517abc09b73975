"""Pages that code writes: the published potentials, the recipes, and the reference of the command line."""

from pathlib import Path

from command_line import command_line_page
from potentials_page import potentials_page, recipes_table


def write_pages(folder: Path) -> None:
    """Write them into `folder`; files that would not change keep their time, so that little is built again."""
    folder.mkdir(exist_ok=True)
    pages = {
        "command_line.md": command_line_page(),
        "potentials.md": potentials_page(),
        "recipes.md": recipes_table(),
    }
    for name, text in pages.items():
        path = folder / name
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
