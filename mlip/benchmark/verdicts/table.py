"""Counts of failed relaxations and their reasons by each verdict: ours, the authors', and the authors' without the rule
that a structure is one piece."""

from collections import Counter
from collections.abc import Sequence

from mlip.benchmark.error_summary import Record, by_dimensionality
from mlip.benchmark.intervals import wilson
from mlip.benchmark.results import PotentialResults
from mlip.benchmark.tables import Cell, Estimate, Table
from mlip.benchmark.verdicts import authors

_COLUMNS = (
    "",
    "potential",
    "materials",
    "failed, ours %",
    "failed, authors %",
    "without one-piece rule %",
    "rules broken",
    "rounds",
)
_NOTES = (
    "Ours: a guard ended the relaxation (collapsed, exploded, isolated, non_finite) or it could not be run (error); "
    "what uses up the steps is relaxed, and not converged. Authors: the rules of the group's public relaxation code, "
    "mlip/benchmark/verdicts/authors.py. A material may break several rules. Intervals: 95 %, Wilson's score.",
)


def verdict_table(potentials: Sequence[PotentialResults]) -> tuple[Table, ...]:
    """The verdict table of the potentials whose records have the authors' verdict; empty if there are none."""
    judged = [potential for potential in potentials if "authors" in potential.verdicts]
    if not judged:
        return ()
    rows = [
        (f"{dimensionality}D", potential.name, *_cells([r for r in records if "authors" in r.get("verdicts", ())]))
        for potential in judged
        for dimensionality, records in by_dimensionality(potential.records).items()
    ]
    ordered = sorted(rows, key=lambda row: row[0], reverse=True)  # stable sort: potentials keep their order
    return (Table("verdicts", "Failed relaxations, by verdict", _COLUMNS, tuple(ordered), _NOTES),)


def _cells(records: list[Record]) -> tuple[Cell, ...]:
    verdicts = [record["verdicts"]["authors"] for record in records]
    broken = Counter(rule for verdict in verdicts for rule in verdict["rules"])
    told = ", ".join(f"{count} {rule}" for rule, count in broken.most_common())
    rounds = sum(verdict["rounds"] for verdict in verdicts) / max(len(verdicts), 1)
    return (
        str(len(records)),
        _share([record["volume"] is None for record in records]),
        _share([verdict["failed"] for verdict in verdicts]),
        _share([any(rule != authors.APART for rule in verdict["rules"]) for verdict in verdicts]),
        told or "-",
        Estimate(rounds, 2),
    )


def _share(failed: list[bool]) -> Estimate:
    percent = 100 * sum(failed) / len(failed) if failed else float("nan")
    return Estimate(percent, 2, wilson(percent, len(failed)))
