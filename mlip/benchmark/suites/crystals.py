"""Cubic crystals that need no data: elements, rocksalt, zincblende and perovskites, with the lattice constants of the
Materials Project (PBE) and of experiment; `cubic_crystals.csv` gives the sources."""

import csv
from dataclasses import dataclass
from importlib.resources import files

import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.formula import Formula

TABLE = files("mlip.benchmark.suites") / "cubic_crystals.csv"
_PRIMITIVE_CELLS = {"fcc": 4, "bcc": 2, "diamond": 4, "zincblende": 4, "rocksalt": 4}
"""Number of primitive cells in a conventional cell."""


@dataclass(frozen=True)
class CubicCrystal:
    name: str
    structure: str
    a: float
    """Lattice constant of the Materials Project, A."""
    a_experiment: float
    """Experimental lattice constant, A; NaN where unknown."""

    @property
    def cells(self) -> int:
        """Number of primitive cells in a conventional cell."""
        return _PRIMITIVE_CELLS.get(self.structure, 1)

    def atoms(self) -> Atoms:
        """The primitive cell."""
        if self.structure != "perovskite":
            return bulk(self.name, self.structure, a=self.a)
        large, small, anion = Formula(self.name).count()
        sites = [(0, 0, 0), (0.5, 0.5, 0.5), (0.5, 0.5, 0), (0, 0.5, 0.5), (0.5, 0, 0.5)]
        return Atoms([large, small, *3 * [anion]], scaled_positions=sites, cell=self.a * np.eye(3), pbc=True)

    def lattice_constant(self, volume: float) -> float:
        """Lattice constant, A, for a primitive cell of this volume, A^3."""
        return (self.cells * volume) ** (1 / 3)


def cubic_crystals(at_most: int | None = None) -> dict[str, CubicCrystal]:
    """Crystals whose DFT lattice constant is known, by name and structure; at most `at_most`, evenly chosen."""
    text = TABLE.read_text(encoding="utf-8").splitlines()
    rows = [row for row in csv.DictReader(line for line in text if not line.startswith("#")) if row["a_mp"]]
    if at_most is not None and at_most < len(rows):
        rows = [rows[k] for k in np.linspace(0, len(rows) - 1, at_most).round().astype(int)]
    return {
        f"{row['material']} {row['structure']}": CubicCrystal(
            row["material"], row["structure"], float(row["a_mp"]), float(row["a_experiment"] or "nan")
        )
        for row in rows
    }
