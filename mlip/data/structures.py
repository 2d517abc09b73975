"""Conversion of the structures that users pass to a list of ASE Atoms, alike for `predict`, `relax`, calculators,
files.

Users pass one structure or any iterable of them: ASE Atoms, pymatgen Structures and Molecules, structures of OPTIMADE
answers, or our Frames. A crystal with partly occupied sites is a family of structures rather than one, and is refused
with the site named. Formulas are materials without a structure; `predict` takes them for networks that read
compositions.
"""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms

from mlip.data.formula import composition_frame, parse_formula
from mlip.data.records import Frame
from mlip.errors import MlipError

if TYPE_CHECKING:
    from pymatgen.core import Structure

FULL = 1 - 1e-3
"""Occupancy from which a site counts as full, because files round."""

HEAVY_HYDROGEN = ("D", "T")
"""Symbols that files have in place of H for its isotopes; to a potential they are hydrogen."""

DEUTERIUM = "deuterium or tritium is taken as hydrogen"
"""Remark of a build on materials with deuterium or tritium."""

_LEAST_HEAVY = 1.9
"""Atomic mass, u, from which a hydrogen atom counts as deuterium or tritium."""


def as_structures(structures: Any) -> list[Atoms]:
    """The structures as ASE Atoms, in their order. Atoms are returned as they are, and nothing is modified.

    Args:
        structures: one Atoms, Frame, pymatgen Structure or Molecule, or structure of an OPTIMADE answer (a dict with
            `attributes`), or an iterable of them.

    Raises:
        MlipError: an item is not a structure, or has a partly occupied site; the message gives its index.
    """
    if is_one_structure(structures):
        return [_as_atoms(structures, None)]
    if isinstance(structures, str | bytes) or not isinstance(structures, Iterable):
        raise MlipError(
            f"no structure: {type(structures).__name__}", fix="give ASE Atoms or pymatgen Structures, one or many"
        )
    return [_as_atoms(one, f"structure {index}") for index, one in enumerate(structures)]


def as_materials(materials: Any) -> list[Atoms | Frame | MlipError]:
    """Structures as from `as_structures`, and formulas as Frames without a structure, or as the error if unreadable.

    Raises:
        MlipError: an item is neither a structure nor a formula, or has a partly occupied site; the message gives its
            index.
    """
    if isinstance(materials, str) or (isinstance(materials, Frame) and materials.amounts is not None):
        return [_as_material(materials, None)]
    if isinstance(materials, Iterable) and not isinstance(materials, bytes) and not is_one_structure(materials):
        return [_as_material(one, f"structure {index}") for index, one in enumerate(materials)]
    return as_structures(materials)


def _as_material(material: Any, where: str | None) -> Atoms | Frame | MlipError:
    if isinstance(material, Frame) and material.amounts is not None:
        return material
    if not isinstance(material, str):
        return _as_atoms(material, where)
    try:
        return composition_frame(parse_formula(material))
    except MlipError as error:
        return error


def check_is_structure(frame: Frame, where: str | None = None) -> None:
    """Check that a frame has a structure.

    Raises:
        MlipError: only the composition is known.
    """
    if frame.amounts is not None:
        raise MlipError(
            "a composition without a structure, and structures are read here",
            where=where,
            fix="a model that reads compositions, such as CrabNet",
        )


def to_pymatgen(frame: Frame) -> "Structure":
    """The crystal as a pymatgen Structure."""
    from pymatgen.core import Structure

    return Structure(frame.cell, frame.numbers.tolist(), frame.positions, coords_are_cartesian=True)


def _as_atoms(structure: Any, where: str | None) -> Atoms:
    if isinstance(structure, Atoms):
        check_occupancies(structure, where)
        return structure
    if isinstance(structure, Frame):
        check_is_structure(structure, where)
        return Atoms(structure.numbers, structure.positions, cell=structure.cell, pbc=structure.pbc)
    if _is_of_pymatgen(structure):
        return _from_pymatgen(structure, where)
    if is_of_optimade(structure):
        return _from_optimade(structure, where)
    raise MlipError(
        f"no structure: {type(structure).__name__}", where=where, fix="give ASE Atoms or pymatgen Structures"
    )


