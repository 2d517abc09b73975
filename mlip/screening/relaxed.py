"""The candidates that stay, relaxed with a potential. Each has its record as soon as it ends."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mlip.relaxation import relaxations
from mlip.relaxation.queue import progress_bar
from mlip.relaxation.results_file import ResultsFile
from mlip.screening.plan import Kept
from mlip.screening.recipe import RelaxRecipe


def relax_kept(recipe: RelaxRecipe, kept: Sequence[Kept], path: Path, *, progress: bool) -> dict[int, dict[str, Any]]:
    """The record of each relaxation by the candidate's number; those that `path` has are not repeated.

    Raises:
        MlipError: no potential, or `path` has relaxations of other candidates, potential or options.
    """
    options = recipe.model_dump(exclude={"potential"})
    numbers = np.array([candidate.number for candidate in kept], "<i8")
    protocol = {
        "relaxation": options,
        "potential": hashlib.sha256(recipe.potential.read_bytes()).hexdigest(),
        "candidates": hashlib.sha256(numbers.tobytes()).hexdigest(),
    }
    with ResultsFile(path, protocol) as results:
        done = {record["candidate"] for record in results.records}
        missing = [candidate for candidate in kept if candidate.number not in done]
        with progress_bar(progress) as bar:
            task = bar.add_task("relaxing", total=len(kept), completed=len(done))
            for index, result in relaxations([one.atoms for one in missing], recipe.potential, **options):
                results.append({"candidate": missing[index].number, **result.as_record()})
                bar.advance(task)
        return {record["candidate"]: record for record in results.records}
