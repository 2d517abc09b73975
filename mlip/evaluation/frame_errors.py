"""Errors of predictions, accumulated frame by frame: means, medians, norms, and those of trivial predictors.

The norms are those of MatterSim's model card (github.com/microsoft/mattersim, MODEL_CARD.md, "Metrics"), whose three
benchmark files are in common use:
    MAE_E = mean over frames of |E - E'| / n,
    MAE_F = mean over frames of the mean over atoms of ||F_j - F'_j||_2,
    MAE_S = mean over frames of ||S - S'||_2.
The card does not say which matrix norm the last one is; here it is the Frobenius norm of all nine components.

Sums use constant memory. Medians, the fit of offsets and the slope of the forces keep about 80 bytes per frame.
"""

from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from jaxtyping import Float

from mlip.evaluation.comparison import Comparison, Pair
from mlip.evaluation.element_errors import ElementErrors, ElementRow, EnergyErrors
from mlip.evaluation.force_slope import ForceSlope

_MAX_POINTS = 20_000  # for a parity plot; further frames are ignored beyond this number


@dataclass
class Mean:
    """Running means of values, their magnitudes and their squares."""

    count: int = 0
    total: float = 0.0
    absolute: float = 0.0
    squared: float = 0.0

    def add(self, values: np.ndarray) -> None:
        """Add values; NaN (unknown) is not counted."""
        values = values[~np.isnan(values)]
        self.count += values.size
        self.total += float(values.sum())
        self.absolute += float(np.abs(values).sum())
        self.squared += float(np.square(values).sum())

    def merge(self, other: "Mean") -> None:
        self.count += other.count
        self.total += other.total
        self.absolute += other.absolute
        self.squared += other.squared

    @property
    def mean(self) -> float:
        return self.total / self.count if self.count else float("nan")

    @property
    def mae(self) -> float:
        return self.absolute / self.count if self.count else float("nan")

    @property
    def rmse(self) -> float:
        return float(np.sqrt(self.squared / self.count)) if self.count else float("nan")


@dataclass(frozen=True)
class ErrorRow:
    """Errors over the frames of one dimensionality; NaN without labels."""

    dimensionality: str
    n_frames: int
    n_energies: int
    """Number of frames with a known energy; `n_forces` and `n_stresses` count frames with any known component."""
    n_forces: int
    n_stresses: int
    energy_mae: float
    """MAE of the energy, meV/atom, the unit of all energies here."""
    energy_rmse: float
    energy_median: float
    """Median of the absolute energy errors."""
    energy_mean: float
    """Mean signed error, potential minus label."""
    energy_mae_offset: float
    """MAE after fitting a constant for each element to the errors (`element_errors.fit_offsets`)."""
    energy_mae_e0: float
    """MAE of the reference energies alone."""
    forces_mae: float
    """MAE over the force components of all atoms, eV/A."""
    forces_rmse: float
    forces_mae_by_frame: float
    """Mean over frames of the MAE of each frame, in which large cells have the same weight as small ones."""
    forces_norm: float
    """MatterSim's MAE_F, eV/A."""
    forces_mae_zero: float
    """MAE of F = 0; `forces_norm_zero` is its MatterSim norm."""
    forces_norm_zero: float
    forces_slope: float
    """Slope of predicted against labeled forces through zero (`force_slope`); below 1 the potential is too soft."""
    forces_slope_low: float
    """Lower end of the slope's 95 % interval over the choice of materials; `forces_slope_high` is the upper end."""
    forces_slope_high: float
    stress_mae: float
    """MAE over the six Voigt components, GPa."""
    stress_rmse: float
    stress_median: float
    """Median of the absolute errors of the components."""
    stress_norm: float
    """MatterSim's MAE_S, GPa."""
    stress_mae_zero: float
    """MAE of S = 0; `stress_norm_zero` is its MatterSim norm."""
    stress_norm_zero: float


