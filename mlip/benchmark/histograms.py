"""Histograms of relative volume errors and of energy errors, as Figure 7 of "Improving machine-learning models in
materials science through large datasets": a panel for each dimensionality, a line for each potential. Every relaxation
that did not fail is counted; outliers are in the outermost bins."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from mlip.benchmark.error_summary import Record, energy_error, relative_volume_error
from mlip.benchmark.results import PotentialResults
from mlip.report.axis import Axis
from mlip.report.bins import Bins
from mlip.report.chart import Chart, Series, side_by_side
from mlip.report.picture import save_charts

_BINS = 41
"""Number of bins between the two outermost ones."""
_SHARE = "materials, %"
_SIGN = "(potential - reference)"


@dataclass(frozen=True)
class ErrorKind:
    name: str
    label: str
    """Label of the axis, with the unit."""
    of: Callable[[Record], float]
    """Error of a record in the unit of `label`; NaN for a failed relaxation."""

    def charts(self, potentials: Sequence[PotentialResults]) -> list[Chart]:
        """One chart for each dimensionality, in descending order."""
        dimensionalities = sorted({r["dimensionality"] for p in potentials for r in p.records}, reverse=True)
        return [self._chart(potentials, dimensionality) for dimensionality in dimensionalities]

    def _chart(self, potentials: Sequence[PotentialResults], dimensionality: int) -> Chart:
        errors = {p.name: self._errors(p.records, dimensionality) for p in potentials}
        bins = Bins.around_zero(errors.values(), _BINS)
        series = [
            Series(f"{name} ({bins.count(values)})", bins.middles, bins.shares(values), "bars", color)
            for color, (name, values) in enumerate(errors.items(), 1)
        ]
        highest = max(one.y.max() for one in series) or 1.0
        x = Axis(f"{self.label} {_SIGN}", bins.edges[0], bins.edges[-1])
        caption = f"{self.name} errors, {dimensionality}D ({bins.note})"
        return Chart(series, x, Axis(_SHARE, 0.0, 1.05 * highest), caption)

    def _errors(self, records: list[Record], dimensionality: int) -> Float[np.ndarray, " k"]:
        """Errors of all relaxations that did not fail, outliers included."""
        errors = np.array([self.of(r) for r in records if r["dimensionality"] == dimensionality], dtype=np.float64)
        return errors[np.isfinite(errors)]


KINDS = (
    ErrorKind("volume", "relative volume error, %", relative_volume_error),
    ErrorKind("energy", "energy error, eV/atom", energy_error),
)


def plot_errors(potentials: Sequence[PotentialResults], folder: Path) -> list[Path]:
    """Write volume_errors.png and energy_errors.png to `folder`, and return their paths."""
    paths = [folder / f"{kind.name}_errors.png" for kind in KINDS]
    for kind, path in zip(KINDS, paths, strict=True):
        save_charts(kind.charts(potentials), path)
    return paths


def error_charts(potentials: Sequence[PotentialResults]) -> str:
    """HTML of the error histograms for a report."""
    return "".join(side_by_side(kind.charts(potentials)) for kind in KINDS)
