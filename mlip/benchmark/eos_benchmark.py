"""DFT curves E(V) against a potential's energies of the same structures: V0, B0 and the shape of the curve.

A curve is a run of five or more frames of a material with rising volumes; where the volume falls a new curve begins (a
file may have several polymorphs under one id). Both sets of energies are fitted with the Birch-Murnaghan equation. The
error of the shape is the root mean square difference of the two curves, each relative to its own minimum.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from jaxtyping import Float

from mlip.benchmark.intervals import percentiles
from mlip.benchmark.tables import Cell, Estimate, Table
from mlip.data import Frame, Store, Trajectory
from mlip.data.readers import ase_files
from mlip.errors import MlipError
from mlip.files.checksum import checksum_of
from mlip.foreign import ForeignPotential, check_no_precision
from mlip.functionals import check_functionals
from mlip.progress import count_bar
from mlip.relaxation.named import open_named, precision_recorded
from mlip.relaxation.results_file import ResultsFile
from mlip.response.birch_murnaghan import BirchMurnaghan, fit_birch_murnaghan
from mlip.response.eos import NO_MINIMUM
from mlip.response.minima import OK, Evaluator, at_fixed_cells, fault_of, worst
from mlip.response.options import ResponseOptions
from mlip.response.results import for_json

LEAST_POINTS = 5
_RESAMPLES, _SEED = 1000, 0
_TOGETHER = 64
"""Number of curves that are evaluated at once."""
NO_REFERENCE = "no_reference"
"""Reason of a curve whose DFT energies have no minimum within its range of volumes."""


@dataclass(frozen=True)
class Curve:
    """DFT energies of a material at rising volumes."""

    id: str
    functional: str
    structures: list[Atoms]
    energies: Float[np.ndarray, " k"]
    """Total DFT energies, eV."""

    @property
    def volumes(self) -> Float[np.ndarray, " k"]:
        """Cell volumes, A^3."""
        return np.array([atoms.get_volume() for atoms in self.structures])


def read_curves(source: str | PathLike, functional: str | None = None) -> list[Curve]:
    """Read the curves of a store, or of a file that ASE reads, in their order.

    Args:
        functional: functional of a file that does not state it in its frames or its name.

    Raises:
        MlipError: there is no such file, it has no curve, or its functional is unknown.
    """
    path = Path(source)
    curves = [curve for one in _materials(path, functional) for curve in _split(*one)]
    if not curves:
        raise MlipError(
            f"has no run of {LEAST_POINTS} frames with rising volumes and energies",
            where=str(path),
            fix="frames of one material, in the order of their volumes",
        )
    return curves


def _materials(path: Path, functional: str | None) -> Iterator[tuple[str, str, Sequence[Frame]]]:
    if not path.exists():
        raise MlipError("no such file", where=str(path))
    if ase_files.has_ending(path):
        for found in ase_files.read(path, functional=functional):
            if isinstance(found, Trajectory):
                yield found.material_id, found.functional, found.frames
        return
    with Store(path) as store:
        for material in store.materials():
            if material.has_structure:
                yield material.id, material.functional, [store.frame(k) for k in material.frames]


def _split(name: str, functional: str, frames: Sequence[Frame]) -> Iterator[Curve]:
    runs: list[list[Frame]] = [[]]
    for frame in frames:
        if not (np.isfinite(frame.energy) and frame.pbc.all()):
            continue
        if runs[-1] and _volume(frame) <= _volume(runs[-1][-1]):
            runs.append([])
        runs[-1].append(frame)
    long = [run for run in runs if len(run) >= LEAST_POINTS]
    for k, run in enumerate(long):
        structures = [Atoms(f.numbers, f.positions, cell=f.cell, pbc=f.pbc) for f in run]
        yield Curve(
            f"{name} #{k + 1}" if len(long) > 1 else name, functional, structures, np.array([f.energy for f in run])
        )


def _volume(frame: Frame) -> float:
    return abs(float(np.linalg.det(frame.cell)))


@dataclass(frozen=True)
class EosBenchmark:
    """The records of a finished benchmark."""

    name: str
    records: list[dict[str, Any]]
    note: str | None

    def table(self) -> Table:
        """A table with one row: mean errors with intervals, and the reasons of the curves that failed."""
        good = [record for record in self.records if record["reason"] == OK]
        errors = [_errors(record) for record in good]
        cells: list[Cell] = [self.name, str(len(self.records)), str(len(good))]
        for key, absolute in (("volume", True), ("volume", False), ("bulk", True), ("bulk", False), ("shape", True)):
            values = np.array([one[key] for one in errors])
            cells.append(_mean(np.abs(values) if absolute else values))
        reasons = [record["reason"] for record in self.records if record["reason"] != OK]
        told = ", ".join(f"{reasons.count(reason)} {reason}" for reason in dict.fromkeys(reasons))
        columns = (
            "potential",
            "curves",
            "compared",
            "V0: MAPE %",
            "V0: MPE %",
            "B0: MAPE %",
            "B0: MPE %",
            "shape meV/atom",
            "not converged",
        )
        notes = (
            "Energies at the structures of the reference, which are not relaxed. Error: potential minus reference. "
            "Shape: root mean square of the difference of both curves above their own minima. Intervals: bootstrap.",
            *([self.note] if self.note else []),
        )
        return Table("eos", "Equations of state", columns, ((*cells, told or "-"),), notes)


def run_eos_benchmark(
    potential: str | PathLike,
    source: str | PathLike,
    out: str | PathLike,
    *,
    functional: str | None = None,
    dtype: str | None = None,
    allow_functional_mismatch: bool = False,
    progress: bool = True,
) -> EosBenchmark:
    """Compare every curve of a source. Records are appended to OUT/results.jsonl; a rerun resumes there.

    Args:
        functional: functional of a file that does not state it in its frames or its name.
        dtype: float64 (default) or float32; a calculator of ASE has its own.

    Raises:
        MlipError: there is no such potential or source, the source has no curves, the references are of another
            functional, or OUT has results of another run.
    """
    named = open_named(potential)
    is_foreign = isinstance(named.potential, ForeignPotential)
    if is_foreign:
        check_no_precision(dtype)
    curves, options = read_curves(source, functional), ResponseOptions(relax=False, dtype=dtype or "float64")
    note = check_functionals(
        named.potential.functional,
        {curve.functional for curve in curves},
        of_ours="the potential",
        of_theirs="the references",
        where=str(source),
        allowed=allow_functional_mismatch,
    )
    protocol = {
        "benchmark": "eos",
        "potential": named.record,
        "source": {"name": Path(source).name, "sha256": _content(Path(source)), "curves": len(curves)},
        "dtype": precision_recorded({} if is_foreign else {"dtype": options.dtype}),
    }
    with ResultsFile(Path(out) / "results.jsonl", protocol) as results:
        done = {record["curve"] for record in results.records}
        missing = [k for k in range(len(curves)) if k not in done]
        with count_bar(progress) as bar:
            task = bar.add_task("curves", total=len(curves), completed=len(done))
            for k, record in zip(
                missing, _compare([curves[k] for k in missing], named.potential, options), strict=True
            ):
                results.append({"curve": k, **record})
                bar.advance(task)
        records = sorted(results.records, key=lambda record: record["curve"])
    return EosBenchmark(named.name, records, note)


def _content(path: Path) -> str:
    if ase_files.has_ending(path):
        return checksum_of(path)
    with Store(path) as store:
        return store.content_sha256


def _compare(curves: Sequence[Curve], potential: Evaluator, options: ResponseOptions) -> Iterator[dict[str, Any]]:
    """One record for each curve, in order; structures of many curves are evaluated together."""
    for first in range(0, len(curves), _TOGETHER):
        part = curves[first : first + _TOGETHER]
        points = [atoms for curve in part for atoms in curve.structures]
        answers = iter(at_fixed_cells(points, potential, options, relax_ions=False))
        for curve in part:
            yield _record(curve, [next(answers) for _ in curve.structures])


def _record(curve: Curve, points: list) -> dict[str, Any]:
    energies = np.array([np.nan if point.failed else point.energy for point in points])
    reason, message = worst([fault_of(point, relax_ions=False) for point in points])
    reference, fit = _fit(curve.volumes, curve.energies), _fit(curve.volumes, energies)
    shape = float("nan")
    if reason == OK and not _is_inside(reference, curve.volumes):
        reason = NO_REFERENCE
    elif reason == OK and not _is_inside(fit, curve.volumes):
        reason = NO_MINIMUM
    if reason == OK:
        difference = (energies - fit.energy) - (curve.energies - reference.energy)
        shape = float(np.sqrt(np.mean(difference**2)))
    return for_json(
        {
            "id": curve.id,
            "formula": curve.structures[0].symbols.get_chemical_formula(empirical=True),
            "n_atoms": len(curve.structures[0]),
            "reason": reason,
            "message": message,
            "volumes": curve.volumes,
            "reference_energies": curve.energies,
            "energies": energies,
            "reference": _told(reference),
            "predicted": _told(fit),
            "shape": shape,
        }
    )


def _fit(volumes: np.ndarray, energies: np.ndarray) -> BirchMurnaghan | None:
    known = np.isfinite(energies)
    return fit_birch_murnaghan(volumes[known], energies[known]) if known.sum() >= LEAST_POINTS else None


def _is_inside(fit: BirchMurnaghan | None, volumes: np.ndarray) -> bool:
    return fit is not None and bool(volumes[0] < fit.volume < volumes[-1])


def _told(fit: BirchMurnaghan | None) -> dict[str, float] | None:
    if fit is None:
        return None
    return {name: getattr(fit, name) for name in ("volume", "energy", "bulk_modulus", "derivative", "residual")}


def _errors(record: dict[str, Any]) -> dict[str, float]:
    """Relative errors of V0 and B0, %, and the error of the shape, meV/atom."""
    one, other = record["predicted"], record["reference"]
    return {
        "volume": 100 * (one["volume"] / other["volume"] - 1),
        "bulk": 100 * (one["bulk_modulus"] / other["bulk_modulus"] - 1),
        "shape": 1000 * record["shape"] / record["n_atoms"],
    }


def _mean(values: np.ndarray) -> Estimate:
    if not len(values):
        return Estimate(float("nan"), 2)
    generator = np.random.default_rng(_SEED)
    samples = [float(values[generator.integers(len(values), size=len(values))].mean()) for _ in range(_RESAMPLES)]
    return Estimate(float(values.mean()), 2, percentiles(samples))
