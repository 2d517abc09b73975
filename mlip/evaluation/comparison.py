"""Labels and predictions of many frames in flat arrays, from which all errors are computed."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from mlip.data.records import Frame
from mlip.units import EV_PER_A3_IN_GPA


class LabeledFrame(NamedTuple):
    frame: Frame
    material_id: str
    dimensionality: int
    functional: str


class Pair(NamedTuple):
    """Labels and predictions of the same shape."""

    labels: np.ndarray
    """Labels; NaN if missing."""
    predicted: np.ndarray

    @property
    def errors(self) -> np.ndarray:
        """Prediction minus label; NaN without a label."""
        return self.predicted - self.labels

    @property
    def faults(self) -> np.ndarray:
        """Mask of the known labels whose prediction is not finite."""
        return ~np.isnan(self.labels) & ~np.isfinite(self.predicted)

    def known(self) -> "Pair":
        """Labels and predictions as flat arrays, without missing labels."""
        return self.at(~np.isnan(self.labels))

    def at(self, mask: np.ndarray) -> "Pair":
        return Pair(self.labels[mask], self.predicted[mask])


@dataclass(frozen=True)
class Comparison:
    """Labels and predictions of k frames with n atoms in total."""

    material_id: np.ndarray
    """(k,) material ids of the frames."""
    functional: np.ndarray
    """(k,) names of the functionals."""
    dimensionality: Int[np.ndarray, " k"]
    n_atoms: Int[np.ndarray, " k"]
    numbers: Int[np.ndarray, " n"]
    energy: Pair
    """(k,) energies, eV/atom, with reference energies subtracted."""
    forces: Pair
    """(n, 3) forces, eV/A."""
    stress: Pair
    """(k, 6) stresses, GPa."""

    @property
    def n_frames(self) -> int:
        return len(self.n_atoms)

    @cached_property
    def frame_of_atom(self) -> Int[np.ndarray, " n"]:
        return np.repeat(np.arange(self.n_frames), self.n_atoms)

    @property
    def is_finite(self) -> Bool[np.ndarray, " k"]:
        """Whether all predictions of a frame that have a label are finite."""
        faulty_atoms = np.bincount(self.frame_of_atom, self.forces.faults.any(axis=1), minlength=self.n_frames)
        return ~(self.energy.faults | (faulty_atoms > 0) | self.stress.faults.any(axis=1))

    def at(self, mask: Bool[np.ndarray, " k"]) -> "Comparison":
        """The frames in `mask`."""
        atoms = mask[self.frame_of_atom]
        return Comparison(
            self.material_id[mask],
            self.functional[mask],
            self.dimensionality[mask],
            self.n_atoms[mask],
            self.numbers[atoms],
            self.energy.at(mask),
            self.forces.at(atoms),
            self.stress.at(mask),
        )


def compare(
    items: Sequence[LabeledFrame], predictions: Sequence[dict[str, Any]], reference_energies: Float[np.ndarray, "119"]
) -> Comparison:
    """Labels of `items` and the results of `Potential.predict` for them; `reference_energies` by atomic number, eV."""
    frames = [item.frame for item in items]
    n_atoms = np.array([len(frame) for frame in frames])
    references = np.array([reference_energies[frame.numbers].sum() for frame in frames])

    def interaction_energies(totals: list[float]) -> np.ndarray:
        return (np.array(totals) - references) / n_atoms

    return Comparison(
        material_id=np.array([item.material_id for item in items]),
        functional=np.array([item.functional for item in items]),
        dimensionality=np.array([item.dimensionality for item in items]),
        n_atoms=n_atoms,
        numbers=np.concatenate([frame.numbers for frame in frames]),
        energy=Pair(
            interaction_energies([frame.energy for frame in frames]),
            interaction_energies([prediction["energy"] for prediction in predictions]),
        ),
        forces=Pair(
            np.concatenate([np.full((len(f), 3), np.nan) if f.forces is None else f.forces for f in frames]),
            np.concatenate([prediction["forces"] for prediction in predictions]),
        ),
        stress=Pair(
            EV_PER_A3_IN_GPA * np.array([np.full(6, np.nan) if f.stress is None else f.stress for f in frames]),
            EV_PER_A3_IN_GPA * np.array([prediction["stress"] for prediction in predictions]),
        ),
    )


def concatenate(comparisons: Sequence[Comparison]) -> Comparison:
    """All frames of one or more comparisons, in order."""

    def joined(values: Sequence[np.ndarray | Pair]) -> np.ndarray | Pair:
        if isinstance(values[0], Pair):
            return Pair(*(np.concatenate(part) for part in zip(*values, strict=True)))
        return np.concatenate(values)

    names = [field.name for field in fields(Comparison)]
    return Comparison(**{name: joined([getattr(one, name) for one in comparisons]) for name in names})
