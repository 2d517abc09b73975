"""Arguments and options that several commands share, with their help texts."""

from pathlib import Path
from typing import Annotated

import typer

PotentialAndFiles = Annotated[
    list[str],
    typer.Argument(
        metavar="[POTENTIAL] FILES...",
        help="A potential (.safetensors, a name that `mlip models` lists, or a calculator of ASE,"
        " ase:MODULE:CLASS?key=value; without one the default), and files that ASE reads: CIF, POSCAR, extxyz, ...",
    ),
]
Potential = Annotated[
    str,
    typer.Argument(
        help="The potential: a .safetensors file, a name that `mlip models` lists (`default` is the default), or any"
        " calculator of ASE, ase:MODULE:CLASS?key=value, which takes structures one by one."
    ),
]
RelaxationDtype = Annotated[
    str | None, typer.Option("--dtype", help="float32 (default) or float64; a calculator of ASE has its own.")
]
ResponseDtype = Annotated[
    str | None, typer.Option("--dtype", help="float64 (default) or float32; a calculator of ASE has its own.")
]
Cluster = Annotated[
    str | None,
    typer.Option(help="Relax on Dask workers: a scheduler's address, or local:N for N worker processes here."),
]
ResultsFolder = Annotated[Path, typer.Option(help="Folder for results.jsonl and the table; a killed run resumes.")]
TableFolder = Annotated[Path | None, typer.Option(help="Folder to write the table to, as Markdown, CSV and LaTeX.")]
Split = Annotated[str, typer.Option(help="train, val, test or all.")]
Fmax = Annotated[float, typer.Option(help="Converged when all forces are below this, eV/A.")]
Steps = Annotated[int, typer.Option(help="Maximum number of steps.")]
Relax = Annotated[
    bool, typer.Option("--relax/--no-relax", help="Relax positions and cell first; else take structures as they are.")
]
RelaxationSteps = Annotated[int, typer.Option(help="Maximum number of steps in each relaxation.")]
MinLength = Annotated[float, typer.Option(help="Minimum length of the supercell's vectors, A.")]
WithPaper = Annotated[bool, typer.Option("--with-paper", help="Add the rows published in the paper.")]
LabelMismatch = Annotated[
    bool, typer.Option("--allow-functional-mismatch", help="Labels may be of another functional; the table says so.")
]
Force = Annotated[bool, typer.Option("--force", help="Start again in a folder that has results.")]
NumbersAsJson = Annotated[bool, typer.Option("--json", help="Print numbers as JSON.")]
SummaryAsJson = Annotated[bool, typer.Option("--json", help="Print a summary as JSON.")]
