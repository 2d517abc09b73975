"""Hand-overs without a campaign: structures are read from files, finished calculations written to a store. This is the
library side of `mlip dft`."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from mlip.data.records import Trajectory
from mlip.data.workers import n_cores
from mlip.data.writer import StoreWriter
from mlip.dft.handover import collect, hand_over, recipe_of
from mlip.dft.recipe import DftRecipe
from mlip.dft.records import FINISHED, NOT_STARTED, UNFINISHED, Outcome, Proposal
from mlip.dft.table import read_table
from mlip.errors import MlipError
from mlip.files.output_paths import check_new
from mlip.relaxation.reading import StructureSource, read_sources
from mlip.relaxation.relax_files import file_names
from mlip.uncertainty.dimensionality import dimensionality_of

DEFAULT_RECIPE = "dft/pbe"
PENDING = (NOT_STARTED, UNFINISHED)
"""Reasons of calculations that may still finish."""


class HandOverRecipe(BaseModel):
    """A recipe file that has only the section `dft`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dft: DftRecipe


@dataclass(frozen=True)
class Written:
    """Number of structures handed over, and the sources that could not be read."""

    n_structures: int
    unreadable: list[StructureSource]


def write_files(
    files: Sequence[str | PathLike],
    recipe: DftRecipe,
    folder: Path,
    *,
    dimensionality: int | None = None,
    progress: bool = True,
) -> Written:
    """Hand over every structure of every file, with ids made from the file names.

    Args:
        dimensionality: dimensionality of all structures; None to determine each from its vacuum.

    Raises:
        MlipError: no file has a structure, or one is a molecule; also the errors of `hand_over`.
    """
    sources = read_sources(files)
    names = file_names([(source.file, source.frame or 0) for source in sources])
    readable = [(name, source) for name, source in zip(names, sources, strict=True) if source.atoms is not None]
    proposals = [_proposal(name, source, dimensionality) for name, source in readable]
    hand_over(recipe, proposals, folder, progress=progress)
    return Written(len(proposals), [source for source in sources if source.atoms is None])


def _proposal(name: str, source: StructureSource, dimensionality: int | None) -> Proposal:
    found = dimensionality or dimensionality_of(source.atoms)
    if not found:
        raise MlipError("is a molecule: no direction is periodic", where=source.file, fix="crystals, layers and chains")
    return Proposal(re.sub(r"[^A-Za-z0-9._-]+|^[^A-Za-z0-9]+", "-", name).lstrip("-._"), source.atoms, found)


def collect_into_store(folder: Path, out: Path, *, force: bool = False) -> list[Outcome]:
    """Write the relaxed structures of finished calculations, with energies, forces and stresses, to a store. Energies
    of single points are the properties energy_PBEsol and energy_SCAN, eV per cell. If nothing has finished, no store is
    written.

    Returns:
        All outcomes.

    Raises:
        MlipError: nothing was handed over there, or the store exists and `force` is false.
    """
    check_new(out, force=force)
    recipe = recipe_of(folder)
    outcomes = collect(recipe, folder, workers=n_cores())
    dimensionality = {row.id: row.dimensionality for row in read_table(folder)}
    finished = [outcome for outcome in outcomes if outcome.reason == FINISHED]
    if finished:
        with StoreWriter(out, settings={"hand_over": recipe.model_dump(mode="json")}) as store:
            for outcome in finished:
                energies = {f"energy_{name}": energy for name, energy in outcome.follow_ups.items()}
                frames = (outcome.frame,)
                store.add(
                    Trajectory(outcome.id, frames, outcome.functional, dimensionality[outcome.id], energies), "train"
                )
    return outcomes


def counted(outcomes: Sequence[Outcome]) -> dict[str, int]:
    """Reason -> number of outcomes, the most frequent first."""
    return dict(Counter(outcome.reason for outcome in outcomes).most_common())
