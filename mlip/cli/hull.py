"""`mlip hull`: the convex hull of the phases in files, and its change by new phases."""

from pathlib import Path
from typing import Annotated, Any

import typer

from mlip.cli import options


def hull(
    sources: Annotated[
        list[Path],
        typer.Argument(
            metavar="SOURCES...",
            help="Stores, JSON of computed entries or of formation energies (.json, .gz, .bz2), folders of these, or "
            "the hull.npz of a campaign.",
        ),
    ],
    add: Annotated[
        list[Path] | None,
        typer.Option(metavar="NEW", help="Phases to add to that hull, in the same layouts; can be repeated."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Write all phases with distance and decomposition: .json, .json.gz, .json.bz2 as ALEXANDRIA's hulls "
            "(computed entries), or .csv."
        ),
    ] = None,
    within: Annotated[
        float | None,
        typer.Option(min=0.0, help="Write phases at most this far above the hull, eV/atom; 0 is the hull itself."),
    ] = None,
    figures: Annotated[
        Path | None,
        typer.Option(help="Folder for the distribution of distances and the elements on the hull, as PNG and CSV."),
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Number of processes.")] = 1,
    allow_functional_mismatch: Annotated[
        bool,
        typer.Option(
            "--allow-functional-mismatch", help="Phases may be of several functionals or run types; a note says so."
        ),
    ] = False,
    force: options.ReplaceFile = False,
    as_json: options.SummaryAsJson = False,
) -> None:
    """Distances of phases to the convex hull, and the phases that new ones bring onto the hull or displace from it.

    A phase that cannot be read is left out and counted.
    """
    from mlip.errors import MlipError
    from mlip.files.output_paths import check_new, make_folder
    from mlip.hull.export import check_ending, write_hull
    from mlip.hull.figures import draw_hull
    from mlip.hull.hull_of_files import hull_of_files

    if out is not None:
        check_ending(out)
        check_new(out, force=force)
    elif within is not None:
        raise MlipError("--within says what is written", fix="name a file with --out")
    if figures is not None:
        make_folder(figures)
    found = hull_of_files(sources, add or (), allow_functional_mismatch=allow_functional_mismatch, n_workers=workers)
    summary = found.summary()
    if out is not None:
        make_folder(out.parent)
        summary["written"] = write_hull(out, found, within=float("inf") if within is None else within)
    drawn = draw_hull(found.hull, figures) if figures is not None else []
    if as_json:
        import json

        print(json.dumps(summary))
        return
    _show(summary)
    for path in (*filter(None, [out]), *drawn):
        print(path)


def _show(summary: dict[str, Any]) -> None:
    from mlip.cli.output import console, print_rows

    def text(value: Any) -> Any:
        if isinstance(value, dict):
            return ", ".join(f"{n:,} ({what})" for what, n in value.items())
        if isinstance(value, list):
            return f"{len(value):,}{': ' if value else ''}{', '.join(value[:5])}{', ...' if len(value) > 5 else ''}"
        return value

    shown = [(key.replace("_", " "), text(value)) for key, value in summary.items() if key != "notes"]
    print_rows(console(), "hull", [row for row in shown if row[1] not in (None, "")])
    for note in summary["notes"]:
        print(note)
