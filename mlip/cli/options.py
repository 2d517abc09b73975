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
Stores = Annotated[Path, typer.Argument(help="A store file, or a folder of them.")]
LabeledMaterials = Annotated[
    Path,
    typer.Argument(
        help="A store whose materials have the labels, or a JSON file as matcalc publishes them (.json.gz)."
    ),
]
RelaxationResults = Annotated[
    list[str],
    typer.Argument(
        metavar="RESULTS...",
        help="results.jsonl of `mlip benchmark relaxation`, or its folder; NAME=PATH names the row, and files with "
        "the same name are combined.",
    ),
]
CampaignFolder = Annotated[Path, typer.Argument(help="The campaign's folder: `out` of its recipe.", show_default=False)]
Dtype = Annotated[
    str | None, typer.Option("--dtype", help="float32 (default) or float64; a calculator of ASE has its own.")
]
ModelDtype = Annotated[str, typer.Option("--dtype", help="float32 or float64.")]
ResponseDtype = Annotated[
    str | None, typer.Option("--dtype", help="float64 (default) or float32; a calculator of ASE has its own.")
]
Cluster = Annotated[
    str | None,
    typer.Option(help="Relax on Dask workers: a scheduler's address, or local:N for N worker processes here."),
]
RoundCluster = Annotated[
    str | None,
    typer.Option("--cluster", help="Predict and relax on Dask: tcp://HOST:PORT, slurm:JOBS,cores=16,..., or local:N."),
]
Head = Annotated[str | None, typer.Option(help="Head of a potential that has several: PBE, ...")]
RunStore = Annotated[
    Path | None, typer.Option("--store", help="Path of the run's store, if it is not where the recipe says.")
]
NewStore = Annotated[Path, typer.Option(help="The new store, *.h5.")]
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
AtMost = Annotated[int | None, typer.Option(help="Number of materials, evenly chosen. Default: all.", min=1)]
WithPaper = Annotated[bool, typer.Option("--with-paper", help="Add the rows published in the paper.")]
WithMatpes = Annotated[bool, typer.Option("--with-paper", help="Add the rows that MatPES published for these labels.")]
LabelMismatch = Annotated[
    bool, typer.Option("--allow-functional-mismatch", help="Labels may be of another functional; the table says so.")
]
Force = Annotated[bool, typer.Option("--force", help="Start again in a folder that has results.")]
ReplaceOut = Annotated[bool, typer.Option("--force", help="Replace OUT if it exists.")]
ReplaceFile = Annotated[bool, typer.Option("--force", help="Replace the file that --out names if it exists.")]
OpenPage = Annotated[bool, typer.Option("--open", help="Show it in the browser.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
NumbersAsJson = Annotated[bool, typer.Option("--json", help="Print numbers as JSON.")]
SummaryAsJson = Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")]
StatusAsJson = Annotated[bool, typer.Option("--json", help="Print the status as JSON.")]
TableAsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of the table.")]
TablesAsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")]
