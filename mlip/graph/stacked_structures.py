"""Many structures in few arrays, their atoms one after another: what graphs of every kind are built from."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from ase import Atoms
from jaxtyping import Bool, Float, Int

from mlip.data.records import Frame

STRUCTURE_COLUMNS = ("frames/cell", "frames/pbc", "atoms/number", "atoms/position")
"""Columns of a store that make `Structures`."""


class Structures(NamedTuple):
    """Many structures, their atoms one after another."""

    sizes: Int[np.ndarray, " k"]
    """Number of atoms of each structure."""
    numbers: Int[np.ndarray, " a"]
    """Atomic numbers as they were given, sound or not."""
    positions: Float[np.ndarray, "a 3"]
    """Cartesian, A, float64."""
    cells: Float[np.ndarray, "k 3 3"]
    """Rows are the lattice vectors, A, float64."""
    pbc: Bool[np.ndarray, "k 3"]

    @classmethod
    def of(cls, structures: Iterable[Atoms | Frame]) -> "Structures":
        """The structures, copied into arrays."""
        structures = list(structures)
        sizes = np.array([len(one) for one in structures], np.int64)
        numbers = [np.asarray(one.numbers, np.int32) for one in structures]
        positions = [np.asarray(one.positions, np.float64) for one in structures]
        return cls(
            sizes,
            np.concatenate(numbers) if numbers else np.zeros(0, np.int32),
            np.concatenate(positions) if positions else np.zeros((0, 3)),
            np.array([np.asarray(one.cell, np.float64) for one in structures]).reshape(-1, 3, 3),
            np.array([np.asarray(one.pbc, bool) for one in structures]).reshape(-1, 3),
        )

    @classmethod
    def of_columns(cls, columns: dict[str, np.ndarray]) -> "Structures":
        """The structures of `Store.gather(STRUCTURE_COLUMNS, ...)`."""
        pbc = columns["pbc"].astype(bool)
        return cls(columns["size"], columns["number"], columns["position"], columns["cell"], pbc)

    @property
    def first_atoms(self) -> Int[np.ndarray, " k"]:
        """The row of each structure's first atom."""
        return np.cumsum(self.sizes) - self.sizes

    def frames(self) -> list[Frame]:
        """The structures one by one, without labels; views of the arrays."""
        starts = self.first_atoms.tolist()
        return [
            Frame(self.numbers[start : start + size], self.positions[start : start + size], cell, pbc)
            for start, size, cell, pbc in zip(starts, self.sizes.tolist(), self.cells, self.pbc, strict=True)
        ]
