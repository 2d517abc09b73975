"""The pictures at the end of a run: learning curves and parity plots, PNG files in the run folder."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from mlip.evaluation.frame_errors import Errors
from mlip.training.log import read_metrics
from mlip.training.quantity import Quantity

Curves = Mapping[str, tuple[str, float]]
"""Key of the records -> label of the axis, and the factor to its unit."""
_PARITY = {"energy": "energy without E0 (eV/atom)", "forces": "force (eV/Å)", "stress": "stress (GPa)"}


def plot_learning_curves(folder: Path, quantities: Sequence[Quantity]) -> Path:
    """Training and validation errors of a run folder against the step, on logarithmic axes."""
    curves = curves_of(quantities)
    figure = Figure(figsize=(3 * len(curves), 3), layout="constrained")
    panels = figure.subplots(1, len(curves))
    for axes, (name, (label, factor)) in zip(panels, curves.items(), strict=True):
        for kind, style in (("train", {"alpha": 0.6}), ("validation", {"marker": "o", "markersize": 3})):
            # Without labels an error is null, and of a loss below zero, which pays for an uncertainty, there is no log.
            records = [r for r in read_metrics(folder, kind) if (r.get(name) or 0) > 0]
            if records:
                axes.semilogy([r["step"] for r in records], [factor * r[name] for r in records], label=kind, **style)
        axes.set(xlabel="step", ylabel=label)
    panels[0].legend()
    return _save(figure, folder / "learning_curves.png")


def plot_parity(errors: Errors, folder: Path, title: str) -> Path:
    """Predictions against labels, a panel a quantity."""
    figure = Figure(figsize=(11, 3.8), layout="constrained")
    note = " (surrogate labels)" if errors.is_surrogate else ""
    figure.suptitle(title + note)
    for axes, (name, label) in zip(figure.subplots(1, len(_PARITY)), _PARITY.items(), strict=True):
        axes.set(xlabel=f"reference {label}", ylabel="potential", aspect="equal")
        if not errors.points[name]:
            axes.set_title("no labels")
            continue
        reference, predicted = (np.concatenate(values) for values in zip(*errors.points[name], strict=True))
        axes.plot(reference, predicted, ".", markersize=2, alpha=0.4, rasterized=True)
        low, high = np.nanmin([reference, predicted]), np.nanmax([reference, predicted])
        axes.plot([low, high], [low, high], "k-", linewidth=0.7)
    return _save(figure, folder / "parity.png")


def curves_of(quantities: Sequence[Quantity]) -> Curves:
    """Loss and errors."""
    errors = {of.error_key: (f"{of.word} MAE" + (f", {of.unit}" if of.unit else ""), of.shown) for of in quantities}
    return {"loss": ("loss", 1.0), **errors}


def _save(figure: Figure, path: Path) -> Path:
    figure.savefig(path, dpi=150)
    return path
