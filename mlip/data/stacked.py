"""Frames of the same atoms as a few large arrays: operations that cost microseconds per frame are done once per
path."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np
from jaxtyping import Bool, Float, Int

from mlip.data.records import Frame


@dataclass(frozen=True, slots=True, eq=False)
class StackedFrames(Sequence[Frame]):
    """Frames with the same atoms and periodicity, in which no label is missing, except possibly the magnetic moments.
    Fields have the names and units of `Frame`, for all frames at once."""

    numbers: Int[np.ndarray, " n"]
    pbc: Bool[np.ndarray, "3"]
    positions: Float[np.ndarray, "k n 3"]
    cell: Float[np.ndarray, "k 3 3"]
    energy: Float[np.ndarray, " k"]
    forces: Float[np.ndarray, "k n 3"]
    stress: Float[np.ndarray, "k 6"]
    magmoms: Float[np.ndarray, "k n"] | None
    """Magnetic moments, mu_B; None if not known for any frame."""
    calculation: Int[np.ndarray, " k"]
    ionic_step: Int[np.ndarray, " k"]

    def __len__(self) -> int:
        return len(self.energy)

    @overload
    def __getitem__(self, index: int) -> Frame: ...

    @overload
    def __getitem__(self, index: slice | np.ndarray) -> "StackedFrames": ...

    def __getitem__(self, index: int | slice | np.ndarray) -> "Frame | StackedFrames":
        """One frame by its index, or several by a slice, an array of indices, or a mask."""
        magmoms = None if self.magmoms is None else self.magmoms[index]
        if isinstance(index, int):
            return Frame(
                self.numbers,
                self.positions[index],
                self.cell[index],
                self.pbc,
                float(self.energy[index]),
                self.forces[index],
                self.stress[index],
                magmoms,
                int(self.calculation[index]),
                int(self.ionic_step[index]),
            )
        return StackedFrames(
            self.numbers,
            self.pbc,
            self.positions[index],
            self.cell[index],
            self.energy[index],
            self.forces[index],
            self.stress[index],
            magmoms,
            self.calculation[index],
            self.ionic_step[index],
        )


def column(frames: Sequence[Frame], field: str) -> np.ndarray:
    """A field of all frames as one array; all frames must have it, in the same shape."""
    if isinstance(frames, StackedFrames):
        return getattr(frames, field)
    return np.array([getattr(frame, field) for frame in frames])


def energies_per_atom(frames: Sequence[Frame]) -> Float[np.ndarray, " k"]:
    """Energies of the frames, eV/atom."""
    if isinstance(frames, StackedFrames):
        return frames.energy / len(frames.numbers)
    return np.array([frame.energy / len(frame) for frame in frames])


def chosen(frames: Sequence[Frame], indices: Int[np.ndarray, " j"]) -> Sequence[Frame]:
    """Frames with the given indices."""
    return frames[indices] if isinstance(frames, StackedFrames) else [frames[k] for k in indices]


def n_labeled(frames: Sequence[Frame], field: str) -> int:
    """Number of frames that have the label; a label of NaN only does not count."""
    if isinstance(frames, StackedFrames):
        return 0 if getattr(frames, field) is None else len(frames)
    labels = (getattr(frame, field) for frame in frames)
    return sum(label is not None and not np.isnan(label).all() for label in labels)
