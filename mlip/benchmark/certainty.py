"""Does a potential know when it is wrong? Its standard deviations beside the errors of its relaxations.

- AUROC: the probability that a material with a large error has a larger standard deviation than one with a small error;
  0.5 by chance. Errors are large above 0.1 eV/atom for energies, ranked by the standard deviation of the energy per
  atom, and above 10 % for volumes, ranked by that of the volume.
- Coverage: the share of the energies within their 90 % interval.
- Trusted and doubted: materials without and with `do_not_trust`, with the share of each whose energy error is large.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from mlip.benchmark.error_summary import Record, by_dimensionality, energy_error, relative_volume_error
from mlip.benchmark.intervals import RESAMPLES, SEED, Interval, percentiles, wilson
from mlip.benchmark.results import PotentialResults
from mlip.benchmark.tables import Cell, Estimate, Table
from mlip.uncertainty.calibration import WIDTH

ENERGY_OFF = 0.1
"""Absolute energy error above which an energy counts as off, eV/atom."""
VOLUME_OFF = 10.0
"""Absolute relative volume error above which a volume counts as off, %."""


@dataclass(frozen=True)
class Judged:
    """The relaxed materials whose errors and standard deviations are known, as columns."""

    energy_error: Float[np.ndarray, " k"]
    """Energy error, potential minus DFT, eV/atom."""
    energy_std: Float[np.ndarray, " k"]
    """Predicted standard deviation of the energy, eV/atom."""
    volume_error: Float[np.ndarray, " k"]
    """Relative volume error, (potential - DFT) / DFT, %."""
    volume_std: Float[np.ndarray, " k"]
    """Predicted relative standard deviation of the volume, %; NaN where unknown."""
    is_doubted: Bool[np.ndarray, " k"]
    is_calibrated: bool

    @classmethod
    def of(cls, records: Sequence[Record]) -> "Judged":
        known = [r for r in records if "energy_std" in r and np.isfinite(energy_error(r))]
        return cls(
            np.array([energy_error(r) for r in known]),
            np.array([r["energy_std"] / r["n_atoms"] for r in known]),
            np.array([relative_volume_error(r) for r in known]),
            np.array([100 * r.get("relative_volume_std", np.nan) for r in known]),
            np.array([r.get("do_not_trust", False) for r in known], bool),
            any("do_not_trust" in r for r in known),
        )

    def __len__(self) -> int:
        return len(self.energy_error)

    @property
    def is_energy_off(self) -> Bool[np.ndarray, " k"]:
        return np.abs(self.energy_error) > ENERGY_OFF

    @property
    def is_volume_off(self) -> Bool[np.ndarray, " k"]:
        return np.abs(self.volume_error) > VOLUME_OFF

    @property
    def is_covered(self) -> Bool[np.ndarray, " k"]:
        """Whether each energy error lies within the 90 % interval."""
        return np.abs(self.energy_error) <= WIDTH * self.energy_std


def knows_certainty(potential: PotentialResults) -> bool:
    """Whether any of the potential's records has a standard deviation."""
    return any("energy_std" in record for record in potential.records)


def certainty_tables(potentials: Sequence[PotentialResults]) -> tuple[Table, ...]:
    """The certainty table of the potentials whose records have standard deviations; empty if there are none."""
    sure = [potential for potential in potentials if knows_certainty(potential)]
    if not sure:
        return ()
    rows = [
        (f"{dimensionality}D", potential.name, *_cells(Judged.of(records)))
        for potential in sure
        for dimensionality, records in by_dimensionality(potential.records).items()
    ]
    columns = (
        "",
        "potential",
        "AUROC energy",
        "energies off",
        "AUROC volume",
        "volumes off",
        "in 90 % interval %",
        "doubted %",
        "off, doubted %",
        "off, trusted %",
        "materials",
    )
    notes = (
        f"Off: energies by more than {ENERGY_OFF:g} eV/atom, volumes by more than {VOLUME_OFF:g} %, potential against "
        "reference. Judged by the standard deviations of energy per atom and of volume; 'doubted' have do_not_trust. "
        "Shares 'off' are of energies.",
        f"Intervals: 95 %; AUROC by a bootstrap over materials ({RESAMPLES} samples, fixed seed), shares by Wilson's "
        "score.",
    )
    ordered = sorted(rows, key=lambda row: row[0], reverse=True)  # stable sort: potentials keep their order
    return (Table("certainty", "What the potential knows of its errors", columns, tuple(ordered), notes),)


def _cells(judged: Judged) -> tuple[Cell, ...]:
    has_volume = np.isfinite(judged.volume_std)
    doubted, trusted = judged.is_doubted, ~judged.is_doubted
    nothing = Estimate(float("nan"), 1)
    return (
        _auroc_estimate(judged.is_energy_off, judged.energy_std),
        str(int(judged.is_energy_off.sum())),
        _auroc_estimate(judged.is_volume_off[has_volume], judged.volume_std[has_volume]),
        str(int(judged.is_volume_off.sum())),
        _share(judged.is_covered),
        _share(doubted) if judged.is_calibrated else nothing,
        _share(judged.is_energy_off[doubted]) if judged.is_calibrated else nothing,
        _share(judged.is_energy_off[trusted]) if judged.is_calibrated else nothing,
        str(len(judged)),
    )


def auroc(is_off: Bool[np.ndarray, " k"], score: Float[np.ndarray, " k"]) -> float:
    """Area under the receiver operating characteristic, from ranks (Mann and Whitney); NaN if `is_off` is constant."""
    from scipy.stats import rankdata

    n_off = int(is_off.sum())
    n_right = len(is_off) - n_off
    if not n_off or not n_right:
        return float("nan")
    return float((rankdata(score)[is_off].sum() - n_off * (n_off + 1) / 2) / (n_off * n_right))


def _auroc_estimate(is_off: Bool[np.ndarray, " k"], score: Float[np.ndarray, " k"]) -> Estimate:
    return Estimate(auroc(is_off, score), 3, _bootstrap(auroc, is_off, score))


def _bootstrap(measure: Callable[..., float], *columns: np.ndarray) -> Interval:
    generator, n = np.random.default_rng(SEED), len(columns[0])
    drawn = (generator.integers(n, size=n) for _ in range(RESAMPLES if n else 0))
    return percentiles([measure(*(column[places] for column in columns)) for places in drawn])


def _share(chosen: Bool[np.ndarray, " k"]) -> Estimate:
    percent = 100 * float(np.mean(chosen)) if len(chosen) else float("nan")
    return Estimate(percent, 1, wilson(percent, len(chosen)))
