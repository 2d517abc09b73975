"""Keeps the test sets out of training: by id, and by composition and structure."""

from collections import Counter
from collections.abc import Iterable

from ase import Atoms
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.io.ase import AseAtomsAdaptor


class HeldOut:
    """Structures of test sets, by reduced formula and id.

    Args:
        structures: test set, id in it and structure of each.
    """

    def __init__(self, structures: Iterable[tuple[str, str, Atoms]]):
        self._ids: set[str] = set()
        self._by_formula: dict[str, list[tuple[str, Atoms]]] = {}
        self.counts: Counter[str] = Counter()
        for test_set, identity, atoms in structures:
            self._ids.add(_material(identity))
            self._by_formula.setdefault(reduced(atoms), []).append((test_set, atoms))
            self.counts[test_set] += 1
        self._matcher = StructureMatcher(primitive_cell=True, scale=True)
        self.found: Counter[str] = Counter()

    def has_id(self, identity: str) -> bool:
        """Whether a test set has a material of this id."""
        return _material(identity) in self._ids

    def has_formula(self, atoms: Atoms) -> bool:
        """Whether a test set has this reduced composition."""
        return reduced(atoms) in self._by_formula

    def matches(self, atoms: Atoms) -> bool:
        """Whether a test set has this structure, up to its volume (pymatgen's matcher with its default tolerances)."""
        structure = AseAtomsAdaptor.get_structure(_bare(atoms))
        for test_set, other in self._by_formula.get(reduced(atoms), ()):
            if self._matcher.fit(structure, AseAtomsAdaptor.get_structure(_bare(other))):
                self.found[test_set] += 1
                return True
        return False

    def overlap(self, structures: Iterable[Atoms]) -> Counter[str]:
        """Test set -> how many of these structures it has."""
        self.found = Counter()
        for atoms in structures:
            self.matches(atoms)
        return self.found


def reduced(atoms: Atoms) -> str:
    """Reduced formula, elements by the alphabet."""
    return atoms.symbols.formula.reduce()[0].format("metal")


def _bare(atoms: Atoms) -> Atoms:
    return Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True)


def _material(identity: str) -> str:
    """Id of the material that a snapshot is of: mp-1080834-0-1 -> mp-1080834."""
    parts = identity.split("-")
    return "-".join(parts[:2]) if parts[0] in ("mp", "mvc") else identity
