"""`mlip recipes`: the recipes included in mlip, by the names that `mlip train` and `mlip screen` take."""

import typer


def recipes(
    name: str = typer.Argument(None, help="Print this recipe, to read or to copy: mlip recipes mace-2d > mine.yaml."),
) -> None:
    """List the recipes, or print one."""
    from mlip.files.known_folders import packaged_files
    from mlip.recipe_reading import find_recipe

    if name is not None:
        typer.echo(find_recipe(name).read_text(encoding="utf-8"), nl=False)
        return
    known = packaged_files("recipes")
    width = max(map(len, known))
    for known_name, path in known.items():
        typer.echo(f"{known_name:{width}}  {_first_sentence(path)}")


def _first_sentence(path) -> str:
    """First sentence of the comment at the top of a recipe."""
    lines = path.read_text(encoding="utf-8").splitlines()
    comment = []
    for line in lines:
        if not line.startswith("# "):
            break
        comment.append(line.removeprefix("# ").strip())
    return " ".join(comment).split(": ")[0].split(". ")[0]
