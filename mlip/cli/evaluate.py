"""`mlip evaluate`: errors of a potential on labelled frames, beside trivial predictors."""

import json
from pathlib import Path

import typer


def evaluate(
    potential: Path = typer.Argument(help="A potential (.safetensors)."),
    data: Path = typer.Argument(help="A store, or any file that `mlip data build` reads."),
    split: str = typer.Option(None, "--split", help="Of a store: train, val or test. Default: all frames."),
    functional: str = typer.Option(None, "--functional", help="Of a file that does not tell: PBE, ..."),
    head: str = typer.Option(None, "--head", help="Of a potential with several: the one to be evaluated."),
    dtype: str = typer.Option("float32", "--dtype", help="float32 or float64."),
    elements: bool = typer.Option(False, "--elements", help="Every element, not the ten with the worst forces."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON instead of the table."),
) -> None:
    """Energy, force and stress errors of a potential by dimensionality, beside E0 only, F = 0 and S = 0."""
    from rich.console import Console

    from mlip.evaluation.error_tables import error_tables
    from mlip.evaluation.evaluate import evaluate_path
    from mlip.potential import open_potential

    errors = evaluate_path(open_potential(potential, head), data, split=split, functional=functional, dtype=dtype)
    if as_json:
        typer.echo(json.dumps(errors.as_json()))
    else:
        name = f"{potential} ({head})" if head else potential
        title = f"{name} on {data}" + (f", {split}" if split else "")
        Console().print(*error_tables(errors, title, all_elements=elements))
