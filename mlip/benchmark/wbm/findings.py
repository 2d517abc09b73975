"""All materials of a run as columns, and their metrics. Memory is a few numbers for each material."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from mlip.benchmark.wbm.discovery import DiscoveryMetrics, discovery_metrics, share_of_stable
from mlip.benchmark.wbm.geometry import SYMPRECS, GeometryMetrics, geometry_metrics
from mlip.benchmark.wbm.submission import symmetry_change
from mlip.data.wbm_files import UNIQUE_PROTOTYPE

ALL, UNIQUE = "full_test_set", "unique_prototypes"
"""The publishers' names of the subsets."""
_COLUMNS = ("e_form", "dft_e_form", "dft_e_above_hull", UNIQUE_PROTOTYPE, "energy_error", "seconds", "n_steps")


@dataclass(frozen=True)
class Findings:
    """The materials of a run, in the order of its parts."""

    columns: dict[str, np.ndarray]
    """Columns by their names in the rows; NaN where a value is unknown."""
    rmsd: np.ndarray
    """RMSD of the submitted structures from DFT's; NaN where structures do not match."""
    changes: dict[str, np.ndarray]
    """By symprec, shape (n, 2): changes of space group number and of number of operations of the submitted structures;
    NaN where unknown."""
    reasons: dict[str, int]
    """Reason why relaxations ended -> number, the most frequent first."""
    messages: dict[str, int] = field(default_factory=dict)
    """The ten most frequent messages -> number."""

    @classmethod
    def of(cls, rows: Iterable[Mapping[str, Any]]) -> "Findings":
        """Read rows one at a time into columns."""
        columns: dict[str, list[float]] = {name: [] for name in _COLUMNS}
        rmsd: list[float] = []
        changes: dict[str, list[tuple[float, float]]] = {name: [] for name in SYMPRECS}
        reasons: Counter[str] = Counter()
        messages: Counter[str] = Counter()
        for row in rows:
            reasons[row["reason"]] += 1
            for name, values in columns.items():
                values.append(_number(row.get(name)))
            if "symmetry" in row:
                rmsd.append(_number(row["rmsd"]))
                for name, found in changes.items():
                    found.append(symmetry_change(row, name) or (np.nan, np.nan))
            if row["message"]:
                messages[row["message"]] += 1
        return cls(
            {name: np.array(values, float) for name, values in columns.items()},
            np.array(rmsd, float),
            {name: np.array(found, float).reshape(-1, 2) for name, found in changes.items()},
            dict(reasons.most_common()),
            dict(messages.most_common(10)),
        )

    def __len__(self) -> int:
        return len(self.columns["e_form"])

    @property
    def n_submitted(self) -> int:
        return len(self.rmsd)

    @property
    def n_unmatched(self) -> int:
        return int(np.isnan(self.rmsd).sum())

    @property
    def is_hull_known(self) -> bool:
        """Whether any distance to the hull is known."""
        return bool(np.isfinite(self.columns["dft_e_above_hull"]).any())

    @property
    def geometry(self) -> dict[str, GeometryMetrics]:
        """Metrics of the geometries, by symprec."""
        return {name: geometry_metrics(self.rmsd, *found.T) for name, found in self.changes.items()}

    def geometry_records(self) -> dict[str, dict[str, Any]]:
        """`geometry`, JSON-able: rounded to four digits, None for what is not known."""
        return {name: _rounded(asdict(metrics)) for name, metrics in self.geometry.items()}

    @property
    def discovery(self) -> dict[str, DiscoveryMetrics]:
        """Metrics of stability, by subset; unique prototypes only if they are marked."""
        names = ("dft_e_above_hull", "dft_e_form", "e_form")
        distance, form, predicted = (self.columns[name] for name in names)
        found = {ALL: discovery_metrics(distance, form, predicted)}
        chosen = self.columns[UNIQUE_PROTOTYPE] == 1
        if chosen.any():
            prevalence = share_of_stable(distance, chosen)
            subset = (values[chosen] for values in (distance, form, predicted))
            found[UNIQUE] = discovery_metrics(*subset, prevalence=prevalence)
        return found

    def metrics(self) -> dict[str, Any]:
        """The metrics in the form of a submission; stability only where distances to the hull are known."""
        geometry = {f"symprec={name}": found for name, found in self.geometry_records().items()}
        discovery = {name: found.as_record() for name, found in self.discovery.items()} if self.is_hull_known else {}
        return {"geo_opt": geometry, "discovery": discovery}


def _rounded(record: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: value if isinstance(value, int) else (round(value, 4) if np.isfinite(value) else None)
        for name, value in record.items()
    }


def _number(value: Any) -> float:
    return np.nan if value is None else float(value)
