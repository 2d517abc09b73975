"""Results files of several potentials: which potential each belongs to, and whether they can be compared."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property, reduce
from operator import and_
from pathlib import Path
from typing import Any

from mlip.benchmark.error_summary import (
    DimensionalitySummary,
    DistributionSummary,
    by_dimensionality,
    summarize,
    summarize_distribution,
)
from mlip.errors import MlipError
from mlip.functionals import UNKNOWN, check_functionals, join_functionals
from mlip.relaxation.results_file import read_results

_SETTINGS = ("start", "symmetry", "fmax", "steps", "dtype")
"""Settings of a header that must agree for two potentials to be compared."""


@dataclass
class PotentialResults:
    """All relaxations with one potential, from one or several results files (crystals, layers, chains)."""

    name: str
    sha256: str
    headers: list[dict[str, Any]] = field(default_factory=list)
    records: list[dict[str, Any]] = field(default_factory=list)

    @property
    def functionals(self) -> set[str]:
        """Functionals of the reference data."""
        return {record["functional"] for record in self.records}

    @property
    def potential_functional(self) -> str:
        """Functional of the potential; "unknown" where records of an early mlip do not state it."""
        return join_functionals(sorted({record.get("potential_functional", UNKNOWN) for record in self.records}))

    @property
    def functional_note(self) -> str | None:
        """A warning if potential and references are of different or unknown functionals; else None."""
        return check_functionals(
            self.potential_functional, self.functionals, of_ours=self.name, of_theirs="its references", allowed=True
        )

    @cached_property
    def summaries(self) -> list[DimensionalitySummary]:
        """Summaries by dimensionality, for Tables 3 and 4."""
        return summarize(self.records)

    @cached_property
    def distributions(self) -> list[DistributionSummary]:
        """Summaries by dimensionality, for Table 6."""
        return summarize_distribution(self.records)

    @property
    def verdicts(self) -> list[str]:
        """Names of the verdicts in the records beside our own."""
        return list(dict.fromkeys(name for record in self.records for name in record.get("verdicts", ())))

    def under(self, verdict: str) -> "PotentialResults":
        """The same relaxations, with those that the verdict fails counted as failed."""
        records = [
            record | {"volume": None} if record.get("verdicts", {}).get(verdict, {}).get("failed") else record
            for record in self.records
        ]
        return PotentialResults(f"{self.name}, {verdict}' verdict", self.sha256, self.headers, records)

    def setting(self, key: str) -> str:
        """Value of a setting in the header; all distinct values where headers differ."""
        return ", ".join(dict.fromkeys(str(header.get(key, "-")) for header in self.headers))


def load_results(sources: Sequence[str]) -> list[PotentialResults]:
    """Read results files, in their order.

    Args:
        sources: each a results.jsonl or its folder, or NAME=path of either. Files with one name belong to one
            potential.

    Raises:
        MlipError: a file is missing, damaged or of another benchmark, one name has two potentials, or a material occurs
            twice.
    """
    found: dict[str, PotentialResults] = {}
    for source in sources:
        name, path = name_and_path(source)
        path = path / "results.jsonl" if path.is_dir() else path
        header, records = read_results(path)
        if header.get("benchmark") != "relaxation":
            raise MlipError("holds no results of relaxations", where=str(path))
        if not records:
            raise MlipError("has no results yet", where=str(path))
        potential = header["potential"]
        name = name or row_name(potential)
        results = found.setdefault(name, PotentialResults(name, potential["sha256"]))
        if results.sha256 != potential["sha256"]:
            raise MlipError(f"two potentials are called '{name}'", where=str(path), fix="name them: NAME=PATH")
        _check_new(results, header, records, path)
        results.headers.append(header)
        results.records += records
    return list(found.values())


def in_all_verdicts(potentials: Sequence[PotentialResults]) -> list[PotentialResults]:
    """Each potential, followed by a copy under each further verdict in its records."""
    return [
        results
        for potential in potentials
        for results in (potential, *(potential.under(verdict) for verdict in potential.verdicts))
    ]


def row_name(potential: dict[str, str]) -> str:
    """Name of a table row, from the potential's record: the name of a calculator, or the stem of a file name."""
    return potential["name"] if "ase" in potential else Path(potential["name"]).stem


def name_and_path(source: str) -> tuple[str, Path]:
    """Split NAME=PATH into name and path; without a name, or if a file of that name exists, the name is empty."""
    name, equals, path = source.partition("=")
    return (name, Path(path)) if equals and not Path(source).exists() else ("", Path(source))


def _check_new(results: PotentialResults, header: dict[str, Any], records: list[dict[str, Any]], path: Path) -> None:
    for other in results.headers:
        if _content(other) == _content(header):
            raise MlipError(f"results of '{results.name}' on the same store a second time", where=str(path))
    # Ids may repeat within one store, where materials also have numbers, but not across two stores.
    counts = Counter((record["id"], record.get("material")) for record in records)
    before = {record["id"] for record in results.records}
    if twice := [name for (name, _), count in counts.items() if name in before or count > 1]:
        told = ", ".join(twice[:3]) + (", ..." if len(twice) > 3 else "")
        raise MlipError(f"results of '{results.name}' have materials twice: {told}", where=str(path))


def _content(header: dict[str, Any]) -> Any:
    """Identity of a results file's store: the hash of its content, or the store's entry in early files."""
    return header["store"].get("content_sha256") or header["store"]


def differences(potentials: Sequence[PotentialResults]) -> list[str]:
    """Reasons why the rows of these potentials cannot be compared, one line each; empty if there are none."""
    lines = []
    for key in _SETTINGS:
        values = {potential.name: potential.setting(key) for potential in potentials}
        if len(set(values.values())) > 1:
            lines.append(f"{key}: " + ", ".join(f"{value} for {name}" for name, value in values.items()))
    ids: dict[int, dict[str, Counter[str]]] = {}
    for potential in potentials:
        for dimensionality, records in by_dimensionality(potential.records).items():
            ids.setdefault(dimensionality, {})[potential.name] = Counter(r["id"] for r in records)
    for dimensionality, of_potential in sorted(ids.items(), reverse=True):
        first, *others = of_potential.values()
        if any(materials != first for materials in others):
            shared = reduce(and_, others, first).total()
            counts = ", ".join(f"{materials.total()} for {name}" for name, materials in of_potential.items())
            lines.append(f"not the same {dimensionality}D materials: {counts}; {shared} in common")
    return lines


def source_of_reference(functionals: set[str]) -> str:
    """Name of the reference from its functionals: "DFT (...)", except for a surrogate, whose name contains
    "surrogate"."""
    names = ", ".join(sorted(functionals))
    return names if "surrogate" in names.lower() else f"DFT ({names})"
