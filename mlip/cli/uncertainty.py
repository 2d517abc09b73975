"""`mlip ensemble` and `mlip calibrate`: the spread of several potentials, and error bars fitted to held-out frames."""

from pathlib import Path
from typing import Annotated

import typer

from mlip.cli import options
from mlip.cli.output import console, print_table


def ensemble(
    potentials: Annotated[
        list[str],
        typer.Argument(
            metavar="POTENTIALS...",
            help="Potentials of one recipe that differ in their seeds: files (.safetensors) or names.",
        ),
    ],
    out: Annotated[Path, typer.Option(help="File of the ensemble.")] = Path("ensemble.safetensors"),
    force: options.ReplaceOut = False,
) -> None:
    """Combine potentials that only differ in their parameters into one file, which can be used wherever a potential
    can.

    Energies, forces and stresses are means over the members. Predictions, relaxations and benchmarks also report the
    spread of the members. `mlip calibrate` turns the spread into an error bar.
    """
    from mlip.files.output_paths import check_new
    from mlip.potential import Potential
    from mlip.uncertainty.ensembles import ensemble as make

    check_new(out, force=force)
    names = ["/".join(Path(name).parts[-2:]) for name in potentials]  # runs' files have the same name
    made = make([Potential.load(name) for name in potentials], names)
    typer.echo(f"{made.save(out)}: {made!r}")


def calibrate(
    potential: Annotated[str, typer.Argument(help="A potential or an ensemble (.safetensors, or a name).")],
    store: Annotated[
        Path,
        typer.Argument(help="A store with the potential's training frames, or similar ones, and held-out ones."),
    ],
    out: Annotated[Path, typer.Option(help="File of the calibrated potential.")],
    split: Annotated[str, typer.Option(help="Held-out frames to which the error bars are fitted.")] = "val",
    fit_split: Annotated[
        str, typer.Option(help="The frames from which distances are measured; an ensemble needs none.")
    ] = "train",
    threshold: Annotated[
        float, typer.Option(help="Flag predictions whose 90 % interval is wider than this on either side, eV/atom.")
    ] = 0.1,
    max_frames: Annotated[int, typer.Option(min=1, help="Maximum number of frames of each split.")] = 20_000,
    head: options.Head = None,
    allow_functional_mismatch: Annotated[
        bool, typer.Option("--allow-functional-mismatch", help="Labels may be of another functional; the file says so.")
    ] = False,
    force: options.ReplaceOut = False,
    as_json: options.TableAsJson = False,
) -> None:
    """Add error bars of energies to a potential, and a flag for predictions that are not to be trusted.

    The error bar of an ensemble is the spread of its members times a factor. That of a single network depends on the
    distance of a structure from the training frames in the features of the network's last layer; it costs next to
    nothing. Energies and forces do not change.
    """
    import json
    from dataclasses import asdict

    from mlip.data.store import Store
    from mlip.files.output_paths import check_new
    from mlip.potential import Potential
    from mlip.uncertainty.fitting import calibrate as fit

    check_new(out, force=force)
    loaded = Potential.load(potential, head)
    with Store(store) as opened, console(stderr=True).status("evaluating"):
        calibrated, rows = fit(
            loaded,
            opened,
            fit_split=fit_split,
            split=split,
            threshold=threshold,
            max_frames=max_frames,
            allow_functional_mismatch=allow_functional_mismatch,
        )
    calibrated.save(out)
    if as_json:
        print(json.dumps({"file": str(out), "factors": [asdict(row) for row in rows]}))
        return
    header = ("dimensionality", "frames", "MAE meV/atom", "factor", "mean std meV/atom", "doubtful %")
    cells = [
        (
            one.name,
            f"{one.frames:,}",
            f"{1e3 * one.mae:.1f}",
            f"{one.factor:.3g}",
            f"{1e3 * one.mean_std:.1f}",
            f"{100 * one.doubtful:.1f}",
        )
        for one in rows
    ]
    print_table(console(), f"{calibrated.uncertainty.kind} on {store}, {split}", header, cells)
    print(f"{out}: 90 % of the errors lie within 1.645 standard deviations; doubtful beyond {threshold:g} eV/atom")
