"""Learning curves: which records they are of, and their picture at the end of a run."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from mlip.training.log import read_metrics
from mlip.training.quantity import Quantity

Curves = Mapping[str, tuple[str, float]]
"""Key of the records -> label of the axis, and the factor to its unit."""


def plot_learning_curves(folder: Path, quantities: Sequence[Quantity]) -> None:
    """Write learning_curves.png: training and validation errors of a run folder against the step, on logarithmic axes.
    A loss below zero, which pays for an uncertainty, has a linear one."""
    curves = curves_of(quantities)
    figure = Figure(figsize=(3 * len(curves), 3), layout="constrained")
    panels = figure.subplots(1, len(curves))
    for axes, (name, (label, factor)) in zip(panels, curves.items(), strict=True):
        for kind, style in (("train", {"alpha": 0.6}), ("validation", {"marker": "o", "markersize": 3})):
            records = [r for r in read_metrics(folder, kind) if r.get(name)]  # without labels: null; 0: no log
            if records:
                axes.plot([r["step"] for r in records], [factor * r[name] for r in records], label=kind, **style)
        is_below_zero = any(min(line.get_ydata()) < 0 for line in axes.lines)
        axes.set(xlabel="step", ylabel=label, yscale="linear" if is_below_zero else "log")
    panels[0].legend()
    figure.savefig(folder / "learning_curves.png", dpi=150)


def curves_of(quantities: Sequence[Quantity]) -> Curves:
    """Loss and errors."""
    errors = {of.error_key: (f"{of.word} MAE" + (f", {of.unit}" if of.unit else ""), of.shown) for of in quantities}
    return {"loss": ("loss", 1.0), **errors}
