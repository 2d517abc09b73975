"""`mlip data check`: verify the checksums of a store."""

from pathlib import Path
from typing import Annotated

import typer

from mlip.cli.tables import console


def check(
    store: Annotated[Path, typer.Argument(help="A store file, or a folder of them.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of lines.")] = False,
) -> None:
    """Compare every column with its checksum. Exit status 1 if any was altered or cannot be read."""
    from dataclasses import asdict

    from mlip.data.check import find_problems

    with console(stderr=True).status("checking") as status:
        problems = list(find_problems(store, on_column=lambda column: status.update(f"checking {column}")))
    if as_json:
        import json

        print(json.dumps({"store": str(store), "sound": not problems, "problems": [asdict(p) for p in problems]}))
    else:
        for problem in problems:
            print(f"{problem.file}: {problem.column + ': ' if problem.column else ''}{problem.what}")
        if not problems:
            print(f"{store}: sound")
    if problems:
        raise typer.Exit(1)