def is_one_structure(structures: Any) -> bool:
    """Whether the argument is one structure, not an iterable of them."""
    return isinstance(structures, Atoms | Frame) or _is_of_pymatgen(structures) or is_of_optimade(structures)


def is_of_optimade(structure: Any) -> bool:
    """Whether the argument is an entry of `data` in an OPTIMADE answer, as decoded JSON."""
    return isinstance(structure, Mapping) and isinstance(structure.get("attributes"), Mapping)


def _is_of_pymatgen(structure: Any) -> bool:
    """Whether the argument is one of pymatgen's collections of sites, told without importing pymatgen."""
    return any(cls.__name__ == "SiteCollection" for cls in type(structure).__mro__)


def _from_pymatgen(structure: Any, where: str | None) -> Atoms:
    from pymatgen.io.ase import AseAtomsAdaptor

    for index, site in enumerate(structure):
        if not site.is_ordered:
            raise partly_occupied(f"site {index} ({site.species_string})", where)
    return Atoms(AseAtomsAdaptor.get_atoms(structure, msonable=False))


def _from_optimade(structure: Mapping[str, Any], where: str | None) -> Atoms:
    from mlip.data.readers.optimade import structure_of
    from mlip.data.records import MalformedError

    name = f"OPTIMADE structure {structure['id']}" if "id" in structure else where
    try:
        return structure_of(structure["attributes"])
    except MalformedError as fault:
        fix = "make an ordered supercell first" if "site" in fault.reason else None
        raise MlipError(f"{fault.reason} ({fault.detail})", where=name, fix=fix) from None


def check_occupancies(atoms: Atoms, where: str | None = None) -> None:
    """Refuse structures that ASE has read from a file with partly occupied sites. ASE keeps the most frequent element
    of each site as if the site were full, and notes it only in `atoms.info["occupancy"]`.

    Raises:
        MlipError: a site is partly occupied; the message names the first one.
    """
    _check_occupancy_column(atoms, where)
    occupancies = atoms.info.get("occupancy")
    if not isinstance(occupancies, dict):
        return
    kinds = atoms.arrays.get("spacegroup_kinds")
    for kind, species in occupancies.items():
        if not isinstance(species, dict):
            continue
        if len(species) > 1 or sum(map(_share, species.values())) < FULL:
            told = ", ".join(f"{symbol} {share}" for symbol, share in species.items())
            sites = [] if kinds is None else np.flatnonzero(kinds == int(kind))
            raise partly_occupied(f"site {sites[0] if len(sites) else kind} ({told})", where)


def _check_occupancy_column(atoms: Atoms, where: str | None) -> None:
    """Check of `check_occupancies` for files that give each atom an occupancy, such as PDB's."""
    column = atoms.arrays.get("occupancy")
    if column is None or column.ndim != 1 or column.dtype.kind not in "iuf":
        return
    if (partly := np.flatnonzero(column < FULL)).size:
        first = int(partly[0])
        raise partly_occupied(f"site {first} ({atoms.symbols[first]} {column[first]:g})", where)


def _share(share: Any) -> float:
    """An occupancy in a CIF; one that is not given ("?", ".") is 1 by the format's definition."""
    return float(share) if isinstance(share, int | float) else 1.0


def has_heavy_hydrogen(atoms: Atoms) -> bool:
    """Whether ASE has read deuterium or tritium as hydrogen, which only the atoms' masses show."""
    return "masses" in atoms.arrays and bool((atoms.arrays["masses"][atoms.numbers == 1] > _LEAST_HEAVY).any())


def partly_occupied(site: str, where: str | None) -> MlipError:
    """Error for a crystal with a partly occupied site."""
    return MlipError(
        f"{site} is partly occupied, which is no single crystal",
        where=where,
        fix="make an ordered supercell first, e.g. with pymatgen's OrderDisorderedStructureTransformation",
    )
