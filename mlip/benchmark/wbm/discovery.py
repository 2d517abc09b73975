"""Classification of stable crystals with the metrics of Matbench Discovery (janosh/matbench-discovery,
metrics/discovery.py).

The hull is DFT's: a material's predicted distance is its DFT distance plus the error of its formation energy. A
material is stable at or below the hull. A prediction that is missing, or off by more than 5 eV/atom, counts as
"unstable" and is left out of MAE, RMSE and R2. Energies are rounded to meV before anything is computed.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

THRESHOLD = 0.0
"""Distance to the hull, eV/atom, up to which a material is stable."""
MAX_ERROR = 5.0
"""Error of a formation energy, eV/atom, beyond which a prediction counts as missing."""
_DIGITS = 3


@dataclass(frozen=True)
class DiscoveryMetrics:
    """The metrics of one subset, under the publishers' names; NaN where undefined or without hull distances."""

    F1: float
    DAF: float
    """Discovery acceleration factor: precision divided by the share of stable materials."""
    Precision: float
    Recall: float
    Accuracy: float
    TP: int
    FP: int
    TN: int
    FN: int
    MAE: float
    """Mean absolute error of the formation energy, eV/atom."""
    RMSE: float
    """Root mean square error of the formation energy, eV/atom."""
    R2: float
    missing_preds: int

    def as_record(self) -> dict[str, Any]:
        """JSON-serializable metrics, rounded to three decimals as published."""
        values = ((name, round(value, 3) if np.isfinite(value) else None) for name, value in asdict(self).items())
        return dict(values)


def discovery_metrics(
    e_above_hull: Float[np.ndarray, " n"],
    e_form: Float[np.ndarray, " n"],
    predicted: Float[np.ndarray, " n"],
    *,
    prevalence: float | None = None,
) -> DiscoveryMetrics:
    """Metrics of predicted formation energies.

    Args:
        e_above_hull: DFT distances to the hull, eV/atom; NaN where unknown: such materials are left out of
            classification and R2.
        e_form: DFT formation energies, eV/atom.
        predicted: predicted formation energies, eV/atom; NaN where missing.
        prevalence: share of stable materials by which precision is divided; by default that of these materials.
    """
    usable = np.where(np.abs(predicted - e_form) > MAX_ERROR, np.nan, predicted).round(_DIGITS)
    truth, form = e_above_hull.round(_DIGITS), e_form.round(_DIGITS)
    found = truth + usable - form  # same order of operations as the publishers': rounding decides at the threshold
    is_stable, is_called_stable = truth <= THRESHOLD, found <= THRESHOLD
    judged = np.isfinite(truth)
    tp, fn, fp, tn = (
        int((judged & a & b).sum())
        for a, b in (
            (is_stable, is_called_stable),
            (is_stable, ~is_called_stable),
            (~is_stable, is_called_stable),
            (~is_stable, ~is_called_stable),
        )
    )
    precision, recall = _ratio(tp, tp + fp), _ratio(tp, tp + fn)
    prevalence = _ratio(tp + fn, int(judged.sum())) if prevalence is None else prevalence
    both = np.isfinite(usable) & np.isfinite(form)
    errors = (usable - form)[both]
    return DiscoveryMetrics(
        F1=_ratio(2 * precision * recall, precision + recall),
        DAF=_ratio(precision, prevalence),
        Precision=precision,
        Recall=recall,
        Accuracy=_ratio(tp + tn, int(judged.sum())),
        TP=tp,
        FP=fp,
        TN=tn,
        FN=fn,
        MAE=float(np.abs(errors).mean()) if len(errors) else float("nan"),
        RMSE=float(np.sqrt((errors**2).mean())) if len(errors) else float("nan"),
        R2=_r2(truth, found),
        missing_preds=int((~np.isfinite(usable)).sum()),
    )


def share_of_stable(e_above_hull: Float[np.ndarray, " n"], chosen: Bool[np.ndarray, " n"]) -> float:
    """Share of stable materials among the chosen ones, by hull distances that are not rounded, eV/atom."""
    distances = e_above_hull[chosen & np.isfinite(e_above_hull)]
    return _ratio(int((distances <= THRESHOLD).sum()), len(distances))


def _r2(truth: Float[np.ndarray, " n"], found: Float[np.ndarray, " n"]) -> float:
    both = np.isfinite(truth) & np.isfinite(found)
    spread = ((truth[both] - truth[both].mean()) ** 2).sum() if both.sum() > 1 else 0.0
    return float(1 - ((truth - found)[both] ** 2).sum() / spread) if spread else float("nan")


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole > 0 else float("nan")
