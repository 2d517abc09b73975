"""How well a potential reproduces labelled frames, by dimensionality, beside predictors that know nothing.

Public sets are often relaxed structures, where F = 0 beats good models: a mean error says little without its
trivial baseline. These are the sum of reference energies (E0), no forces, no stress.
"""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.table import Table

from mlip.data import Store
from mlip.data.records import Entry, Frame, Skipped
from mlip.data.sources import read_source, source_files
from mlip.errors import MlipError
from mlip.graph.crystal import crystal_graph
from mlip.potential import Potential
from mlip.runtime import precision_scope
from mlip.units import EV_PER_A3_IN_GPA

_CHUNK = 1024  # frames held in memory at once
_MAX_POINTS = 20_000  # of a parity plot


class LabelledFrame(NamedTuple):
    frame: Frame
    material_id: str
    dimensionality: int
    functional: str


@dataclass
class Mean:
    """A running mean absolute and root mean square of errors."""

    count: int = 0
    absolute: float = 0.0
    squared: float = 0.0

    def add(self, errors: np.ndarray) -> None:
        self.count += errors.size
        self.absolute += float(np.abs(errors).sum())
        self.squared += float(np.square(errors).sum())

    @property
    def mae(self) -> float:
        return self.absolute / self.count if self.count else float("nan")

    @property
    def rmse(self) -> float:
        return float(np.sqrt(self.squared / self.count)) if self.count else float("nan")


@dataclass(frozen=True)
class ErrorRow:
    """Errors over the frames of one dimensionality; NaN where there are no labels."""

    dimensionality: str
    n_frames: int
    energy_mae: float
    """meV/atom, as the next two."""
    energy_rmse: float
    energy_mae_e0: float
    """Of the reference energies alone."""
    forces_mae: float
    """eV/A, a component."""
    forces_mae_zero: float
    """Of F = 0."""
    stress_mae: float
    """GPa, a Voigt component."""
    stress_mae_zero: float
    """Of S = 0."""


@dataclass
class Errors:
    """The errors of a potential on a set of frames, and points for parity plots."""

    functionals: set[str] = field(default_factory=set)
    left_out: dict[str, int] = field(default_factory=dict)
    """Why frames or materials were not compared -> how many."""
    points: dict[str, list[tuple[np.ndarray, np.ndarray]]] = field(
        default_factory=lambda: {"energy": [], "forces": [], "stress": []}
    )
    """(labels, predictions) of the first frames; energies a atom without E0, eV, eV/A, GPa."""
    _n_frames: dict[str, int] = field(default_factory=dict)
    _means: dict[tuple[str, str], Mean] = field(default_factory=dict)

    @property
    def is_surrogate(self) -> bool:
        return any("surrogate" in name.lower() for name in self.functionals)

    @property
    def rows(self) -> list[ErrorRow]:
        """A row a dimensionality, and "all"."""
        return [self._row(name) for name in sorted(self._n_frames)]

    def as_json(self) -> dict[str, Any]:
        return {
            "functionals": sorted(self.functionals),
            "rows": [
                {key: None if value != value else value for key, value in asdict(row).items()}  # NaN is no JSON
                for row in self.rows
            ],
            "left_out": self.left_out,
        }

    def add(self, item: LabelledFrame, prediction: dict[str, Any], reference_energy: float) -> None:
        """Compare one frame; `reference_energy` is the sum of its E0, eV.

        A frame whose prediction is not finite where a label is known is left out of all columns, and counted.
        """
        pairs = _known_pairs(item.frame, prediction, reference_energy)
        if not all(np.isfinite(predicted).all() for _, predicted in pairs.values()):
            self.leave_out("prediction is not finite")
            return
        self.functionals.add(item.functional)
        for group in (f"{item.dimensionality}D", "all"):
            self._n_frames[group] = self._n_frames.get(group, 0) + 1
            for name, (labels, predicted) in pairs.items():
                self._mean(group, name).add(predicted - labels)
                self._mean(group, f"{name} trivial").add(labels)
        for name, (labels, predicted) in pairs.items():
            if labels.size and len(self.points[name]) < _MAX_POINTS:
                self.points[name].append((labels, predicted))

    def leave_out(self, reason: str) -> None:
        self.left_out[reason] = self.left_out.get(reason, 0) + 1

    def _mean(self, group: str, name: str) -> Mean:
        return self._means.setdefault((group, name), Mean())

    def _row(self, group: str) -> ErrorRow:
        energy, forces, stress = (self._mean(group, name) for name in ("energy", "forces", "stress"))
        return ErrorRow(
            dimensionality=group,
            n_frames=self._n_frames[group],
            energy_mae=1000 * energy.mae,
            energy_rmse=1000 * energy.rmse,
            energy_mae_e0=1000 * self._mean(group, "energy trivial").mae,
            forces_mae=forces.mae,
            forces_mae_zero=self._mean(group, "forces trivial").mae,
            stress_mae=stress.mae,
            stress_mae_zero=self._mean(group, "stress trivial").mae,
        )


