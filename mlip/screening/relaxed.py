"""Relaxation of the candidates that passed; each is recorded as soon as it ends."""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from mlip.files.checksum import checksum_of
from mlip.progress import count_bar
from mlip.relaxation import RelaxResult, Statistics, relaxations
from mlip.relaxation.relax_on_cluster import relax_on_cluster
from mlip.relaxation.results_file import ResultsFile
from mlip.screening.plan import Kept
from mlip.screening.screening_recipe import RelaxRecipe


def relax_kept(
    recipe: RelaxRecipe, kept: Sequence[Kept], path: Path, *, cluster: str | None, progress: bool
) -> dict[int, dict[str, Any]]:
    """The record of each relaxation, by the candidate's index; relaxations recorded in `path` are not repeated.

    Args:
        cluster: a cluster in the notation of `mlip.cluster.client`, one device per worker; None: this process.

    Raises:
        MlipError: there is no such potential, or `path` has relaxations of other candidates, another potential or other
            options.
    """
    options = recipe.model_dump(exclude={"potential"})
    numbers = np.array([candidate.number for candidate in kept], "<i8")
    protocol = {
        "relaxation": options,
        "potential": checksum_of(recipe.file),
        "candidates": hashlib.sha256(numbers.tobytes()).hexdigest(),
    }
    with ResultsFile(path, protocol) as results:
        done = {record["candidate"] for record in results.records}
        missing = [candidate for candidate in kept if candidate.number not in done]
        with count_bar(progress) as bar:
            task = bar.add_task("relaxing", total=len(kept), completed=len(done))
            for index, result in _ended([one.atoms for one in missing], recipe.file, options, cluster):
                results.append({"candidate": missing[index].number, **result.as_record()})
                bar.advance(task)
        return {record["candidate"]: record for record in results.records}


def _ended(
    structures: list[Atoms], potential: Path, options: dict[str, Any], cluster: str | None
) -> Iterator[tuple[int, RelaxResult]]:
    if cluster is None or not structures:
        yield from relaxations(structures, potential, **options)
        return
    cells = ["auto"] * len(structures)
    for index, result, _ in relax_on_cluster(structures, cells, potential, options, cluster, Statistics()):
        yield index, result
