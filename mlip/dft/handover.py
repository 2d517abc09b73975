"""Hand-over of structures to be calculated, and collection of the outcome of each.

The folder of a hand-over has handover.json, the recipe; table.csv, the structures; and a folder with VASP's inputs for
each structure, or results.jsonl of a surrogate. A repeated hand-over resumes where a process was killed, and adds new
structures.
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from mlip.dft.recipe import DftRecipe, SurrogateRecipe
from mlip.dft.records import Outcome, Proposal
from mlip.dft.surrogate import (
    RESULTS,
    collect_surrogate,
    functional_of_surrogate,
    relax_proposals,
    surrogate_rows,
)
from mlip.dft.table import TABLE, Row, read_table, write_table
from mlip.dft.vasp_folders import README, write_folders
from mlip.dft.vasp_outcomes import collect_vasp
from mlip.errors import MlipError
from mlip.files.one_writer import one_writer
from mlip.files.output_paths import make_folder, writing_to
from mlip.files.whole_file import whole_file
from mlip.functionals import join_functionals

_RECIPE = "handover.json"
FORMAT_VERSION = 1
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_NAMES = {name.lower() for name in (_RECIPE, TABLE, README, RESULTS)}
_DECIDES_NOTHING = {"cluster"}
"""Keys of a recipe that may differ between calls, because they do not change the results."""


def hand_over(recipe: DftRecipe, proposals: Sequence[Proposal], folder: Path, *, progress: bool = True) -> None:
    """Write VASP's inputs, or relax with the surrogate.

    Structures that were handed over before, and their results, stay unchanged.

    Raises:
        MlipError: an id is not a valid folder name or is not unique, the folder has another recipe or another structure
            of that id, another process writes there, there is no such surrogate, or the disk is full.
    """
    _check_ids(proposals)
    make_folder(folder)
    refusal = MlipError("another process hands over here now", where=str(folder))
    with one_writer(folder / ".lock", refusal), writing_to(folder):
        _settle_recipe(recipe, folder)
        known = read_table(folder) if (folder / TABLE).exists() else []
        new = _new_ones(known, proposals, folder)
        if isinstance(recipe, SurrogateRecipe):
            rows = surrogate_rows(recipe, new)
            write_table(folder, [*known, *rows])
            refused = {row.id for row in (*known, *rows) if row.refused}
            relax_proposals(recipe, [one for one in proposals if one.id not in refused], folder, progress=progress)
        else:
            write_table(folder, [*known, *write_folders(recipe, new, folder, progress=progress)])


def collect(recipe: DftRecipe, folder: Path, *, workers: int = 1) -> list[Outcome]:
    """The outcome of every structure that was handed over, in that order.

    Args:
        workers: number of processes that read VASP's files; with several, a script needs `if __name__ == "__main__":`.

    Raises:
        MlipError: nothing was handed over there, or it was with another recipe.
    """
    _check_recipe(recipe, folder)
    rows = read_table(folder)
    if isinstance(recipe, SurrogateRecipe):
        return collect_surrogate(recipe, rows, folder)
    return collect_vasp(recipe, rows, folder, workers=workers)


def recipe_of(folder: Path) -> DftRecipe:
    """The recipe of the hand-over in a folder.

    Raises:
        MlipError: nothing was handed over there.
    """
    return TypeAdapter(DftRecipe).validate_python(_read_recipe(folder))


def calculated_functional(recipe: DftRecipe) -> str:
    """Functional of finished outcomes: "PBE | PBE+U" where some have a U."""
    if isinstance(recipe, SurrogateRecipe):
        return functional_of_surrogate(recipe)
    return join_functionals([recipe.functional, *([f"{recipe.functional}+U"] if recipe.has_hubbard else [])])


def _check_ids(proposals: Sequence[Proposal]) -> None:
    """Check that ids can name folders.

    Raises:
        MlipError: an id is not a valid folder name, or two differ at most by case, which some file systems ignore.
    """
    seen: set[str] = set()
    for proposal in proposals:
        if not _ID.fullmatch(proposal.id) or proposal.id.lower() in _NAMES:
            fix = "letters, digits, '.', '_' and '-', beginning with one of the first two"
            raise MlipError("is no id of a structure", where=repr(proposal.id), fix=fix)
        if proposal.id.lower() in seen:
            raise MlipError("two structures have this id", where=proposal.id)
        seen.add(proposal.id.lower())


def _new_ones(known: Sequence[Row], proposals: Sequence[Proposal], folder: Path) -> list[Proposal]:
    rows = {row.id.lower(): row for row in known}
    new = []
    for proposal in proposals:
        row = rows.get(proposal.id.lower())
        if row is None:
            new.append(proposal)
        elif (row.id, row.sha256) != (proposal.id, proposal.checksum):
            raise MlipError(
                "another structure was handed over by this id", where=f"{folder}: {proposal.id}", fix="another id"
            )
    return new


def _settle_recipe(recipe: DftRecipe, folder: Path) -> None:
    path = folder / _RECIPE
    if path.exists():
        _check_recipe(recipe, folder)
        return
    if (folder / TABLE).exists():
        raise MlipError(f"has a {TABLE} of something else", where=str(folder), fix="another folder")
    with whole_file(path) as partial:
        content = {"mlip_handover": FORMAT_VERSION, "recipe": _values(recipe)}
        partial.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _check_recipe(recipe: DftRecipe, folder: Path) -> None:
    """Check that a folder was handed over with this recipe.

    Raises:
        MlipError: the folder has another recipe; the message names the first key that differs.
    """
    found, wanted = _read_recipe(folder), _values(recipe)
    for key in sorted(wanted.keys() | found.keys(), key=lambda key: (key != "kind", key)):
        if wanted.get(key) != found.get(key):
            raise MlipError(
                f"was handed over with another recipe: {key} is {found.get(key)}, not {wanted.get(key)}",
                where=str(folder),
                fix="repeat that recipe, or another folder",
            )


def _read_recipe(folder: Path) -> dict[str, Any]:
    path = folder / _RECIPE
    if not path.is_file():
        raise MlipError(f"holds no {_RECIPE}: nothing was handed over here", where=str(folder))
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        version, found = content["mlip_handover"], dict(content["recipe"])
    except (ValueError, KeyError, TypeError):
        raise MlipError("is damaged", where=str(path), fix="restore the file") from None
    if version > FORMAT_VERSION:
        raise MlipError("written by a newer mlip", where=str(path), fix="pip install -U alexandria-mlip")
    return found


def _values(recipe: DftRecipe) -> dict[str, Any]:
    return recipe.model_dump(mode="json", exclude=_DECIDES_NOTHING)
