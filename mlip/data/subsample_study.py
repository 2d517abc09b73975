"""Number of frames that each subsampling cutoff would keep of a source, without building a store.

The trade-off is that of "Improving machine-learning models in materials science through large datasets", sec. 2.4:
what a cutoff leaves of the paths, against what training can afford.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from mlip.data.records import Skipped, Trajectory
from mlip.data.stacked import column, energies_per_atom
from mlip.data.subsample import kept_steps


@dataclass(frozen=True, slots=True)
class CutoffResult:
    """Number of frames that one cutoff keeps."""

    cutoff: float
    n_materials: int
    n_read: int
    """Number of usable frames."""
    n_kept: int

    @property
    def per_material(self) -> float:
        return self.n_kept / self.n_materials if self.n_materials else 0.0

    @property
    def share(self) -> float:
        return self.n_kept / self.n_read if self.n_read else 0.0


def study_cutoffs(
    paths: Iterable[Trajectory | Skipped], cutoffs: Sequence[float], *, per_atom: bool
) -> list[CutoffResult]:
    """Number of frames kept by each cutoff, in one pass.

    Args:
        cutoffs: eV/atom if `per_atom`, else eV per cell.

    Raises:
        MlipError: a cutoff is negative or NaN.
    """
    for cutoff in cutoffs:
        kept_steps([0.0], cutoff)
    kept = np.zeros(len(cutoffs), dtype=np.int64)
    n_materials = n_read = 0
    for path in paths:
        if isinstance(path, Skipped):
            continue
        energies = energies_per_atom(path.frames) if per_atom else column(path.frames, "energy")
        kept += [len(kept_steps(energies, cutoff)) for cutoff in cutoffs]
        n_materials += 1
        n_read += len(energies)
    return [CutoffResult(cutoff, n_materials, n_read, int(n)) for cutoff, n in zip(cutoffs, kept.tolist(), strict=True)]
