"""`mlip campaign`: rounds of screening, calculation and training that extend a database."""

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from mlip.cli import options

_RUN = "run"


class _RunByDefault(TyperGroup):
    """Group in which `mlip campaign RECIPE` means `mlip campaign run RECIPE`."""

    def resolve_command(self, ctx: typer.Context, args: list[str]):
        if args and not args[0].startswith("-") and self.get_command(ctx, args[0]) is None:
            args = [_RUN, *args]
        return super().resolve_command(ctx, args)


app = typer.Typer(
    cls=_RunByDefault,
    no_args_is_help=True,
    help="Rounds of screening, calculation and training: `mlip campaign RECIPE` begins or resumes them.",
)


@app.command(_RUN)
def run(
    recipe: Annotated[str, typer.Argument(help="YAML file, or a name that `mlip recipes` lists: campaigns/ternaries.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]...", help="Values that replace the recipe's, e.g. rounds=5."),
    ] = None,
    cluster: options.RoundCluster = None,
    as_json: options.StatusAsJson = False,
) -> None:
    """Begin or resume a campaign, and run it to its last round, or until it waits for external calculations.

    If it is killed, the same command resumes it, and calculates nothing twice.
    """
    from mlip.campaign.campaign import run_campaign
    from mlip.campaign.campaign_recipe import CampaignRecipe
    from mlip.recipe_reading import read_recipe

    resolved = read_recipe(recipe, CampaignRecipe, overrides or ())
    _show(run_campaign(resolved, cluster=cluster, progress=not as_json), as_json)


@app.command("collect")
def collect(
    folder: options.CampaignFolder,
    close: Annotated[
        bool,
        typer.Option("--close", help="Give up calculations that are not finished; the round continues without them."),
    ] = False,
    as_json: options.StatusAsJson = False,
) -> None:
    """Show the outcomes of the calculations that a campaign waits for; `mlip campaign RECIPE` then resumes it."""
    from mlip.campaign.campaign import close_stage
    from mlip.campaign.status import campaign_status

    if close:
        close_stage(folder)
    _show(campaign_status(folder), as_json)


@app.command("status")
def status(folder: options.CampaignFolder, as_json: options.StatusAsJson = False) -> None:
    """Show the status of a campaign: rounds, the next step, and the calculations it waits for."""
    from mlip.campaign.status import campaign_status

    _show(campaign_status(folder), as_json)


@app.command("report")
def report(folder: options.CampaignFolder) -> None:
    """Write report.html: distances to the hull of each round, growth of the hull, elements, costs."""
    from mlip.campaign.report import write_campaign_report

    print(write_campaign_report(folder))


def _show(status: dict[str, Any], as_json: bool) -> None:
    if as_json:
        import json

        print(json.dumps(status))
        return
    from mlip.cli.output import console, print_rows, print_table

    keys = ("rounds_done", "rounds_asked_for", "stage", "step", "waiting_for", "calculations", "hull", "note")
    rows = [(key.replace("_", " "), _text(status[key])) for key in keys if status.get(key) is not None]
    print_rows(console(), status["campaign"], rows)
    if status["rounds"]:
        print_table(console(), "rounds", _HEAD, [_row(one) for one in status["rounds"]])


_HEAD = (
    "round",
    "candidates",
    "proposals",
    "on or below hull",
    "median, eV/atom",
    "by chance",
    "median",
    "new on hull",
    "model's MAE",
    "s",
)


def _row(one: dict[str, Any]) -> tuple[str, ...]:
    def energy(value: float | None) -> str:
        return "" if value is None else f"{value:.3f}"

    def below(way: str) -> str:
        return f"{one[way]['on_hull']} of {one[way]['finished']}"

    return (
        str(one["round"]),
        f"{one['candidates']:,}",
        f"{one['proposals']:,}",
        below("by_model"),
        energy(one["by_model"]["median"]),
        below("by_chance"),
        energy(one["by_chance"]["median"]),
        str(one["new_vertices"]),
        energy(one["test_mae"]),
        f"{one['seconds']:,.0f}",
    )


def _text(value: Any) -> Any:
    return (
        ", ".join(f"{n:,} {what.replace('_', ' ')}" for what, n in value.items()) if isinstance(value, dict) else value
    )
