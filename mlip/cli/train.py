"""`mlip train`: a recipe into a potential."""

from pathlib import Path

import typer


def train(
    recipe: Path = typer.Argument(help="YAML file, see recipes/."),
    overrides: list[str] = typer.Argument(
        None, metavar="[KEY=VALUE]...", help="Values instead of the recipe's, e.g. train.learning_rate=0.003."
    ),
    resume: bool = typer.Option(False, "--resume", help="Go on with the run that is in the run folder."),
    dry_run: bool = typer.Option(
        False, "--dry-run", help="Check recipe and data, print what would be done, write nothing."
    ),
) -> None:
    """Train a potential by a recipe; everything about the run goes into its folder."""
    from mlip.training.dry_run import describe_plan
    from mlip.training.loop import train as run
    from mlip.training.recipe_file import load_recipe

    resolved = load_recipe(recipe, overrides or ())
    if dry_run:
        typer.echo(describe_plan(resolved))
    else:
        run(resolved, resume=resume)
