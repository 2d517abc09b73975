"""Report of a dimer scan: a table of the worst pairs, a map over elements with curves beside it, and the records."""

import json
from pathlib import Path

import numpy as np
from ase.data import chemical_symbols
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from mlip.benchmark.dimers import HOLES_FROM, REPULSIVE_BELOW, SHORTEST, DimerScan
from mlip.benchmark.tables import Table

_CURVES = 6
_SHALLOW, _DEEP = 0.01, 100.0
"""Ends of the color scale for the depth of a hole, eV."""


def dimer_table(scan: DimerScan, name: str, n_worst: int = 10) -> Table:
    """Table of the pairs with the deepest holes."""
    rows = [
        (
            scan.names[k],
            f"{scan.limits[k]:.2f}",
            "not finite" if np.isnan(scan.fails_at[k]) else f"{scan.fails_at[k]:.2f}",
            f"{scan.holes[k]:.3g}",
        )
        for k in scan.worst(n_worst)
    ]
    return Table(
        "dimers",
        f"Dimers with {name}: the deepest of {int((~scan.passes).sum())} holes",
        ("", "must repel below Å", "attract at Å", "hole eV"),
        tuple(rows),
    )


def element_table(scan: DimerScan, name: str, n_worst: int | None = None) -> Table:
    """For each element the number of its pairs with a hole before the bond; the `n_worst` worst elements, or all."""
    records = scan.by_element()
    if n_worst is not None:
        failing = [record for record in records if record["with_hole"]]
        records = sorted(failing, key=lambda record: -record["with_hole"] / record["pairs"])[:n_worst]
    rows = [
        (
            record["element"],
            str(record["pairs"]),
            str(record["with_hole"]),
            "-" if not record["with_hole"] else _depth(record["deepest_eV"]),
            record.get("with", "-"),
        )
        for record in records
    ]
    return Table(
        "dimers_by_element",
        f"Holes between {HOLES_FROM:g} Å and the first bond with {name}, by element",
        ("", "pairs", "with a hole", "deepest eV", "with"),
        tuple(rows),
    )


def _depth(value: float | None) -> str:
    return "not finite" if value is None else f"{value:.3g}"


def holes_line(scan: DimerScan) -> str:
    """One line with the share of pairs without a hole before the bond."""
    return (
        f"no hole from {HOLES_FROM:g} Å to the first bond: {100 * scan.is_without_hole.mean():.1f} % of "
        f"{len(scan.numbers):,} pairs (energy falls and forces repel up to the lowest energy beyond "
        f"{REPULSIVE_BELOW:g} of the sum of covalent radii, at most up to the sum)"
    )


def describe_scan(scan: DimerScan) -> str:
    """One-sentence summary of a scan."""
    counts = scan.summary()
    return (
        f"{counts['pairs_passing']} of {counts['pairs']} pairs of {counts['elements']} elements pass "
        f"({100 * counts['pairs_passing'] / counts['pairs']:.1f} %; {counts['same_element_passing']} of "
        f"{counts['elements']} with themselves): finite up to the cutoff, repulsive from {SHORTEST} Å to "
        f"{REPULSIVE_BELOW:g} of the sum of covalent radii; {counts['pairs_collapsing']} are lowest in energy there, "
        f"{counts['pairs_not_finite']} are not finite somewhere"
    )


def write_records(scan: DimerScan, path: Path) -> None:
    """Write JSON lines: the summary with the distances, then the verdict and curve of each pair."""
    header = {"mlip_dimers": 1, **scan.summary(), "distances": [float(f"{d:.6g}") for d in scan.distances]}
    with path.open("w") as file:
        for record in (header, *scan.records()):
            file.write(json.dumps(record, allow_nan=False) + "\n")


def dimer_figure(scan: DimerScan, name: str) -> Figure:
    """Left: a map of pairs, white where a pair passes, else colored by the depth of its hole; right: worst curves."""
    figure = Figure(figsize=(13, 7.2), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1.5, 1))
    _draw_map(figure, left, scan)
    _draw_curves(right, scan)
    figure.suptitle(
        f"{name}: {int(scan.passes.sum())} of {len(scan.passes)} pairs of elements repel each other at short range"
    )
    return figure


def _draw_map(figure: Figure, panel, scan: DimerScan) -> None:
    elements = np.unique(scan.numbers)
    places = np.searchsorted(elements, scan.numbers)
    depths = np.full((len(elements), len(elements)), np.nan)
    failing = ~scan.passes
    first, second = places[failing].T
    depths[first, second] = depths[second, first] = np.clip(scan.holes[failing], _SHALLOW, _DEEP)
    panel.set_facecolor("white")
    image = panel.imshow(depths, norm=LogNorm(_SHALLOW, _DEEP), cmap="plasma_r", origin="lower", interpolation="none")
    figure.colorbar(image, ax=panel, label="depth of the hole, eV (white: none)", extend="both", shrink=0.8)
    size = min(8.0, 320 / len(elements))
    symbols = [chemical_symbols[z] for z in elements]
    panel.set_xticks(range(len(symbols)), symbols, fontsize=size, rotation=90)
    panel.set_yticks(range(len(symbols)), symbols, fontsize=size)
    panel.tick_params(length=0, pad=1)


def _draw_curves(panel, scan: DimerScan) -> None:
    worst = scan.worst(_CURVES)
    chosen = worst or np.flatnonzero(scan.numbers[:, 0] == scan.numbers[:, 1])[:_CURVES].tolist()
    for k in chosen:
        (line,) = panel.plot(scan.distances, scan.energies[k], linewidth=1.2, label=scan.names[k])
        panel.axvline(scan.limits[k], color=line.get_color(), linestyle=":", linewidth=0.8)
    panel.axhline(0, color="black", linewidth=0.6)
    panel.set_xscale("log")
    panel.set_yscale("symlog", linthresh=1.0)
    ticks = [t for t in (0.2, 0.5, 1, 2, 3, 5) if t <= scan.distances[-1]]
    panel.set_xticks(ticks, [f"{t:g}" for t in ticks])
    panel.minorticks_off()
    panel.set(xlabel="distance, Å", ylabel="energy, eV (atoms apart: 0)")
    panel.set_title("the deepest holes" if worst else "no pair fails; some of one element")
    panel.legend(title="dotted: must repel to the left of it", fontsize=8, title_fontsize=8)
