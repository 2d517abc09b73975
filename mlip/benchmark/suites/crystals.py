"""Cubic crystals that need no data: elements in their packings, rocksalt, zincblende, perovskites, with the lattice
constants of Materials Project's DFT (PBE) and of experiment (`cubic_crystals.csv` says where the numbers are from)."""

import csv
from dataclasses import dataclass
from importlib.resources import files

import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.formula import Formula

TABLE = files("mlip.benchmark.suites") / "cubic_crystals.csv"
_PRIMITIVE_CELLS = {"fcc": 4, "bcc": 2, "diamond": 4, "zincblende": 4, "rocksalt": 4}
"""In a conventional cell."""


@dataclass(frozen=True)
class CubicCrystal:
    name: str
    structure: str
    a: float
    """Materials Project's lattice constant, A."""
    a_experiment: float
    """A; NaN where there is none."""

    @property
    def cells(self) -> int:
        """Primitive cells in a conventional one."""
        return _PRIMITIVE_CELLS.get(self.structure, 1)

    def atoms(self) -> Atoms:
        """The primitive cell."""
        if self.structure != "perovskite":
            return bulk(self.name, self.structure, a=self.a)
        large, small, anion = Formula(self.name).count()
        sites = [(0, 0, 0), (0.5, 0.5, 0.5), (0.5, 0.5, 0), (0, 0.5, 0.5), (0.5, 0, 0.5)]
        return Atoms([large, small, *3 * [anion]], scaled_positions=sites, cell=self.a * np.eye(3), pbc=True)

    def lattice_constant(self, volume: float) -> float:
        """Lattice constant of a primitive cell of so many A^3, A."""
        return (self.cells * volume) ** (1 / 3)


def cubic_crystals(at_most: int | None = None) -> dict[str, CubicCrystal]:
    """The crystals whose DFT lattice constant is known, by name and structure; so many, evenly chosen."""
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
