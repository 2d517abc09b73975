"""Figure 7 of "Improving machine-learning models in materials science through large datasets": histograms of the
relative volume error and of the energy error, a panel for each dimensionality, a line for each potential. Every
relaxation that did not fail is in a bin, outliers in the outermost.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mlip.benchmark.error_summary import Record, energy_error, relative_volume_error
from mlip.benchmark.results import PotentialResults
from mlip.report.axis import Axis
from mlip.report.bins import Bins
from mlip.report.chart import Series, chart, side_by_side

_BINS = 41
"""Between the two outermost bins."""
_SHARE = "materials, %"
_SIGN = "(potential - reference)"


@dataclass(frozen=True)
class Distribution:
    """How an error is distributed among the materials of one dimensionality that were relaxed."""

    dimensionality: int
    bins: Bins
    """In the error's unit."""
    shares: dict[str, Float[np.ndarray, " b"]]
    """Potential, with its number of materials -> % of them in each bin."""


@dataclass(frozen=True)
class ErrorKind:
    name: str
    label: str
    """With the unit."""
    of: Callable[[Record], float]
    """NaN for a failure."""

    def distributions(self, potentials: Sequence[PotentialResults]) -> list[Distribution]:
        """By falling dimensionality."""
        dimensionalities = sorted({r["dimensionality"] for p in potentials for r in p.records}, reverse=True)
        return [self._distribution(potentials, dimensionality) for dimensionality in dimensionalities]

    def _distribution(self, potentials: Sequence[PotentialResults], dimensionality: int) -> Distribution:
        errors = {p.name: self._errors(p.records, dimensionality) for p in potentials}
        bins = Bins.around_zero(errors.values(), _BINS)
        shares = {f"{name} ({bins.count(values)})": bins.shares(values) for name, values in errors.items()}
        return Distribution(dimensionality, bins, shares)

    def _errors(self, records: list[Record], dimensionality: int) -> Float[np.ndarray, " k"]:
        """Errors of all that did not fail, outliers included."""
        errors = np.array([self.of(r) for r in records if r["dimensionality"] == dimensionality], dtype=np.float64)
        return errors[np.isfinite(errors)]


KINDS = (
    ErrorKind("volume", "relative volume error, %", relative_volume_error),
    ErrorKind("energy", "energy error, eV/atom", energy_error),
)


def plot_errors(potentials: Sequence[PotentialResults], folder: Path) -> list[Path]:
    """Write volume_errors.png and energy_errors.png."""
    paths = []
    for kind in KINDS:
        paths.append(folder / f"{kind.name}_errors.png")
        _figure(kind, kind.distributions(potentials)).savefig(paths[-1], dpi=150)
    return paths


def error_charts(potentials: Sequence[PotentialResults]) -> str:
    """The same for a report, HTML."""
    return "".join(
        side_by_side([_chart(kind, distribution) for distribution in kind.distributions(potentials)]) for kind in KINDS
    )


def _chart(kind: ErrorKind, distribution: Distribution) -> str:
    bins, shares = distribution.bins, distribution.shares
    series = [
        Series(name, bins.middles, values, "bars", color) for color, (name, values) in enumerate(shares.items(), 1)
    ]
    highest = max(values.max() for values in shares.values()) or 1.0
    x = Axis(f"{kind.label} {_SIGN}", bins.edges[0], bins.edges[-1])
    caption = f"{kind.name} errors, {distribution.dimensionality}D ({bins.note})"
    return chart(series, x, Axis(_SHARE, 0.0, 1.05 * highest), caption)


def _figure(kind: ErrorKind, distributions: Sequence[Distribution]) -> Figure:
    figure = Figure(figsize=(max(3.4 * len(distributions), 4.5), 3.0), layout="constrained")
    panels = figure.subplots(1, len(distributions), squeeze=False)[0]
    for panel, distribution in zip(panels, distributions, strict=True):
        _draw(panel, distribution)
        panel.set(title=f"{distribution.dimensionality}D", xlabel=f"{kind.label}\n{_SIGN}\n{distribution.bins.note}")
    panels[0].set_ylabel(_SHARE)
    return figure


def _draw(panel: Axes, distribution: Distribution) -> None:
    for name, shares in distribution.shares.items():
        panel.stairs(shares, distribution.bins.edges, label=name)
    panel.axvline(0, color="black", linewidth=0.7)
    for place in (-distribution.bins.reach, distribution.bins.reach):
        panel.axvline(place, color="black", linewidth=0.5, linestyle=":")
    panel.legend(fontsize="x-small", frameon=False)
