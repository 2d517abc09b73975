"""A potential or a calculator of ASE in place of DFT: each relaxation is recorded as soon as it ends.

The functional of all results is "surrogate:NAME", so that nobody takes them for DFT's.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mlip.data.low_dimensional import crystal_directions
from mlip.data.records import Frame
from mlip.dft.recipe import SurrogateRecipe
from mlip.dft.records import FINISHED, NO_INPUTS, NOT_STARTED, STEPS_USED_UP, Outcome, Proposal
from mlip.dft.table import Row, formula_of
from mlip.errors import MlipError
from mlip.foreign import ForeignSpec, foreign_name
from mlip.pretrained.registry import is_known
from mlip.progress import count_bar
from mlip.relaxation import RelaxResult, Statistics, relaxations
from mlip.relaxation.cell import Along, CellChoice
from mlip.relaxation.named import NamedPotential, open_named, precision_recorded
from mlip.relaxation.relax_files import record_of
from mlip.relaxation.relax_on_cluster import relax_on_cluster
from mlip.relaxation.results_file import ResultsFile, read_results

RESULTS = "results.jsonl"


def surrogate_name(recipe: SurrogateRecipe) -> str:
    """Name of the surrogate: its registered name, its file's stem, or the class of its calculator."""
    if is_known(recipe.calculator) and not Path(recipe.calculator).exists():
        return recipe.calculator
    text = foreign_name(recipe.calculator)
    return Path(recipe.calculator).stem if text is None else ForeignSpec.parse(text).factory


def functional_of_surrogate(recipe: SurrogateRecipe) -> str:
    return f"surrogate:{surrogate_name(recipe)}"


def surrogate_rows(recipe: SurrogateRecipe, proposals: Sequence[Proposal]) -> list[Row]:
    """Rows of the hand-over's table for these proposals."""
    return [_row(functional_of_surrogate(recipe), proposal) for proposal in proposals]


def _row(functional: str, proposal: Proposal) -> Row:
    refused = ""
    try:
        _cell_choice(proposal)
    except MlipError as error:
        refused = error.what
    return Row(
        id=proposal.id,
        folder="",
        formula=formula_of(proposal),
        atoms=len(proposal.atoms),
        dimensionality=proposal.dimensionality,
        functional=functional,
        hubbard="",
        kpoints="",
        encut="",
        potcars="",
        vacuum="",
        refused=refused,
        sha256=proposal.checksum,
    )


def relax_proposals(recipe: SurrogateRecipe, proposals: Sequence[Proposal], folder: Path, *, progress: bool) -> None:
    """Relax the proposals that have no record yet.

    Raises:
        MlipError: there is no such potential, or the results in the folder are of another one or of other options.
    """
    named = open_named(recipe.calculator)
    options: dict[str, Any] = {"fmax": recipe.fmax, "steps": recipe.steps, **named.precision(recipe.dtype)}
    protocol = {"relaxation": {**options, "dtype": precision_recorded(options)}, "potential": named.record}
    with ResultsFile(folder / RESULTS, protocol) as results:
        done = {record["proposal"] for record in results.records}
        missing = [proposal for proposal in proposals if proposal.id not in done]
        with count_bar(progress) as bar:
            task = bar.add_task("calculating", total=len(proposals), completed=len(proposals) - len(missing))
            for index, result in _ended(missing, named, options, recipe.cluster):
                proposal = missing[index]
                results.append({"proposal": proposal.id, "sha256": proposal.checksum, **record_of(result)})
                bar.advance(task)


def _ended(
    proposals: Sequence[Proposal], named: NamedPotential, options: dict[str, Any], cluster: str | None
) -> Iterator[tuple[int, RelaxResult]]:
    structures, cells = [one.atoms for one in proposals], [_cell_choice(one) for one in proposals]
    if cluster is None or not structures:
        yield from relaxations(structures, named.potential, cell=cells, **options)
        return
    for index, result, _ in relax_on_cluster(structures, cells, named.source, options, cluster, Statistics()):
        yield index, result


def _cell_choice(proposal: Proposal) -> CellChoice:
    """The cell directions that relax: periodic ones, but not across the vacuum of a layer or chain in a fully periodic
    cell.

    Raises:
        MlipError: the periodicity contradicts the dimensionality.
    """
    directions = crystal_directions(proposal.atoms.pbc, proposal.dimensionality, where=proposal.id)
    if directions.all() or not proposal.atoms.pbc.all():
        return "auto"
    return Along(tuple(map(bool, directions)))


def collect_surrogate(recipe: SurrogateRecipe, rows: Sequence[Row], folder: Path) -> list[Outcome]:
    """The outcome of each row, in order."""
    path = folder / RESULTS
    records = {record["proposal"]: record for record in read_results(path)[1]} if path.exists() else {}
    return [_outcome(row, records.get(row.id)) for row in rows]


def _outcome(row: Row, record: dict[str, Any] | None) -> Outcome:
    if row.refused:
        return Outcome(row.id, NO_INPUTS, row.refused, functional=row.functional)
    if record is None:
        return Outcome(row.id, NOT_STARTED, functional=row.functional)
    reason = {"converged": FINISHED, "max_steps": STEPS_USED_UP}.get(record["reason"], record["reason"])
    return Outcome(
        row.id,
        reason,
        record["message"] or "",
        frame=_frame(record) if reason == FINISHED else None,
        functional=row.functional,
        n_steps=record["n_steps"],
        source=RESULTS,
    )


def _frame(record: dict[str, Any]) -> Frame:
    return Frame(
        numbers=np.array(record["numbers"], np.int16),
        positions=np.array(record["positions"], np.float64).reshape(-1, 3),
        cell=np.array(record["cell"], np.float64),
        pbc=np.array(record["pbc"], bool),
        energy=record["energy"],
        forces=np.array(record["forces"], np.float64).reshape(-1, 3),
        stress=None if record["stress"] is None else np.array(record["stress"], np.float64),
    )
