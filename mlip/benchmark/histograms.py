"""Figure 7 of "Improving machine-learning models in materials science through large datasets": histograms of the
relative volume error and of the energy error, a panel for each dimensionality, a line for each potential.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from mlip.benchmark.comparison import PotentialResults
from mlip.benchmark.metrics import ENERGY_OUTLIER, VOLUME_OUTLIER
from mlip.benchmark.summary import Record, energy_error, relative_volume_error

_BINS = 41


def plot_errors(potentials: Sequence[PotentialResults], folder: Path) -> list[Path]:
    """Write volume_errors.png and energy_errors.png."""
    paths = []
    for name, figure in error_figures(potentials).items():
        paths.append(folder / f"{name}_errors.png")
        figure.savefig(paths[-1], dpi=150)
    return paths


def error_figures(potentials: Sequence[PotentialResults]) -> dict[str, Figure]:
    """By "volume" and "energy"; errors are potential minus reference. Outliers are not drawn."""
    sign = "(potential - reference)"  # the energy table's ME has the paper's, the opposite one
    return {
        "volume": _histograms(
            potentials, f"relative volume error, %\n{sign}", relative_volume_error, 100 * VOLUME_OUTLIER
        ),
        "energy": _histograms(potentials, f"energy error, eV/atom\n{sign}", energy_error, ENERGY_OUTLIER),
    }


def _histograms(
    potentials: Sequence[PotentialResults], label: str, error_of: Callable[[Record], float], outlier: float
) -> Figure:
    dimensionalities = sorted({r["dimensionality"] for p in potentials for r in p.records}, reverse=True)
    figure = Figure(figsize=(max(3.4 * len(dimensionalities), 4.5), 2.8), layout="constrained")
    panels = figure.subplots(1, len(dimensionalities), squeeze=False)[0]
    for panel, dimensionality in zip(panels, dimensionalities, strict=True):
        errors = {p.name: _errors(p.records, dimensionality, error_of, outlier) for p in potentials}
        errors = {name: values for name, values in errors.items() if len(values)}
        together = np.abs(np.concatenate([[], *errors.values()]))
        # The tails beyond would flatten the rest.
        width = max(np.quantile(together, 0.99), 1e-3) if len(together) else 1e-3
        bins = np.linspace(-width, width, _BINS + 1)
        for name, values in errors.items():
            share = np.full(len(values), 100 / len(values))
            panel.hist(values, bins, weights=share, histtype="step", label=f"{name} ({len(values)})")
        panel.axvline(0, color="black", linewidth=0.7)
        panel.set(title=f"{dimensionality}D", xlabel=label)
        if errors:
            panel.legend(fontsize="x-small", frameon=False)
    panels[0].set_ylabel("materials, %")
    return figure


def _errors(
    records: list[Record], dimensionality: int, error_of: Callable[[Record], float], outlier: float
) -> Float[np.ndarray, " k"]:
    errors = np.array([error_of(r) for r in records if r["dimensionality"] == dimensionality], dtype=np.float64)
    return errors[np.abs(errors) <= outlier]  # NaN, a failure, is not
