"""Inputs of networks. The `inputs` of a model's config define what the network reads; no other code depends on the
model.

`RadiusGraph` has every bond shorter than a cutoff (M3GNet, MACE), `ShellGraph` the nearest neighbors of each atom by
shells (CGAT), `BondPairGraph` bonds to the nearest neighbors and pairs of bonds (ALIGNN), `ElementList` the composition
(CrabNet). A further kind needs only one class in this folder.
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
    """Converts structures to graphs for one kind of network. Frozen, hashable and picklable."""

    def graphs(self, structures: Structures, dtype: type = np.float32) -> list[jraph.GraphsTuple | MlipError]:
        """Graph of each structure, without padding, or an error that says why there is none; one failure does not
        affect others.

        Args:
            dtype: of real numbers.
        """

    def describe(self) -> str:
        """Short description of what the network reads."""

    def example(self) -> jraph.GraphsTuple:
        """Small padded batch for initializing parameters."""


def check_structure(structure: Frame | Atoms) -> None:
    """Check that a graph can be built from a structure.

    Raises:
        MlipError: only the composition is known, there are no atoms, or an atomic number is invalid.
    """
    if isinstance(structure, Frame):
        check_is_structure(structure)
    check_numbers(structure.numbers)


def check_numbers(numbers: np.ndarray) -> None:
    """Check atomic numbers.

    Raises:
        MlipError: there are no atoms, or an atomic number is invalid.
    """
    if len(numbers) == 0:
        raise MlipError("the structure has no atoms")
    if numbers.min() < 1 or numbers.max() > 118:
        raise MlipError("atomic numbers must be 1 to 118")
