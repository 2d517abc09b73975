"""Tables 3, 4 and 6 of "Improving machine-learning models in materials science through large datasets" for any number
of potentials. The paper's columns come first, then those it lacks: number of materials, steps, seconds, reasons of
failure, and an interval for each number. Errors are potential minus reference; rows quoted from the paper keep its
sign, and the title says so."""

from collections.abc import Sequence

from mlip.benchmark import published
from mlip.benchmark.error_summary import Cost, DimensionalitySummary
from mlip.benchmark.intervals import RESAMPLES, Interval
from mlip.benchmark.metrics import ENERGY_OUTLIER, VOLUME_OUTLIER, EnergyDistribution, ErrorSummary
from mlip.benchmark.results import PotentialResults, differences, source_of_reference
from mlip.benchmark.tables import Cell, Estimate, Table

_COST_COLUMNS = ("materials", "of", "steps", "s each", "not converged")
_VOLUME = {
    "failed_percent": ("Failed %", 2),
    "outlier_percent": ("Outliers %", 2),
    "mpe": ("MPE %", 2),
    "mape": ("MAPE %", 2),
    "mae": ("MAE without outliers Å³/atom", 3),
}
"""Columns of Table 3: field -> column and digits."""
_ENERGY = {
    "failed_percent": ("Failed %", 2),
    "outlier_percent": ("Outliers %", 2),
    "mean_error": ("ME eV/atom", 4),
    "mpe": ("MPE %", 2),
    "mape": ("MAPE %", 2),
    "mae": ("MAE without outliers eV/atom", 4),
}
"""Columns of Table 4. The paper's column "MPE" holds mean signed errors in eV/atom, DFT minus potential: our ME with
the opposite sign."""
_DISTRIBUTION = {
    "failed_percent": ("Failed %", 2),
    "mae": ("MAE with outliers eV/atom", 4),
    "rmse": ("RMSE with outliers eV/atom", 4),
    "outlier_percent": ("Outliers %", 2),
    "rmse_without_outliers": ("RMSE without outliers eV/atom", 4),
    "p90": ("90th percentile of AE eV/atom", 4),
    "median": ("Median AE eV/atom", 4),
}
"""Columns of Table 6."""
_COUNTS = "'materials' are those that the averages are of, 'of' all with a reference"
_VOLUME_NOTE = (
    f"Errors: potential minus reference. Outliers: |dV| > {100 * VOLUME_OUTLIER:g} % of the reference, shares of what "
    f"did not fail; averages are without failures and outliers; {_COUNTS}."
)
_ENERGY_NOTE = (
    "Errors: potential minus reference; percentages are of the reference, so a negative energy turns their sign. "
    f"Outliers: |dE| > {ENERGY_OUTLIER:g} eV/atom, shares of what did not fail; averages are without failures and "
    f"outliers; {_COUNTS}."
)
_DISTRIBUTION_NOTE = (
    f"Outliers: |dE| > {ENERGY_OUTLIER:g} eV/atom, shares of what did not fail; averages are with outliers unless the "
    f"column says otherwise; {_COUNTS}."
)
_PAPERS_SIGN = "ME of (paper): DFT minus potential, the paper's own sign"
_INTERVALS_NOTE = (
    f"Intervals: 95 %; averages by a bootstrap over materials ({RESAMPLES} samples, fixed seed), "
    "shares by Wilson's score."
)


def volume_table(potentials: Sequence[PotentialResults], with_paper: bool = False) -> Table:
    """Table 3: errors of effective volumes, by dimensionality and potential."""
    return Table(
        "volume",
        f"Effective volume after relaxation, against {_reference(potentials)}",
        ("", "potential", *(column for column, _ in _VOLUME.values()), *_COST_COLUMNS),
        _rows(potentials, _volume_cells, published.VOLUME if with_paper else {}, list(_VOLUME)),
        (_VOLUME_NOTE, *_notes(potentials, with_paper)),
    )


def energy_table(potentials: Sequence[PotentialResults], with_paper: bool = False) -> Table:
    """Table 4: errors of the relaxed energies, by dimensionality and potential."""
    return Table(
        "energy",
        f"Energy after relaxation, against {_reference(potentials)} (errors: potential minus reference"
        f"{'; ' + _PAPERS_SIGN if with_paper else ''})",
        ("", "potential", *(column for column, _ in _ENERGY.values()), *_COST_COLUMNS),
        _rows(potentials, _energy_cells, published.ENERGY if with_paper else {}, list(_ENERGY)),
        (_ENERGY_NOTE, *_notes(potentials, with_paper)),
    )


