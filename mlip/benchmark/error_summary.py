"""Summaries of relaxation records for the tables: errors, their intervals, cost and reasons, by dimensionality."""

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from mlip.benchmark.intervals import Interval, intervals_95
from mlip.benchmark.metrics import (
    EnergyDistribution,
    ErrorSummary,
    energy_distribution,
    energy_errors,
    volume_errors,
)

Record = dict[str, Any]


@dataclass(frozen=True)
class Cost:
    """Mean cost of a relaxation; NaN where the records do not tell it."""

    steps: float
    seconds: float
    """Mean device time, s, without compilation, over all materials: batches mix crystals, layers and chains."""
    reasons: dict[str, int]
    """Number of relaxations that ended for each reason, the most frequent first."""


@dataclass(frozen=True)
class DimensionalitySummary:
    """Errors and cost of the relaxations of one dimensionality. Keys of the intervals (95 %) are field names."""

    dimensionality: int
    volume: ErrorSummary
    volume_intervals: dict[str, Interval]
    energy: ErrorSummary
    energy_intervals: dict[str, Interval]
    cost: Cost

    def as_record(self) -> dict[str, Any]:
        """JSON-serializable summary; NaN becomes None."""
        return {
            "volume": {**self.volume.as_record(), "intervals": _without_nan(self.volume_intervals)},
            "energy": {**self.energy.as_record(), "intervals": _without_nan(self.energy_intervals)},
            "cost": {name: None if value != value else value for name, value in asdict(self.cost).items()},
        }


@dataclass(frozen=True)
class DistributionSummary:
    """Errors and cost of the relaxations of one dimensionality, in the measures of Table 6."""

    dimensionality: int
    energy: EnergyDistribution
    energy_intervals: dict[str, Interval]
    volume_mae: float
    """Mean absolute error of the volume, A^3/atom, over all relaxations that did not fail."""
    cost: Cost


class Columns(NamedTuple):
    """Records as columns; volumes, A^3, and energies, eV, are per cell. NaN: failed relaxation or unknown value."""

    n_atoms: Float[np.ndarray, " k"]
    volume: Float[np.ndarray, " k"]
    dft_volume: Float[np.ndarray, " k"]
    energy: Float[np.ndarray, " k"]
    dft_energy: Float[np.ndarray, " k"]

    @classmethod
    def of(cls, records: list[Record]) -> "Columns":
        columns = cls(
            *(
                np.array([np.nan if r[name] is None else r[name] for r in records], dtype=np.float64)
                for name in cls._fields
            )
        )
        columns.energy[np.isnan(columns.volume)] = np.nan  # failed relaxations have no relaxed energy either
        return columns


def summarize(records: list[Record]) -> list[DimensionalitySummary]:
    """Rows of the volume and energy tables, 3D first."""
    summaries = []
    for dimensionality, chosen in by_dimensionality(records).items():
        columns = Columns.of(chosen)
        volumes = columns.volume, columns.dft_volume, columns.n_atoms
        energies = columns.energy, columns.dft_energy, columns.n_atoms
        summaries.append(
            DimensionalitySummary(
                dimensionality,
                volume_errors(*volumes),
                intervals_95(volume_errors, *volumes),
                energy_errors(*energies),
                intervals_95(energy_errors, *energies),
                cost_of(chosen, records),
            )
        )
    return summaries


def summarize_distribution(records: list[Record]) -> list[DistributionSummary]:
    """Rows of Table 6, 3D first."""
    summaries = []
    for dimensionality, chosen in by_dimensionality(records).items():
        columns = Columns.of(chosen)
        energies = columns.energy, columns.dft_energy, columns.n_atoms
        volume_error = np.abs(columns.volume - columns.dft_volume) / columns.n_atoms
        relaxed = volume_error[np.isfinite(volume_error)]
        summaries.append(
            DistributionSummary(
                dimensionality,
                energy_distribution(*energies),
                intervals_95(energy_distribution, *energies),
                float(relaxed.mean()) if len(relaxed) else float("nan"),
                cost_of(chosen, records),
            )
        )
    return summaries


def by_dimensionality(records: list[Record]) -> dict[int, list[Record]]:
    """Records grouped by dimensionality, 3D first."""
    return {
        dimensionality: [r for r in records if r["dimensionality"] == dimensionality]
        for dimensionality in sorted({r["dimensionality"] for r in records}, reverse=True)
    }


def cost_of(chosen: list[Record], records: list[Record]) -> Cost:
    """Mean cost of the relaxations `chosen`; seconds are averaged over all `records`, and steps over the chosen
    relaxations that could be started."""
    steps = [r["n_steps"] for r in chosen if r["reason"] != "error"]
    seconds = [r.get("seconds") for r in records]
    return Cost(
        steps=float(np.mean(steps)) if steps else float("nan"),
        seconds=float("nan") if None in seconds else float(np.mean(seconds)),
        reasons=dict(Counter(r["reason"] for r in chosen).most_common()),
    )


def relative_volume_error(record: Record) -> float:
    """Relative volume error, (potential - DFT) / DFT, %; NaN for failed relaxations."""
    if record["volume"] is None:
        return float("nan")
    return 100 * (record["volume"] / record["dft_volume"] - 1)


def energy_error(record: Record) -> float:
    """Energy error, potential minus DFT, eV/atom; NaN for failed relaxations and without a reference."""
    if record["volume"] is None or record["energy"] is None or record["dft_energy"] is None:
        return float("nan")
    return (record["energy"] - record["dft_energy"]) / record["n_atoms"]


def _without_nan(intervals: dict[str, Interval]) -> dict[str, list[float] | None]:
    return {name: None if np.isnan(interval.low) else list(interval) for name, interval in intervals.items()}
