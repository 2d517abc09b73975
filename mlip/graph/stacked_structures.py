"""Many structures in a few arrays with concatenated atoms, from which graphs of every kind are built."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from ase import Atoms
from jaxtyping import Bool, Float, Int

from mlip.data.records import Frame

STRUCTURE_COLUMNS = ("frames/cell", "frames/pbc", "atoms/number", "atoms/position", "atoms/amount")
"""Columns of a store that define `Structures`."""


class Structures(NamedTuple):
    """Many structures, with their atoms concatenated."""

    sizes: Int[np.ndarray, " k"]
    """Number of atoms of each structure."""
    numbers: Int[np.ndarray, " a"]
    """Atomic numbers as given, valid or not."""
    positions: Float[np.ndarray, "a 3"]
    """Cartesian positions, A, float64."""
    cells: Float[np.ndarray, "k 3 3"]
    """Lattice vectors as rows, A, float64."""
    pbc: Bool[np.ndarray, "k 3"]
    amounts: Float[np.ndarray, " a"] | None = None
    """Amounts of elements as in `Frame`; NaN for atoms of structures. None if all are structures."""

    @classmethod
    def of(cls, structures: Iterable[Atoms | Frame]) -> "Structures":
        """Copy the structures into arrays."""
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
            _amounts_of(structures),
        )

    @classmethod
    def of_columns(cls, columns: dict[str, np.ndarray]) -> "Structures":
        """Structures from the result of `Store.gather(STRUCTURE_COLUMNS, ...)`."""
        pbc = columns["pbc"].astype(bool)
        amounts = None if np.isnan(columns["amount"]).all() else columns["amount"]
        return cls(columns["size"], columns["number"], columns["position"], columns["cell"], pbc, amounts)

    @property
    def first_atoms(self) -> Int[np.ndarray, " k"]:
        """Row of each structure's first atom."""
        return np.cumsum(self.sizes) - self.sizes

    @property
    def are_structures(self) -> Bool[np.ndarray, " k"]:
        """Whether each is a structure; for the others only the composition is known."""
        are_structures = np.ones(len(self.sizes), bool)
        if self.amounts is not None:
            owners = np.repeat(np.arange(len(self.sizes)), self.sizes)
            are_structures[owners[~np.isnan(self.amounts)]] = False
        return are_structures

    def frames(self) -> list[Frame]:
        """The individual structures, without labels; views of the arrays."""
        are_structures = self.are_structures.tolist()
        frames = []
        for k, (start, size) in enumerate(zip(self.first_atoms.tolist(), self.sizes.tolist(), strict=True)):
            atoms = slice(start, start + size)
            amounts = None if are_structures[k] else self.amounts[atoms]
            frames.append(
                Frame(self.numbers[atoms], self.positions[atoms], self.cells[k], self.pbc[k], amounts=amounts)
            )
        return frames


def _amounts_of(structures: list[Atoms | Frame]) -> Float[np.ndarray, " a"] | None:
    found = [getattr(one, "amounts", None) for one in structures]  # ASE Atoms have no amounts
    if all(amounts is None for amounts in found):
        return None
    return np.concatenate(
        [np.full(len(one), np.nan) if given is None else given for one, given in zip(structures, found, strict=True)]
    )