def pbesol_table(potentials: Sequence[PotentialResults]) -> Table:
    """Table 6: the distribution of energy errors, and the mean volume error. The paper starts from the first ionic
    step, keeps the symmetry, and has fmax 0.01 eV/A (M3GNet) or 0.001 eV/A (MACE); a note tells ours."""
    rows = [
        (
            f"{summary.dimensionality}D",
            potential.name,
            *_estimates(summary.energy, summary.energy_intervals, _DISTRIBUTION),
            Estimate(summary.volume_mae, 3),
            *_cost_cells(summary.energy, summary.cost),
        )
        for potential in potentials
        for summary in potential.distributions
    ]
    columns = [column for column, _ in _DISTRIBUTION.values()]
    return Table(
        "pbesol",
        f"Energy errors after relaxation, eV/atom, against {_reference(potentials)}",
        ("", "potential", *columns, "Volume MAE with outliers Å³/atom", *_COST_COLUMNS),
        tuple(sorted(rows, key=lambda row: row[0], reverse=True)),  # stable sort: potentials keep their order
        (*_protocols(potentials), _DISTRIBUTION_NOTE, *_notes(potentials, with_paper=False)),
    )


def _volume_cells(summary: DimensionalitySummary) -> tuple[Cell, ...]:
    return (
        *_estimates(summary.volume, summary.volume_intervals, _VOLUME),
        *_cost_cells(summary.volume, summary.cost),
    )


def _energy_cells(summary: DimensionalitySummary) -> tuple[Cell, ...]:
    return (
        *_estimates(summary.energy, summary.energy_intervals, _ENERGY),
        *_cost_cells(summary.energy, summary.cost),
    )


def _rows(potentials, cells_of, paper, fields) -> tuple[tuple[Cell, ...], ...]:
    """Rows by dimensionality, 3D first: the potentials in their order, then the paper's rows for the same
    dimensionality."""
    rows: dict[int, list[tuple[Cell, ...]]] = {}
    for potential in potentials:
        for summary in potential.summaries:
            row = (f"{summary.dimensionality}D", potential.name, *cells_of(summary))
            rows.setdefault(summary.dimensionality, []).append(row)
    for dimensionality in rows:
        for name, numbers in paper.get(dimensionality, {}).items():
            cells = (*(numbers.get(field, "-") for field in fields), *["-"] * len(_COST_COLUMNS))
            rows[dimensionality].append((f"{dimensionality}D", f"{name} (paper)", *cells))
    return tuple(row for dimensionality in sorted(rows, reverse=True) for row in rows[dimensionality])


def _estimates(
    errors: ErrorSummary | EnergyDistribution, intervals: dict[str, Interval], columns: dict[str, tuple[str, int]]
) -> tuple[Estimate, ...]:
    return tuple(Estimate(getattr(errors, name), digits, intervals[name]) for name, (_, digits) in columns.items())


def _cost_cells(errors: ErrorSummary | EnergyDistribution, cost: Cost) -> tuple[Cell, ...]:
    reasons = ", ".join(f"{count} {reason}" for reason, count in cost.reasons.items() if reason != "converged")
    return str(errors.n_averaged), str(errors.n), Estimate(cost.steps, 1), Estimate(cost.seconds, 3), reasons or "-"


def _reference(potentials: Sequence[PotentialResults]) -> str:
    return source_of_reference(set().union(*(potential.functionals for potential in potentials)))


def _protocols(potentials: Sequence[PotentialResults]) -> tuple[str, ...]:
    """One line for each protocol, naming the potentials that share it, or "All"."""
    alike: dict[str, list[str]] = {}
    for potential in potentials:
        alike.setdefault(_protocol(potential), []).append(potential.name)
    return tuple(f"{'All' if len(alike) == 1 else ', '.join(names)}: {line}" for line, names in alike.items())


def _protocol(potential: PotentialResults) -> str:
    start, symmetry = potential.setting("start"), potential.setting("symmetry")
    kept = {"True": "conserved", "False": "not imposed"}.get(symmetry, symmetry)
    return (
        f"from the {start} structure of each path, symmetry {kept}, "
        f"fmax {potential.setting('fmax')} eV/Å, at most {potential.setting('steps')} steps."
    )


def _notes(potentials: Sequence[PotentialResults], with_paper: bool) -> tuple[str, ...]:
    return (
        _INTERVALS_NOTE,
        *(f"{note[0].upper()}{note[1:]}." for p in potentials if (note := p.functional_note)),
        *(f"Not alike: {line}." for line in differences(potentials)),
        *([f"(paper): {published.CITATION}."] if with_paper else []),
    )
