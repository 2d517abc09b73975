"""Converts structures given by users to ASE Atoms; those that cannot be relaxed keep their place in the list."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from ase import Atoms

from mlip.data.structures import as_structures, is_of_optimade, is_one_structure
from mlip.errors import MlipError


class Refused(Atoms):
    """Placeholder for a crystal with partly occupied sites, which keeps their positions with X as element."""

    error: MlipError


def take_in(structures: Any) -> list[Atoms]:
    """Convert one structure or an iterable of them as `mlip.data.structures.as_structures` does, except that a partly
    occupied structure does not stop the others: Atoms are passed through unchecked, and crystals from pymatgen and
    OPTIMADE become `Refused`.

    Raises:
        MlipError: an item is not a structure; names its index.
    """
    is_one = is_one_structure(structures) or hasattr(structures, "is_ordered")
    if isinstance(structures, str | bytes) or not (is_one or isinstance(structures, Iterable)):
        return as_structures(structures)  # raises an error that says what is wrong
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
