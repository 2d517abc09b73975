"""Figures of a hull: the distances of its entries, and the elements of the phases on it."""

import csv
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from ase.data import chemical_symbols
from jaxtyping import Float

from mlip.files.output_paths import make_folder, writing_to
from mlip.files.whole_file import whole_file
from mlip.hull.growing import GrowingHull
from mlip.report.axis import Axis
from mlip.report.chart import Chart, Series
from mlip.report.picture import save_charts
from mlip.report.store_figures import plot_elements

EDGES: Float[np.ndarray, " 101"] = np.linspace(0.0, 1.0, 101)
"""Bin edges of the distances, eV/atom."""
_SHOWN = 0.5
"""Largest distance in the figure, eV/atom; the table has all bins."""


def element_counts(hull: GrowingHull, rows: np.ndarray) -> dict[str, int]:
    """Number of compounds with each element among these entries, symbol -> count; pure elements are not counted."""
    numbers = hull.phases.numbers[rows]
    compounds = numbers[numbers[:, 1] > 0]
    counts = np.bincount(compounds[compounds > 0], minlength=len(chemical_symbols))
    return {chemical_symbols[z]: int(n) for z, n in enumerate(counts) if n}


def draw_hull(hull: GrowingHull, folder: Path) -> list[Path]:
    """Write distances.png, distances.csv, elements.png and elements.csv to a folder, created if needed; returns their
    paths.

    Raises:
        MlipError: the files cannot be written there.
    """
    make_folder(folder)
    paths = [folder / f"{name}.{ending}" for name in ("distances", "elements") for ending in ("png", "csv")]
    with writing_to(folder):
        histograms = _histograms(hull)
        save_charts([distance_chart(histograms)], paths[0])
        with whole_file(paths[1]) as partial, partial.open("w", newline="") as file:
            table = csv.writer(file)
            table.writerow(("from_ev_per_atom", "to_ev_per_atom", *(f"{n}_elements" for n in histograms)))
            table.writerows(zip(EDGES[:-1].round(2), [*EDGES[1:-1].round(2), "inf"], *histograms.values(), strict=True))
        on_hull = np.flatnonzero(hull.is_vertex)
        counts = element_counts(hull, on_hull)
        plot_elements(counts, paths[2], f"{len(on_hull):,} phases on the hull", "compounds on the hull")
        with whole_file(paths[3]) as partial, partial.open("w", newline="") as file:
            table, every = csv.writer(file), element_counts(hull, np.arange(len(hull)))
            table.writerow(("element", "compounds_on_the_hull", "compounds"))
            table.writerows((symbol, counts.get(symbol, 0), n) for symbol, n in every.items())
    return paths


def distance_chart(histograms: Mapping[int, np.ndarray]) -> Chart:
    """Histogram of the entries' distances to the hull, a line for each number of elements."""
    middles = (EDGES[1:] + EDGES[:-1]) / 2
    shown = middles < _SHOWN
    series = [
        Series(f"{n} element{'s' * (n > 1)} ({counts.sum():,})", middles[shown], counts[shown].astype(float), "bars", k)
        for k, (n, counts) in enumerate(histograms.items())
    ]
    highest = max((float(one.y.max()) for one in series), default=1.0)
    x = Axis("distance to the hull, eV/atom", 0.0, _SHOWN)
    return Chart(series, x, Axis("entries a 0.01 eV/atom", 0.0, 1.05 * max(highest, 1.0)), "Distances to the hull")


def _histograms(hull: GrowingHull) -> dict[int, np.ndarray]:
    """Counts in the bins of `EDGES`, by the number of elements; the last bin includes all larger distances."""
    sizes = (hull.phases.numbers > 0).sum(1)
    inside = np.minimum(hull.distances, EDGES[-1])
    return {int(n): np.histogram(inside[sizes == n], EDGES)[0] for n in np.unique(sizes)}
