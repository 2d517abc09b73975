"""Pages that code writes: potentials by name, the default's card, recipes, and the reference of the command line."""

from pathlib import Path

from command_line import command_line_page
from model_card import default_page
from potentials_page import potentials_page, recipes_table

from mlip.pretrained import default_potential, find


def write_pages(folder: Path) -> None:
    """Write them into `folder`; files that would not change keep their time, so that little is built again."""
    folder.mkdir(exist_ok=True)
    pages = {
        "command_line.md": command_line_page(),
        "default_potential.md": default_page(find(default_potential())),
        "potentials.md": potentials_page(),
        "recipes.md": recipes_table(),
    }
    for name, text in pages.items():
        path = folder / name
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
