"""`mlip screen`: run a screening recipe, which gives candidates for new crystals."""

from typing import Annotated, Any

import typer

from mlip.cli import options


def screen(
    recipe: Annotated[str, typer.Argument(help="YAML file, or a name that `mlip recipes` lists: screening/ternaries.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]...", help="Values that replace the recipe's, e.g. keep.below=0.05."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Read model and prototypes, count the candidates, write nothing.")
    ] = False,
    cluster: options.RoundCluster = None,
    allow_functional_mismatch: Annotated[
        bool,
        typer.Option(
            "--allow-functional-mismatch",
            help="Model, potential and the prototypes' store may be of several functionals; the summary says so.",
        ),
    ] = False,
    as_json: options.SummaryAsJson = False,
) -> None:
    """Put elements on prototypes, predict distances to the hull, keep the best of each composition, and relax these.

    If the round is killed, the same command resumes it.
    """
    from mlip.recipe_reading import read_recipe
    from mlip.screening.plan import plan_round
    from mlip.screening.round import describe_plan, run_round
    from mlip.screening.screening_recipe import ScreeningRecipe

    resolved = read_recipe(recipe, ScreeningRecipe, overrides or ())
    allowed = {"allow_functional_mismatch": allow_functional_mismatch}
    summary = (
        describe_plan(plan_round(resolved, **allowed))
        if dry_run
        else run_round(resolved, cluster=cluster, progress=not as_json, **allowed)
    )
    if as_json:
        import json

        print(json.dumps(summary))
        return
    _show(summary)
    if not dry_run:
        print(f"{resolved.out}: candidates.csv, histogram.png, candidates.h5, cifs/")


def _show(summary: dict[str, Any]) -> None:
    from mlip.cli.output import console, print_rows

    def text(value: Any) -> Any:
        return ", ".join(f"{n:,} {what}" for what, n in value.items()) if isinstance(value, dict) else value

    rows = [(key.replace("_", " "), text(value)) for key, value in summary.items() if value is not None]
    print_rows(console(), "screening", rows)
