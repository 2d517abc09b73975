"""Frames of the same atoms as a few large arrays: what costs microseconds a frame costs them once a path."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np
from jaxtyping import Bool, Float, Int

from mlip.data.records import Frame


@dataclass(frozen=True, slots=True, eq=False)
class StackedFrames(Sequence[Frame]):
    """Frames with the same atoms and the same periodicity, in which no label but perhaps the magnetic moments is
    missing. Fields are those of `Frame`, in its units, of all frames."""

    numbers: Int[np.ndarray, " n"]
    pbc: Bool[np.ndarray, "3"]
    positions: Float[np.ndarray, "k n 3"]
    cell: Float[np.ndarray, "k 3 3"]
    energy: Float[np.ndarray, " k"]
    forces: Float[np.ndarray, "k n 3"]
    stress: Float[np.ndarray, "k 6"]
    magmoms: Float[np.ndarray, "k n"] | None
    """None = not known of any frame."""
    calculation: Int[np.ndarray, " k"]
    ionic_step: Int[np.ndarray, " k"]

    def __len__(self) -> int:
        return len(self.energy)

    @overload
    def __getitem__(self, index: int) -> Frame: ...

    @overload
    def __getitem__(self, index: slice | np.ndarray) -> "StackedFrames": ...

    def __getitem__(self, index: int | slice | np.ndarray) -> "Frame | StackedFrames":
        """One frame; or several, by a slice, by their indices, or by a mask."""
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
    """A field of all frames as one array; all have it, in the same shape."""
    if isinstance(frames, StackedFrames):
        return getattr(frames, field)
    return np.array([getattr(frame, field) for frame in frames])


def energies_per_atom(frames: Sequence[Frame]) -> Float[np.ndarray, " k"]:
    """eV/atom."""
    if isinstance(frames, StackedFrames):
        return frames.energy / len(frames.numbers)
    return np.array([frame.energy / len(frame) for frame in frames])


def chosen(frames: Sequence[Frame], indices: Int[np.ndarray, " j"]) -> Sequence[Frame]:
    """The frames of those indices."""
    return frames[indices] if isinstance(frames, StackedFrames) else [frames[k] for k in indices]


def n_labeled(frames: Sequence[Frame], field: str) -> int:
    """How many of the frames have that label; one that is NaN throughout is none."""
    if isinstance(frames, StackedFrames):
        return 0 if getattr(frames, field) is None else len(frames)
    labels = (getattr(frame, field) for frame in frames)
    return sum(label is not None and not np.isnan(label).all() for label in labels)
