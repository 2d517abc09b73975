"""Figures of a store or of a source: element coverage on a periodic table, distributions of properties, and the frames
kept as a function of the cutoff."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from mlip.data.properties import UNITS
from mlip.data.subsample_study import CutoffResult
from mlip.files.output_paths import writing_to
from mlip.report.periodic_table import PLACES

_BINS = 60


def plot_elements(counts: Mapping[str, int], path: Path, title: str, what: str = "frames") -> None:
    """Write an image of a periodic table, colored by how many frames (or other items) contain each element.

    Args:
        counts: number of items by element symbol.
        what: name of the counted items, written at the color bar.
    """
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import LogNorm
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    figure = Figure(figsize=(11, 5.6), layout="constrained")
    axes = figure.subplots()
    norm = LogNorm(1, max(counts.values(), default=1) + 1)
    colors = colormaps["viridis_r"]
    for symbol, (row, column) in PLACES.items():
        n = counts.get(symbol, 0)
        axes.add_patch(Rectangle((column, -row), 0.94, 0.94, color=colors(norm(n)) if n else "0.93"))
        is_dark = n and norm(n) > 0.5
        color = "white" if is_dark else "black" if n else "0.6"
        axes.text(column + 0.47, -row + 0.6, symbol, ha="center", va="center", color=color)
        if n:
            axes.text(column + 0.47, -row + 0.22, _short(n), ha="center", va="center", color=color, fontsize=6)
    axes.set(xlim=(0.8, 19.2), ylim=(-10.3, 0.2), aspect="equal", title=title)
    axes.axis("off")
    figure.colorbar(ScalarMappable(norm, colors), ax=axes, label=what, shrink=0.7)
    with writing_to(path):
        figure.savefig(path, dpi=150)


def plot_cutoffs(results: Sequence[CutoffResult], path: Path, unit: str) -> None:
    """Write an image of frames per material against the cutoff; the infinite cutoff is a horizontal line."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    finite = [one for one in results if np.isfinite(one.cutoff)]
    axes.plot([one.cutoff for one in finite], [one.per_material for one in finite], "o-", label="finite cutoffs")
    for one in results:
        if np.isinf(one.cutoff):
            axes.axhline(one.per_material, color="0.5", ls="--", label=f"inf: {one.per_material:.2f}")
    smallest = min((one.cutoff for one in finite if one.cutoff > 0), default=1.0)
    axes.set_xscale("symlog", linthresh=smallest)
    axes.set_xlim(left=-0.2 * smallest)
    axes.set(xlabel=f"cutoff ({unit})", ylabel="frames a material", ylim=(0, None))
    axes.legend()
    with writing_to(path):
        figure.savefig(path, dpi=150)


def plot_distributions(values: Mapping[str, Float[np.ndarray, " k"]], path: Path, title: str) -> None:
    """Write an image with a histogram of each property, titled with its mean and standard deviation. The counts are on
    a logarithmic axis because most properties have long tails.

    Args:
        values: property -> values of the materials that have it.
    """
    from matplotlib.figure import Figure

    n_columns = min(4, len(values))
    n_rows = -(-len(values) // n_columns)
    figure = Figure(figsize=(3.2 * n_columns, 2.6 * n_rows + 0.4), layout="constrained")
    panels = np.ravel(figure.subplots(n_rows, n_columns, squeeze=False))
    for axes, (name, of_one) in zip(panels, values.items(), strict=False):
        axes.hist(of_one, bins=_BINS)
        unit = UNITS.get(name)
        axes.set(xlabel=f"{name}, {unit}" if unit else name, ylabel="materials", yscale="log")
        axes.set_title(f"{of_one.mean():.3g} ± {of_one.std():.3g}", fontsize="medium")
    for axes in panels[len(values) :]:
        axes.axis("off")
    figure.suptitle(title)
    with writing_to(path):
        figure.savefig(path, dpi=150)


def _short(n: int) -> str:
    """Count in short form, e.g. 1.23k for 1234."""
    for factor, letter in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if n >= factor:
            return f"{n / factor:.3g}{letter}"
    return str(n)