@dataclass
class Group:
    """Sums over the frames of one dimensionality, or over all."""

    n_frames: int = 0
    n_stresses: int = 0
    """Number of frames with any known stress component."""
    energy: Mean = field(default_factory=Mean)
    energy_e0: Mean = field(default_factory=Mean)
    forces: Mean = field(default_factory=Mean)
    forces_by_frame: Mean = field(default_factory=Mean)
    forces_norm: Mean = field(default_factory=Mean)
    forces_zero: Mean = field(default_factory=Mean)
    forces_norm_zero: Mean = field(default_factory=Mean)
    forces_slope: ForceSlope = field(default_factory=ForceSlope)
    stress: Mean = field(default_factory=Mean)
    stress_norm: Mean = field(default_factory=Mean)
    stress_zero: Mean = field(default_factory=Mean)
    stress_norm_zero: Mean = field(default_factory=Mean)
    energies: EnergyErrors = field(default_factory=EnergyErrors)
    stresses: list[np.ndarray] = field(default_factory=list)
    """Absolute errors of the known stress components."""

    def add(self, frames: Comparison) -> None:
        self.n_frames += frames.n_frames
        self.energy.add(frames.energy.errors)
        self.energy_e0.add(frames.energy.labels)
        self.energies.add(frames)
        forces = frames.forces
        self.forces.add(forces.errors)
        self.forces_by_frame.add(_means_by_frame(np.abs(forces.errors), frames))
        self.forces_norm.add(_means_by_frame(np.linalg.norm(forces.errors, axis=1, keepdims=True), frames))
        self.forces_zero.add(forces.labels)
        self.forces_norm_zero.add(_means_by_frame(np.linalg.norm(forces.labels, axis=1, keepdims=True), frames))
        self.forces_slope.add(frames)
        self.stress.add(frames.stress.errors)
        self.stress_norm.add(_frobenius_norms(frames.stress.errors))
        self.stress_zero.add(frames.stress.labels)
        self.stress_norm_zero.add(_frobenius_norms(frames.stress.labels))
        self.n_stresses += int((~np.isnan(frames.stress.labels)).any(axis=1).sum())
        known = frames.stress.known()
        self.stresses.append(np.abs(known.errors).astype(np.float32))

    def merge(self, other: "Group") -> None:
        self.n_frames += other.n_frames
        self.n_stresses += other.n_stresses
        self.stresses.extend(other.stresses)
        for name, value in vars(self).items():
            if isinstance(value, Mean | EnergyErrors | ForceSlope):
                value.merge(getattr(other, name))

    def row(self, dimensionality: str) -> ErrorRow:
        slope = self.forces_slope.slope
        return ErrorRow(
            dimensionality=dimensionality,
            n_frames=self.n_frames,
            n_energies=self.energy.count,
            n_forces=self.forces_by_frame.count,
            n_stresses=self.n_stresses,
            energy_mae=1000 * self.energy.mae,
            energy_rmse=1000 * self.energy.rmse,
            energy_median=1000 * self.energies.median,
            energy_mean=1000 * self.energy.mean,
            energy_mae_offset=1000 * self.energies.mae_without_offsets,
            energy_mae_e0=1000 * self.energy_e0.mae,
            forces_mae=self.forces.mae,
            forces_rmse=self.forces.rmse,
            forces_mae_by_frame=self.forces_by_frame.mean,
            forces_norm=self.forces_norm.mean,
            forces_mae_zero=self.forces_zero.mae,
            forces_norm_zero=self.forces_norm_zero.mean,
            forces_slope=slope.value,
            forces_slope_low=slope.low,
            forces_slope_high=slope.high,
            stress_mae=self.stress.mae,
            stress_rmse=self.stress.rmse,
            stress_median=_median(np.concatenate(self.stresses)),
            stress_norm=self.stress_norm.mean,
            stress_mae_zero=self.stress_zero.mae,
            stress_norm_zero=self.stress_norm_zero.mean,
        )


