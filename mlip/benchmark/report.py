"""Histograms of the relative volume error and of the energy error, a panel for each dimensionality (Figure 7 of
"Improving machine-learning models in materials science through large datasets").
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from mlip.benchmark.metrics import ENERGY_OUTLIER, VOLUME_OUTLIER

Record = dict[str, Any]


def plot_errors(records: list[Record], folder: Path) -> list[Path]:
    """Write volume_errors.png and energy_errors.png."""
    paths = []
    for name, figure in error_figures(records).items():
        paths.append(folder / f"{name}_errors.png")
        figure.savefig(paths[-1], dpi=150)
    return paths


def error_figures(records: list[Record]) -> dict[str, Figure]:
    """By "volume" and "energy"; errors are potential minus reference. Outliers are not drawn."""
    sign = "(potential - reference)"  # the energy table's ME has the paper's, the opposite one
    return {
        "volume": _histograms(
            records, f"relative volume error, %\n{sign}", relative_volume_error, 100 * VOLUME_OUTLIER
        ),
        "energy": _histograms(records, f"energy error, eV/atom\n{sign}", energy_error, ENERGY_OUTLIER),
    }


def relative_volume_error(record: Record) -> float:
    """(potential - DFT) / DFT in %; NaN for what failed."""
    if record["volume"] is None:
        return float("nan")
    return 100 * (record["volume"] / record["dft_volume"] - 1)


def energy_error(record: Record) -> float:
    """Potential minus DFT, eV/atom; NaN for what failed or has no reference."""
    if record["volume"] is None or record["energy"] is None or record["dft_energy"] is None:
        return float("nan")
    return (record["energy"] - record["dft_energy"]) / record["n_atoms"]


def _histograms(records: list[Record], label: str, error_of: Callable[[Record], float], outlier: float) -> Figure:
    dimensionalities = sorted({record["dimensionality"] for record in records}, reverse=True)
    figure = Figure(figsize=(3.4 * len(dimensionalities), 2.8), layout="constrained")
    panels = figure.subplots(1, len(dimensionalities), squeeze=False)[0]
    for panel, dimensionality in zip(panels, dimensionalities, strict=True):
        errors = np.array([error_of(r) for r in records if r["dimensionality"] == dimensionality])
        errors = errors[np.abs(errors) <= outlier]
        if len(errors):
            width = max(np.quantile(np.abs(errors), 0.99), 1e-3)  # the tails beyond would flatten the rest
            panel.hist(errors, bins=np.linspace(-width, width, 42), color="tab:blue")
            panel.axvline(0, color="black", linewidth=0.7)
        panel.set(title=f"{dimensionality}D ({len(errors)})", xlabel=label)
    panels[0].set_ylabel("materials")
    return figure
