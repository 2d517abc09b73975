"""Input folders for VASP, one for each structure, each written whole or not at all."""

import json
import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from mlip.dft.inputs import Inputs, relaxation, single_point
from mlip.dft.recipe import VaspRecipe
from mlip.dft.records import Proposal
from mlip.dft.table import Row, formula_of
from mlip.errors import MlipError
from mlip.files.whole_file import whole_file
from mlip.progress import count_bar

_PROPOSAL = "proposal.json"
"""File that marks a folder as belonging to a proposal."""
README = "README.md"


def write_folders(recipe: VaspRecipe, proposals: Sequence[Proposal], folder: Path, *, progress: bool) -> list[Row]:
    """Write the inputs of each proposal; existing folders of the same proposals stay unchanged.

    Returns:
        The rows of the table.

    Raises:
        MlipError: a folder of that name exists and belongs to something else.
    """
    for dead in folder.glob(".*.partial"):  # left by a killed process; the lock excludes other writers
        shutil.rmtree(dead) if dead.is_dir() else dead.unlink()
    with whole_file(folder / README) as partial:
        partial.write_text(_readme(recipe), encoding="utf-8")
    rows = []
    with count_bar(progress) as bar:
        task = bar.add_task("writing inputs", total=len(proposals))
        for proposal in proposals:
            rows.append(_write(recipe, proposal, folder))
            bar.advance(task)
    return rows


def _write(recipe: VaspRecipe, proposal: Proposal, folder: Path) -> Row:
    target = folder / proposal.id
    try:
        inputs = relaxation(recipe, proposal)
    except MlipError as error:
        return _row(recipe, proposal, None, error.what)
    if target.exists():
        _check_is_of(proposal, target)
    else:
        with whole_file(target, durable=False) as partial:
            partial.mkdir()
            _write_files(partial, inputs, with_structure=True)
            for functional in recipe.follow_ups:
                structure = inputs.files["POSCAR"].structure
                single = single_point(recipe, functional, structure, proposal.dimensionality)
                (partial / functional).mkdir()
                _write_files(partial / functional, single, with_structure=False)
            told = {"id": proposal.id, "sha256": proposal.checksum, "functional": inputs.functional}
            (partial / _PROPOSAL).write_text(json.dumps(told) + "\n", encoding="utf-8")
    return _row(recipe, proposal, inputs)


def _write_files(folder: Path, inputs: Inputs, *, with_structure: bool) -> None:
    names = ("INCAR", "KPOINTS", "POTCAR.spec", *(["POSCAR"] if with_structure else []))
    for name in names:
        (folder / name).write_text(f"{str(inputs.files[name]).rstrip()}\n", encoding="utf-8")


def _check_is_of(proposal: Proposal, target: Path) -> None:
    told = None
    with suppress(OSError, ValueError):
        told = json.loads((target / _PROPOSAL).read_text(encoding="utf-8"))
    if not isinstance(told, dict) or (told.get("id"), told.get("sha256")) != (proposal.id, proposal.checksum):
        raise MlipError("is there already, and of something else than this structure", where=str(target))


def _row(recipe: VaspRecipe, proposal: Proposal, inputs: Inputs | None, refused: str = "") -> Row:
    common = {
        "id": proposal.id,
        "formula": formula_of(proposal),
        "atoms": len(proposal.atoms),
        "dimensionality": proposal.dimensionality,
        "sha256": proposal.checksum,
        "refused": refused,
    }
    if inputs is None:
        return Row(**common, folder="", functional="", hubbard="", kpoints="", encut="", potcars="", vacuum="")
    lengths = inputs.files["POSCAR"].structure.lattice.abc[proposal.dimensionality :]
    return Row(
        **common,
        folder=proposal.id,
        functional=inputs.functional,
        hubbard=" ".join(f"{element}={u:g}" for element, u in sorted(inputs.hubbard.items())),
        kpoints="x".join(map(str, inputs.kpoints)),
        encut=f"{recipe.encut:g}",
        potcars=" ".join(inputs.potcars),
        vacuum=" ".join(f"{length:.6f}" for length in lengths),
    )


def _readme(recipe: VaspRecipe) -> str:
    lines = [
        "# Structures for VASP",
        "",
        "Each folder is a relaxation; `table.csv` lists them. POTCAR.spec has the titles of the pseudopotentials:",
        "`pmg potcar --spec POTCAR.spec` (pymatgen, your licensed files) makes the POTCAR. Run VASP in each folder, in",
        "any order, and leave vasprun.xml (or vasprun.xml.gz) there: results are read from it. Tags that change no",
        "result (NCORE, KPAR, ALGO) may be edited; runs with another functional, U, cutoff or pseudopotential are",
        "refused. A run that is continued keeps its folder: copy CONTCAR to POSCAR and start VASP again.",
        "",
        "Layers lie in the plane of x and y, chains along x. Their INCAR has LATTICE_CONSTRAINTS, by which VASP 6.4",
        "and later keeps the vacuum in relaxations; older versions ignore it, and such runs are refused.",
    ]
    if recipe.follow_ups:
        names = " and ".join(f"`{functional}/`" for functional in recipe.follow_ups)
        lines += [
            "",
            f"Single points on the relaxed structure: {names} in each folder have the inputs but for the POSCAR, which",
            "is written there when a finished relaxation is collected; or copy the relaxation's CONTCAR there.",
        ]
        if "SCAN" in recipe.follow_ups:
            lines += ["SCAN needs pseudopotentials with the kinetic energy density of the core: PBE.52 or later."]
    return "\n".join(lines) + "\n"
