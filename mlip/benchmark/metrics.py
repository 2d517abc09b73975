"""Errors of relaxed volumes and energies, as counted in the tables of "Improving machine-learning models in materials
science through large datasets": failed and outlying relaxations apart, averages over the rest."""

from dataclasses import asdict, dataclass

import numpy as np
from jaxtyping import Float

VOLUME_OUTLIER = 1.0
"""Relative volume error beyond which a relaxation is an outlier."""
ENERGY_OUTLIER = 1.5
"""Absolute energy error beyond which a relaxation is an outlier, eV/atom."""
CONVENTIONS = {
    "error": "potential - reference",
    "percentage": "error / reference",
    "volume_outlier_percent": 100 * VOLUME_OUTLIER,
    "energy_outlier_ev_per_atom": ENERGY_OUTLIER,
    "averages": "without failures and outliers",
}
"""Conventions that a program must know to read an `ErrorSummary`."""


@dataclass(frozen=True)
class ErrorSummary:
    """One row of Table 3 or 4. Errors are potential minus reference. Averages leave out failed relaxations and
    outliers; they are NaN when nothing is left."""

    n: int
    """Number of relaxations with a reference value."""
    n_averaged: int
    """Number of relaxations that neither failed nor are outliers."""
    failed_percent: float
    """Share of all materials that failed, %."""
    outlier_percent: float
    """Share of outliers among the materials that did not fail, %."""
    mean_error: float
    """Mean signed error, A^3/atom or eV/atom."""
    mpe: float
    """Mean percentage error relative to the reference; for a negative reference energy the sign is that of the energy
    error reversed."""
    mape: float
    """Mean absolute percentage error."""
    mae: float
    """Mean absolute error without outliers, A^3/atom or eV/atom."""

    def as_record(self) -> dict[str, float | int | None]:
        return {key: None if np.isnan(value) else value for key, value in asdict(self).items()}


@dataclass(frozen=True)
class EnergyDistribution:
    """One row of Table 6. Outliers are included unless the name says otherwise; values are NaN when nothing is left."""

    n: int
    """Number of relaxations with a reference energy."""
    n_averaged: int
    """Number of relaxations that did not fail."""
    failed_percent: float
    """Share of all materials that failed, %."""
    mae: float
    """Mean absolute error with outliers, eV/atom."""
    rmse: float
    """Root mean square error with outliers, eV/atom."""
    outlier_percent: float
    """Share of outliers among the materials that did not fail, %."""
    rmse_without_outliers: float
    """Root mean square error without outliers, eV/atom."""
    p90: float
    """90th percentile of the absolute error, eV/atom."""
    median: float
    """Median of the absolute error, eV/atom."""


def volume_errors(
    predicted: Float[np.ndarray, " k"], reference: Float[np.ndarray, " k"], n_atoms: Float[np.ndarray, " k"]
) -> ErrorSummary:
    """Errors of effective volumes, A^3 per cell. NaN in `predicted` is a failure; |dV| > 100 % is an outlier."""
    is_outlier = np.abs(predicted - reference) > VOLUME_OUTLIER * reference
    return _summarize(predicted / n_atoms, reference / n_atoms, is_outlier)


def energy_errors(
    predicted: Float[np.ndarray, " k"], reference: Float[np.ndarray, " k"], n_atoms: Float[np.ndarray, " k"]
) -> ErrorSummary:
    """Errors of total energies, eV per cell. NaN in `predicted` is a failure; |dE| > 1.5 eV/atom is an outlier."""
    is_outlier = np.abs(predicted - reference) > ENERGY_OUTLIER * n_atoms
    return _summarize(predicted / n_atoms, reference / n_atoms, is_outlier)


def energy_distribution(
    predicted: Float[np.ndarray, " k"], reference: Float[np.ndarray, " k"], n_atoms: Float[np.ndarray, " k"]
) -> EnergyDistribution:
    """Errors of total energies, eV per cell, in the measures of Table 6. NaN in `predicted` is a failure."""
    error = np.abs(predicted - reference) / n_atoms
    is_known, is_relaxed = np.isfinite(reference), np.isfinite(error)
    error = error[is_relaxed]
    is_outlier = error > ENERGY_OUTLIER
    return EnergyDistribution(
        n=int(is_known.sum()),
        n_averaged=len(error),
        failed_percent=_percent(is_known & ~is_relaxed, is_known),
        mae=_mean(error),
        rmse=_rms(error),
        outlier_percent=_percent(is_outlier, np.ones_like(is_outlier)),
        rmse_without_outliers=_rms(error[~is_outlier]),
        p90=float(np.quantile(error, 0.9)) if len(error) else float("nan"),
        median=float(np.median(error)) if len(error) else float("nan"),
    )


def _summarize(predicted, reference, is_outlier) -> ErrorSummary:
    is_known = np.isfinite(reference)
    has_failed = is_known & ~np.isfinite(predicted)
    is_relaxed = is_known & ~has_failed
    counts = is_relaxed & ~is_outlier
    error = (predicted - reference)[counts]
    relative = 100 * error / reference[counts]
    return ErrorSummary(
        n=int(is_known.sum()),
        n_averaged=int(counts.sum()),
        failed_percent=_percent(has_failed, is_known),
        outlier_percent=_percent(is_outlier & is_relaxed, is_relaxed),
        mean_error=_mean(error),
        mpe=_mean(relative),
        mape=_mean(np.abs(relative)),
        mae=_mean(np.abs(error)),
    )


def _percent(part, whole) -> float:
    return 100 * float(part.sum()) / float(whole.sum()) if whole.any() else float("nan")


def _mean(values) -> float:
    return float(np.mean(values)) if len(values) else float("nan")


def _rms(values) -> float:
    return float(np.sqrt(np.mean(values**2))) if len(values) else float("nan")
