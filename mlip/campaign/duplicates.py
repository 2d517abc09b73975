"""Detection of crystals that are already calculated or proposed twice, by pymatgen's StructureMatcher.

Only crystals of the same reduced composition are compared, so known crystals are read once and few are kept in memory.
"""

from collections.abc import Iterable

import numpy as np
from ase import Atoms
from ase.formula import Formula
from ase.symbols import Symbols
from jaxtyping import Int
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Structure
from pymatgen.io.ase import AseAtomsAdaptor

from mlip.campaign.campaign_recipe import DuplicatesRecipe


class Known:
    """Known crystals, by reduced composition.

    Args:
        formulas: reduced formulas whose crystals are kept; others are ignored.
    """

    def __init__(self, recipe: DuplicatesRecipe, formulas: Iterable[str]):
        self._matcher = StructureMatcher(ltol=recipe.ltol, stol=recipe.stol, angle_tol=recipe.angle_tol)
        self._known: dict[str, list[tuple[str, Structure]]] = {formula: [] for formula in formulas}

    def is_of_interest(self, formula: str) -> bool:
        """Whether crystals of this formula are kept."""
        return reduced_formula(formula) in self._known

    def add(self, name: str, atoms: Atoms) -> None:
        of_composition = self._known.get(reduced_formula(atoms.numbers))
        if of_composition is not None:
            of_composition.append((name, _structure(atoms)))

    def same_as(self, atoms: Atoms) -> str | None:
        """Name of a known crystal that is the same as this one; None if there is none."""
        of_composition = self._known.get(reduced_formula(atoms.numbers))
        if not of_composition:
            return None
        structure = _structure(atoms)
        return next((name for name, known in of_composition if self._matcher.fit(known, structure)), None)


def reduced_formula(material: Int[np.ndarray, " n"] | str) -> str:
    """Reduced formula, metals first; equal for all crystals of a composition."""
    formula = Formula(material) if isinstance(material, str) else Symbols(material).formula
    return formula.reduce()[0].format("metal")


def _structure(atoms: Atoms) -> Structure:
    return AseAtomsAdaptor.get_structure(Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True))
