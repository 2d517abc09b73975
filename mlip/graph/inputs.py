"""Inputs of networks: a model's config says in `inputs` what it reads of a structure; nothing else asks which model it
is.

`RadiusGraph`: every bond shorter than a cutoff (M3GNet, MACE). `ShellGraph`: the nearest neighbors of each atom by
shells (CGAT). `BondPairGraph`: bonds to the nearest neighbors, and
pairs of bonds (ALIGNN). `ElementList`: the composition (CrabNet). Another kind is one class in a file of this room.
"""

from typing import Protocol

import jraph
import numpy as np
from ase import Atoms

from mlip.data.records import Frame
from mlip.data.structures import check_is_structure
from mlip.errors import MlipError
from mlip.graph.stacked_structures import Structures


class ModelInputs(Protocol):
    """Structures -> graphs, as one kind of network reads them. Frozen, hashable and picklable."""

    def graphs(self, structures: Structures, dtype: type = np.float32) -> list[jraph.GraphsTuple | MlipError]:
        """A graph of each structure, without padding, or why there can be none; one never spoils the others.

        Args:
            dtype: of real numbers.
        """

    def describe(self) -> str:
        """Say in a few words what the network sees."""

    def example(self) -> jraph.GraphsTuple:
        """A small padded batch: what parameters are initialized with."""


def check_structure(structure: Frame | Atoms) -> None:
    """
    Raises:
        MlipError: the composition alone is known, no atoms, or numbers that are no elements.
    """
    if isinstance(structure, Frame):
        check_is_structure(structure)
    check_numbers(structure.numbers)


def check_numbers(numbers: np.ndarray) -> None:
    """
    Raises:
        MlipError: no atoms, or numbers that are no elements.
    """
    if len(numbers) == 0:
        raise MlipError("the structure has no atoms")
    if numbers.min() < 1 or numbers.max() > 118:
        raise MlipError("atomic numbers must be 1 to 118")
