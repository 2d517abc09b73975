"""Tables 3, 4 and 6 of "Improving machine-learning models in materials science through large datasets", from the
results of any number of potentials: the paper's columns first, then what it left out: the number of materials, steps,
seconds and reasons of failure, and an interval for each number.
"""

from collections.abc import Sequence

from mlip.benchmark import published
from mlip.benchmark.comparison import PotentialResults, differences, source_of_reference
from mlip.benchmark.intervals import RESAMPLES, Interval
from mlip.benchmark.metrics import EnergyDistribution, ErrorSummary
from mlip.benchmark.summary import Cost, Summary
from mlip.benchmark.tables import Cell, Estimate, Table

_COST_COLUMNS = ("materials", "steps", "s each", "not converged")
_VOLUME = {
    "failed_percent": ("Failed %", 2),
    "outlier_percent": ("Outliers %", 2),
    "mpe": ("MPE %", 2),
    "mape": ("MAPE %", 2),
    "mae": ("MAE Å³/atom", 3),
}
"""Table 3: field -> column and digits."""
_ENERGY = {
    "failed_percent": ("Failed %", 2),
    "outlier_percent": ("Outliers %", 2),
    "mean_error": ("ME eV/atom", 4),
    "mpe": ("MPE %", 2),
    "mape": ("MAPE %", 2),
    "mae": ("MAE eV/atom", 4),
}
"""Table 4. The paper's column MPE holds mean signed errors in eV/atom, DFT minus potential (here ME)."""
_DISTRIBUTION = {
    "failed_percent": ("Failed %", 2),
    "mae": ("MAE eV/atom", 4),
    "rmse": ("RMSE eV/atom", 4),
    "outlier_percent": ("Outliers %", 2),
    "rmse_without_outliers": ("RMSE without", 4),
    "p90": ("90th percentile", 4),
    "median": ("Median AE", 4),
}
"""Table 6."""
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
        _notes(potentials, with_paper),
    )


def energy_table(potentials: Sequence[PotentialResults], with_paper: bool = False) -> Table:
    """Table 4: errors of the relaxed energies, by dimensionality and potential."""
    return Table(
        "energy",
        f"Energy after relaxation, against {_reference(potentials)} (ME: reference minus potential)",
        ("", "potential", *(column for column, _ in _ENERGY.values()), *_COST_COLUMNS),
        _rows(potentials, _energy_cells, published.ENERGY if with_paper else {}, list(_ENERGY)),
        _notes(potentials, with_paper),
    )


def pbesol_table(potentials: Sequence[PotentialResults]) -> Table:
    """Table 6: the distribution of energy errors, and the volume's. Its protocol starts from the first ionic step,
    keeps the symmetry, and has fmax 0.01 eV/A (M3GNet) or 0.001 (MACE); a note says what was run."""
    rows = [
        (
            f"{summary.dimensionality}D",
            potential.name,
            *_estimates(summary.energy, summary.energy_intervals, _DISTRIBUTION),
            Estimate(summary.volume_mae, 3),
            *_cost_cells(summary.energy.n, summary.cost),
        )
        for potential in potentials
        for summary in potential.distributions
    ]
    columns = [column for column, _ in _DISTRIBUTION.values()]
    return Table(
        "pbesol",
        f"Energy errors after relaxation, eV/atom, against {_reference(potentials)}",
        ("", "potential", *columns, "Volume MAE Å³/atom", *_COST_COLUMNS),
        tuple(sorted(rows, key=lambda row: row[0], reverse=True)),  # stable: potentials in their order
        (*_protocols(potentials), *_notes(potentials, with_paper=False)),
    )


def _volume_cells(summary: Summary) -> tuple[Cell, ...]:
    return (
        *_estimates(summary.volume, summary.volume_intervals, _VOLUME),
        *_cost_cells(summary.volume.n, summary.cost),
    )


def _energy_cells(summary: Summary) -> tuple[Cell, ...]:
    return (
        *_estimates(summary.energy, summary.energy_intervals, _ENERGY),
        *_cost_cells(summary.energy.n, summary.cost),
    )


def _rows(potentials, cells_of, paper, fields) -> tuple[tuple[Cell, ...], ...]:
    """By dimensionality, 3D first: the potentials in their order, then the paper's where there are any of ours."""
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


def _cost_cells(n: int, cost: Cost) -> tuple[Cell, ...]:
    reasons = ", ".join(f"{count} {reason}" for reason, count in cost.reasons.items() if reason != "converged")
    return str(n), Estimate(cost.steps, 1), Estimate(cost.seconds, 3), reasons or "-"


def _reference(potentials: Sequence[PotentialResults]) -> str:
    return source_of_reference(set().union(*(potential.functionals for potential in potentials)))


def _protocols(potentials: Sequence[PotentialResults]) -> tuple[str, ...]:
    """A line for each protocol, naming those that kept to it; when all did, it needs no names."""
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
        *(f"Not alike: {line}." for line in differences(potentials)),
        *([f"(paper): {published.CITATION}."] if with_paper else []),
    )
