"""Structures as users hand them in to be relaxed -> a list of ASE Atoms, in which what is no single crystal keeps its
place."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from ase import Atoms

from mlip.data.structures import as_structures, is_of_optimade, is_one_structure
from mlip.errors import MlipError


class Refused(Atoms):
    """The place of a crystal with partly occupied sites: they have their positions, and X for an element."""

    error: MlipError


def take_in(structures: Any) -> list[Atoms]:
    """One structure or an iterable of them, as `mlip.data.structures.as_structures` takes them; but one that is partly
    occupied does not keep the others out: Atoms are passed through unchecked, crystals of pymatgen's and OPTIMADE's
    become `Refused`.

    Raises:
        MlipError: something that is no structure; names it by its place.
    """
    is_one = is_one_structure(structures) or hasattr(structures, "is_ordered")
    if isinstance(structures, str | bytes) or not (is_one or isinstance(structures, Iterable)):
        return as_structures(structures)  # which says what is wrong
    return [_taken_in(k, structure) for k, structure in enumerate([structures] if is_one else structures)]


def _taken_in(index: int, structure: Any) -> Atoms:
    if isinstance(structure, Atoms):
        return structure
    try:
        return as_structures([structure])[0]
    except MlipError as error:
        told = MlipError(error.what, where=f"structure {index}", fix=error.fix)
        if is_of_optimade(structure):
            return _refused_of_optimade(structure, error)
        if getattr(structure, "is_ordered", True):
            raise told from None
        lattice = getattr(structure, "lattice", None)
        refused = Refused(
            np.zeros(len(structure), int),
            structure.cart_coords,
            cell=lattice and lattice.matrix,
            pbc=lattice is not None,
        )
        refused.error = told
        return refused


def _refused_of_optimade(structure: Mapping[str, Any], error: MlipError) -> Refused:
    positions = structure["attributes"].get("cartesian_site_positions") or []
    refused = Refused(
        np.zeros(len(positions), int), positions or None, cell=structure["attributes"].get("lattice_vectors")
    )
    refused.error = error
    return refused
