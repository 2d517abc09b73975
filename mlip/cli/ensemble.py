"""`mlip ensemble`: several potentials in one file, whose spread is a measure of uncertainty."""

from pathlib import Path
from typing import Annotated

import typer


def ensemble(
    potentials: Annotated[
        list[str],
        typer.Argument(
            metavar="POTENTIALS...",
            help="Potentials of one recipe that differ in their seeds: files (.safetensors) or names.",
        ),
    ],
    out: Annotated[Path, typer.Option(help="File of the ensemble.")] = Path("ensemble.safetensors"),
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")] = False,
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
