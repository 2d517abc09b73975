"""Figure 7 of "Improving machine-learning models in materials science through large datasets": histograms of the
relative volume error and of the energy error, a panel for each dimensionality, a line for each potential.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mlip.benchmark.comparison import PotentialResults
from mlip.benchmark.metrics import ENERGY_OUTLIER, VOLUME_OUTLIER
from mlip.benchmark.summary import Record, energy_error, relative_volume_error
from mlip.report.axis import Axis
from mlip.report.chart import Series, chart, side_by_side

_BINS = 41
_SHARE = "materials, %"
_SIGN = "(potential - reference)"  # the energy table's ME has the paper's, the opposite one


@dataclass(frozen=True)
class Distribution:
    """How an error is distributed among the materials of one dimensionality."""

    dimensionality: int
    edges: Float[np.ndarray, " b+1"]
    """Of the bins, in the error's unit."""
    shares: dict[str, Float[np.ndarray, " b"]]
    """Potential, with its number of materials -> % of them in each bin."""


@dataclass(frozen=True)
class ErrorKind:
    name: str
    label: str
    """With the unit."""
    of: Callable[[Record], float]
    """NaN for a failure."""
    outlier: float
    """Larger errors are not drawn."""

    def distributions(self, potentials: Sequence[PotentialResults]) -> list[Distribution]:
        """By falling dimensionality."""
        dimensionalities = sorted({r["dimensionality"] for p in potentials for r in p.records}, reverse=True)
        return [self._distribution(potentials, dimensionality) for dimensionality in dimensionalities]

    def _distribution(self, potentials: Sequence[PotentialResults], dimensionality: int) -> Distribution:
        errors = {p.name: self._errors(p.records, dimensionality) for p in potentials}
        together = np.abs(np.concatenate([[], *errors.values()]))
        # The tails beyond would flatten the rest.
        width = max(np.quantile(together, 0.99), 1e-3) if len(together) else 1e-3
        edges = np.linspace(-width, width, _BINS + 1)
        shares = {
            f"{name} ({len(values)})": 100 * np.histogram(values, edges)[0] / max(len(values), 1)
            for name, values in errors.items()
        }
        return Distribution(dimensionality, edges, shares)

    def _errors(self, records: list[Record], dimensionality: int) -> Float[np.ndarray, " k"]:
        errors = np.array([self.of(r) for r in records if r["dimensionality"] == dimensionality], dtype=np.float64)
        return errors[np.abs(errors) <= self.outlier]  # NaN, a failure, is not


KINDS = (
    ErrorKind("volume", "relative volume error, %", relative_volume_error, 100 * VOLUME_OUTLIER),
    ErrorKind("energy", "energy error, eV/atom", energy_error, ENERGY_OUTLIER),
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
    edges, shares = distribution.edges, distribution.shares
    middles = (edges[1:] + edges[:-1]) / 2
    series = [Series(name, middles, values, "bars", colour) for colour, (name, values) in enumerate(shares.items(), 1)]
    highest = max(values.max() for values in shares.values()) or 1.0
    x = Axis(f"{kind.label} {_SIGN}", edges[0], edges[-1])
    return chart(series, x, Axis(_SHARE, 0.0, 1.05 * highest), f"{kind.name} errors, {distribution.dimensionality}D")


def _figure(kind: ErrorKind, distributions: Sequence[Distribution]) -> Figure:
    figure = Figure(figsize=(max(3.4 * len(distributions), 4.5), 2.8), layout="constrained")
    panels = figure.subplots(1, len(distributions), squeeze=False)[0]
    for panel, distribution in zip(panels, distributions, strict=True):
        _draw(panel, distribution)
        panel.set(title=f"{distribution.dimensionality}D", xlabel=f"{kind.label}\n{_SIGN}")
    panels[0].set_ylabel(_SHARE)
    return figure


def _draw(panel: Axes, distribution: Distribution) -> None:
    for name, shares in distribution.shares.items():
        panel.stairs(shares, distribution.edges, label=name)
    panel.axvline(0, color="black", linewidth=0.7)
    panel.legend(fontsize="x-small", frameon=False)