@dataclass
class Errors:
    """Errors of a potential on a set of frames, and points for parity plots."""

    functionals: set[str] = field(default_factory=set)
    left_out: dict[str, int] = field(default_factory=dict)
    """Number of frames or materials left out, by reason."""
    functional_note: str | None = None
    """Sentence for the table unless potential and labels are known to have the same functional."""
    knows_reference_energies: bool = True
    """False for an ASE calculator, for which "E0 only" is unknown."""
    points: dict[str, list[Pair]] = field(default_factory=lambda: {"energy": [], "forces": [], "stress": []})
    """Labels and predictions of the first frames: energies without E0, eV/atom; forces, eV/A; stresses, GPa."""
    _groups: dict[str, Group] = field(default_factory=dict)
    _elements: ElementErrors = field(default_factory=ElementErrors)

    @property
    def n_frames(self) -> int:
        """Number of frames compared."""
        return sum(group.n_frames for group in self._groups.values())

    @property
    def is_surrogate(self) -> bool:
        return any("surrogate" in name.lower() for name in self.functionals)

    @property
    def rows(self) -> list[ErrorRow]:
        """A row for each dimensionality, and "all"; empty without frames."""
        if not self._groups:
            return []
        rows = [*(self._groups[name].row(name) for name in sorted(self._groups)), self._together().row("all")]
        if self.knows_reference_energies:
            return rows
        return [replace(row, energy_mae_e0=float("nan")) for row in rows]

    @property
    def elements(self) -> list[ElementRow]:
        """A row for each element, by atomic number."""
        return self._elements.rows(self._together().energies.offsets) if self._groups else []

    def as_json(self) -> dict[str, Any]:
        return {
            "functionals": sorted(self.functionals),
            "functional_note": self.functional_note,
            "rows": [_without_nan(asdict(row)) for row in self.rows],
            "elements": [_without_nan(asdict(row)) for row in self.elements],
            "left_out": self.left_out,
        }

    def add(self, frames: Comparison) -> None:
        """Add frames; one with a non-finite prediction for a known label is excluded from all errors, and counted."""
        is_finite = frames.is_finite
        if not is_finite.all():
            self.leave_out("prediction is not finite", int((~is_finite).sum()))
            frames = frames.at(is_finite)
        self.functionals.update(frames.functional.tolist())
        for dimensionality in np.unique(frames.dimensionality):
            group = self._groups.setdefault(f"{dimensionality}D", Group())
            group.add(frames.at(frames.dimensionality == dimensionality))
        self._elements.add(frames)
        for name, points in self.points.items():
            known = getattr(frames, name).known()
            if known.labels.size and sum(len(pair.labels) for pair in points) < _MAX_POINTS:
                points.append(known)

    def leave_out(self, reason: str, count: int = 1) -> None:
        self.left_out[reason] = self.left_out.get(reason, 0) + count

    def _together(self) -> Group:
        total = Group()
        for group in self._groups.values():
            total.merge(group)
        return total


def _means_by_frame(values: Float[np.ndarray, "n m"], frames: Comparison) -> Float[np.ndarray, " k"]:
    """Mean over the known values of each frame's atoms; NaN if none is known."""
    is_known = ~np.isnan(values)
    counts = np.bincount(frames.frame_of_atom, is_known.sum(axis=1), minlength=frames.n_frames)
    totals = np.bincount(frames.frame_of_atom, np.nansum(values, axis=1), minlength=frames.n_frames)
    with np.errstate(invalid="ignore"):
        return totals / counts


def _frobenius_norms(voigt: Float[np.ndarray, "k 6"]) -> Float[np.ndarray, " k"]:
    """Norms of symmetric tensors; NaN if a component is unknown."""
    return np.sqrt(np.square(voigt) @ [1, 1, 1, 2, 2, 2])  # a shear component occurs twice in the tensor


def _median(values: np.ndarray) -> float:
    return float(np.median(values)) if values.size else float("nan")


def _without_nan(record: dict[str, Any]) -> dict[str, Any]:
    """The record with None for NaN, which JSON does not have."""
    return {key: None if value != value else value for key, value in record.items()}
