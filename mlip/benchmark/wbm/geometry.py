"""Distance between relaxed crystals and DFT's, and change of symmetry, as Matbench Discovery measures them.

The distance is that of pymatgen's StructureMatcher with stol = 1 and without scaling (janosh/matbench-discovery, issue
230): the root mean square over matched atoms, divided by the cube root of the volume per atom, so it has no unit. Two
structures that do not match count as 1. Symmetry is found by spglib (the publishers use moyopy, by the same authors)
with two tolerances. If the space group number changes, the number of operations tells a decrease from an increase of
symmetry.
"""

import warnings
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import spglib
from jaxtyping import Float

from mlip.data.records import Frame
from mlip.data.structures import to_pymatgen

SYMPRECS = {"1e-2": 1e-2, "1e-5": 1e-5}
"""Tolerances of the symmetry search, A, by their names in files."""
UNMATCHED = 1.0
"""Distance assigned to structures that do not match: the matcher's stol."""


class Distance(NamedTuple):
    """Distances between matched atoms, in units of the cube root of the volume per atom."""

    rms: float
    largest: float


class SpaceGroup(NamedTuple):
    number: int
    n_operations: int
    """Number of operations of the cell as given, including translations of a supercell."""


@dataclass(frozen=True)
class GeometryMetrics:
    """The metrics at one symprec. Shares are of the pairs whose symmetry is known on both sides."""

    rmsd: float
    """Mean RMSD over all compared structures; unmatched ones count as 1."""
    n_sym_ops_mae: float
    symmetry_decrease: float
    symmetry_match: float
    symmetry_increase: float
    n_structures: int
    """Number of structures whose symmetry is known for both relaxed and DFT structures."""


def distance(found: Frame, reference: Frame) -> Distance | None:
    """Distance between two crystals of one composition; None if they do not match."""
    matched = _matcher().get_rms_dist(to_pymatgen(found), to_pymatgen(reference))
    return None if matched is None else Distance(*map(float, matched))


def space_group(frame: Frame, symprec: float) -> SpaceGroup | None:
    """Space group within `symprec`, A; None if spglib finds none."""
    try:
        cell = frame.cell, frame.positions @ np.linalg.inv(frame.cell), frame.numbers
        with warnings.catch_warnings():  # spglib 2.8 warns that it will raise instead of returning None
            warnings.simplefilter("ignore", DeprecationWarning)
            dataset = spglib.get_symmetry_dataset(cell, symprec=symprec)
    except (spglib.SpglibError, np.linalg.LinAlgError):
        return None
    return None if dataset is None else SpaceGroup(int(dataset.number), len(dataset.rotations))


def geometry_metrics(
    rmsd: Float[np.ndarray, " n"],
    number_change: Float[np.ndarray, " n"],
    operations_change: Float[np.ndarray, " n"],
) -> GeometryMetrics:
    """Metrics of the submitted structures.

    Args:
        rmsd: RMSD of the submitted structures; NaN where structures do not match.
        number_change, operations_change: relaxed minus DFT's; NaN where symmetry is unknown.
    """
    known = np.isfinite(number_change) & np.isfinite(operations_change)
    number, operations = number_change[known], operations_change[known]

    def share(chosen: np.ndarray) -> float:
        return float(chosen.mean()) if len(chosen) else float("nan")

    return GeometryMetrics(
        rmsd=share(np.where(np.isfinite(rmsd), rmsd, UNMATCHED)),
        n_sym_ops_mae=share(np.abs(operations)),
        symmetry_decrease=share((number != 0) & (operations < 0)),
        symmetry_match=share(number == 0),
        symmetry_increase=share((number != 0) & (operations > 0)),
        n_structures=int(known.sum()),
    )


@cache
def _matcher() -> Any:
    from pymatgen.analysis.structure_matcher import StructureMatcher

    return StructureMatcher(stol=UNMATCHED, scale=False)
