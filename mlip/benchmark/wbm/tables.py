"""Tables of runs on WBM: geometries and stability."""

from collections.abc import Sequence

import numpy as np

from mlip.benchmark.intervals import RESAMPLES, SEED, Interval, percentiles, wilson
from mlip.benchmark.tables import Cell, Estimate, Table
from mlip.benchmark.wbm.discovery import MAX_ERROR
from mlip.benchmark.wbm.findings import ALL, UNIQUE
from mlip.benchmark.wbm.geometry import UNMATCHED
from mlip.benchmark.wbm.run import WbmRun
from mlip.data.wbm_files import UNIQUE_PROTOTYPE

_FEW = 20_000
"""Maximum number of materials for which means have an interval; with more it is narrower than the printed digits."""
_SUBSETS = {ALL: "all", UNIQUE: "unique prototypes"}


def wbm_tables(runs: Sequence[WbmRun]) -> tuple[Table, ...]:
    """The tables of runs on the same materials; a run has one or two rows in each."""
    return geometry_table(runs), discovery_table(runs)


def geometry_table(runs: Sequence[WbmRun]) -> Table:
    """Table of distances from DFT's structures, and of changes of symmetry at both symprecs."""
    columns = (
        *("potential", "materials", "failed", "max_steps", "no match", "RMSD", "symprec Å"),
        *("same symmetry %", "lower %", "higher %", "operations: MAE"),
    )
    rows = []
    for run in runs:
        found = run.findings
        first: tuple[Cell, ...] = (
            run.name,
            f"{len(found)}",
            f"{len(found) - found.n_submitted}",
            f"{found.reasons.get('max_steps', 0)}",
            f"{found.n_unmatched}",
            _mean(np.where(np.isfinite(found.rmsd), found.rmsd, UNMATCHED), 4),
        )
        for symprec, metrics in found.geometry.items():
            shares = (metrics.symmetry_match, metrics.symmetry_decrease, metrics.symmetry_increase)
            operations = np.abs(found.changes[symprec][:, 1])
            rows.append(
                (
                    *first,
                    symprec,
                    *(Estimate(100 * share, 2, wilson(100 * share, metrics.n_structures)) for share in shares),
                    _mean(operations[np.isfinite(operations)], 3),
                )
            )
    notes = (
        "RMSD: pymatgen's StructureMatcher (stol 1, no scaling), in units of the cube root of the volume an atom; a "
        "pair that does not match counts as 1. Symmetry by spglib; the publishers take moyopy.",
        "Failed materials have no structure: as at the publishers, they have no part in RMSD and symmetry.",
    )
    return Table("wbm_geometry", "WBM: relaxed structures against DFT's", columns, tuple(rows), (*notes, *_said(runs)))


def discovery_table(runs: Sequence[WbmRun]) -> Table:
    """Table of stability metrics and errors of formation energies."""
    columns = (
        *("potential", "", "materials", "missing", "F1", "DAF", "precision", "recall", "accuracy"),
        *("MAE eV/atom", "RMSE eV/atom", "R²"),
    )
    rows = []
    for run in runs:
        for subset, metrics in run.findings.discovery.items():
            chosen = _errors(run, subset)
            shares = (metrics.F1, metrics.DAF, metrics.Precision, metrics.Recall, metrics.Accuracy)
            rows.append(
                (
                    run.name,
                    _SUBSETS[subset],
                    f"{len(chosen)}",
                    f"{metrics.missing_preds}",
                    *(Estimate(value, 3) for value in shares),
                    Estimate(metrics.MAE, 3, _mean_interval(np.abs(chosen[np.isfinite(chosen)]))),
                    Estimate(metrics.RMSE, 3),
                    Estimate(metrics.R2, 3),
                )
            )
    notes = [
        "Distances to DFT's hull: DFT's own plus the error of the formation energy; stable at 0 or below. Corrections "
        "of the Materials Project (2020) are on both sides. Missing predictions, and errors above 5 eV/atom, count as "
        "unstable and have no part in MAE, RMSE and R².",
    ]
    if not all(run.findings.is_hull_known for run in runs):
        notes.append("No distances to the hull are known: there is no F1, DAF, precision, recall, accuracy and R².")
    return Table("wbm_discovery", "WBM: stability", columns, tuple(rows), (*notes, *_said(runs)))


def _said(runs: Sequence[WbmRun]) -> list[str]:
    """Notes on relaxations that start from DFT-relaxed structures, and on functionals that differ."""
    starts = {run.protocol["start"] for run in runs}
    said = ["Relaxations began at the structures that DFT relaxed."] if starts == {"last"} else []
    return said + [f"{note[0].upper()}{note[1:]}." for run in runs if (note := run.functional_note)]


def _errors(run: WbmRun, subset: str) -> np.ndarray:
    """Errors of formation energies of a subset, eV/atom; NaN where the prediction is missing."""
    columns = run.findings.columns
    errors = columns["e_form"] - columns["dft_e_form"]
    errors = np.where(np.abs(errors) > MAX_ERROR, np.nan, errors)
    return errors if subset == ALL else errors[columns[UNIQUE_PROTOTYPE] == 1]


def _mean(values: np.ndarray, digits: int) -> Estimate:
    return Estimate(float(values.mean()) if len(values) else float("nan"), digits, _mean_interval(values))


def _mean_interval(values: np.ndarray) -> Interval | None:
    """Interval of a mean by the percentile bootstrap; None without values or above `_FEW`."""
    if not 0 < len(values) <= _FEW:
        return None
    generator = np.random.default_rng(SEED)
    draws = (generator.integers(len(values), size=len(values)) for _ in range(RESAMPLES))
    return percentiles([float(values[drawn].mean()) for drawn in draws])