def _known_pairs(
    frame: Frame, prediction: dict[str, Any], reference_energy: float
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """(labels, predictions), flat, where a label is known: energy an atom without E0, eV; eV/A; GPa."""
    n_atoms = len(frame)
    pairs = {
        "energy": ((frame.energy - reference_energy) / n_atoms, (prediction["energy"] - reference_energy) / n_atoms),
        "forces": (np.nan if frame.forces is None else frame.forces, prediction["forces"]),
        "stress": (
            np.nan if frame.stress is None else frame.stress * EV_PER_A3_IN_GPA,
            prediction["stress"] * EV_PER_A3_IN_GPA,
        ),
    }
    known = {}
    for name, (labels, predicted) in pairs.items():
        labels, predicted = (np.ravel(values) for values in np.broadcast_arrays(labels, predicted))
        is_known = ~np.isnan(labels)
        known[name] = labels[is_known], predicted[is_known]
    return known


def evaluate(
    potential: Potential,
    frames: Iterable[LabelledFrame],
    *,
    dtype: str = "float32",
    errors: Errors | None = None,
) -> Errors:
    """Errors of `potential` on `frames`, which are gone through once and never held together.

    Args:
        errors: to be added to; otherwise new ones.

    Raises:
        MlipError: no frame is left to compare; another dtype than float32 or float64.
    """
    errors = Errors() if errors is None else errors
    frames = iter(frames)
    with precision_scope(dtype):  # refuses another dtype before anything is read
        while chunk := list(islice(frames, _CHUNK)):
            known = [item for item in chunk if _is_known(potential, item, errors)]
            # Neighbours in size share a batch: less padding.
            known.sort(key=lambda item: len(item.frame))
            for item, prediction in _predictions(potential, known, dtype, errors):
                reference = float(potential.reference_energies_by_z[item.frame.numbers].sum())
                errors.add(item, prediction, reference)
    if not errors.rows:
        reasons = "".join(f"; {count} left out: {why}" for why, count in errors.left_out.items())
        raise MlipError(f"no labelled frame to compare with{reasons}", fix="check --split, or the potential's elements")
    return errors


def _predictions(
    potential: Potential, items: list[LabelledFrame], dtype: str, errors: Errors
) -> Iterable[tuple[LabelledFrame, dict[str, Any]]]:
    """Frames beside their predictions; frames that no graph can be made of are left out by material id."""
    try:
        predictions = potential.predict([item.frame for item in items], dtype=dtype)
    except MlipError:  # names a frame by its place in the list, which nobody knows here: look for it
        sound = [item for item in items if _has_graph(potential, item, errors)]
        if len(sound) == len(items):
            raise
        return _predictions(potential, sound, dtype, errors)
    return zip(items, predictions, strict=True)


def _has_graph(potential: Potential, item: LabelledFrame, errors: Errors) -> bool:
    try:
        crystal_graph(item.frame, potential.cutoff)
    except MlipError as error:
        errors.leave_out(f"{item.material_id}: {error.what}")
        return False
    return True


def _is_known(potential: Potential, item: LabelledFrame, errors: Errors) -> bool:
    try:
        potential.check_elements(item.frame.numbers)
    except MlipError as error:
        errors.leave_out(error.what)
        return False
    return True


def store_frames(store: Store, split: str | None) -> Iterator[LabelledFrame]:
    """The frames of a split, or of the whole store, in order."""
    for material in store.materials():
        if split in (None, material.split):
            for k in material.frames:
                yield LabelledFrame(store.frame(k), material.id, material.dimensionality, material.functional)


def evaluate_path(
    potential: Potential,
    data: Path,
    *,
    split: str | None = None,
    functional: str | None = None,
    dtype: str = "float32",
) -> Errors:
    """Errors on a store (or one split of it), or on any file or folder that the readers take.

    Args:
        functional: of a file that does not tell it.

    Raises:
        MlipError: nothing there, not readable, no frame left, or a split of what is not a store.
    """
    if is_store(data):
        with Store(data) as store:
            return evaluate(potential, store_frames(store, split), dtype=dtype)
    if split is not None:
        raise MlipError("only a store has splits", where=str(data), fix="leave out --split")
    errors = Errors()
    return evaluate(potential, source_frames(data, functional, errors), dtype=dtype, errors=errors)


def is_store(path: Path) -> bool:
    """Whether `path` is what `mlip data build` writes rather than a source of it."""
    if path.is_dir():
        return any(path.glob("*.h5"))
    return path.suffix in (".h5", ".hdf5")


def source_frames(path: Path, functional: str | None, errors: Errors) -> Iterator[LabelledFrame]:
    """The frames of a file or folder, streaming; materials that cannot be used are counted in `errors`."""
    for file in source_files([path]):
        for material in read_source(file, functional=functional):
            if isinstance(material, Skipped):
                errors.leave_out(material.reason)
                continue
            if isinstance(material, Entry):
                material = material.as_trajectory()
            for frame in material.frames:
                yield LabelledFrame(frame, material.material_id, material.dimensionality, material.functional)


def error_table(errors: Errors, title: str) -> Table:
    """The errors beside those of the trivial predictors, a row a dimensionality."""
    table = Table(title=title + (" (surrogate labels)" if errors.is_surrogate else ""))
    headings = (
        "",
        "frames",
        "E MAE\nmeV/atom",
        "E RMSE\nmeV/atom",
        "E0 only\nmeV/atom",
        "F MAE\neV/Å",
        "F = 0\neV/Å",
        "S MAE\nGPa",
        "S = 0\nGPa",
    )
    for heading in headings:
        table.add_column(heading, justify="right")
    for row in errors.rows:
        table.add_row(
            row.dimensionality,
            f"{row.n_frames:,}",
            *(f"{value:.1f}" for value in (row.energy_mae, row.energy_rmse, row.energy_mae_e0)),
            *(f"{value:.3f}" for value in (row.forces_mae, row.forces_mae_zero)),
            *(f"{value:.2f}" for value in (row.stress_mae, row.stress_mae_zero)),
        )
    table.caption = "; ".join(f"{count} left out: {why}" for why, count in errors.left_out.items())
    return table
