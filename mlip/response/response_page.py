"""Figures of responses as a self-contained HTML page: curves E(V), or phonon bands next to the density of states."""

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mlip.report.axis import Axis
from mlip.report.chart import Chart, Series, side_by_side
from mlip.report.page import write_page
from mlip.report.pieces import table
from mlip.response.birch_murnaghan import fit_birch_murnaghan

_SHOWN = 60
"""Largest number of structures with figures on a page; the others are only in the records."""


def eos_page(records: Sequence[Mapping[str, Any]], name: str, path: Path) -> None:
    """Write a page with the curves E(V) from records of `mlip eos`."""
    charts = [_eos_chart(record) for record in records if record.get("energies")]
    rows = [
        [*_named(record), *(_number(record.get(key)) for key in ("volume", "bulk_modulus", "bulk_modulus_derivative"))]
        for record in records
    ]
    columns = ("structure", "reason", "V0, \u00c5\u00b3", "B0, GPa", "B0'")
    _write(path, "Equations of state", name, columns, rows, [side_by_side(charts[:_SHOWN])] if charts else [])


def phonon_page(records: Sequence[Mapping[str, Any]], name: str, path: Path) -> None:
    """Write a page with bands and densities of states from records of `mlip phonons`."""
    figures = [side_by_side(_phonon_charts(record)) for record in records if record.get("dos")]
    rows = [
        [*_named(record), *(_number(record.get(key), ".3f") for key in ("lowest", "highest", "heat_capacity_300K"))]
        for record in records
    ]
    columns = ("structure", "reason", "lowest, THz", "highest, THz", "Cv at 300 K, J/K/mol")
    _write(path, "Phonons", name, columns, rows, figures[:_SHOWN])


def _write(path: Path, title: str, name: str, columns, rows, figures: Sequence[str]) -> None:
    shown = table(title, columns, rows, text_columns=("structure", "reason"))
    sections = {"Structures": shown} | ({"Figures": "\n".join(figures)} if figures else {})
    write_page(path, title, name, sections)


def _named(record: Mapping[str, Any]) -> list[str]:
    told = record["reason"] + (f": {record['message']}" if record["message"] else "")
    return [html.escape(_title(record)), html.escape(told)]


def _title(record: Mapping[str, Any]) -> str:
    frame = f"@{record['frame']}" if record["frame"] else ""
    return f"{record['formula']} ({Path(record['file']).name}{frame})"


def _number(value: float | None, digits: str = ".4g") -> str:
    return "" if value is None else f"{value:{digits}}"


def _eos_chart(record: Mapping[str, Any]) -> Chart:
    n_atoms = len(record["numbers"])
    volumes, energies = (np.array(record[key], dtype=float) / n_atoms for key in ("volumes", "energies"))
    known = np.isfinite(energies)
    lowest = energies[known].min() if known.any() else 0.0
    energies = 1000 * (energies - lowest)
    series = [Series("potential", volumes, energies, "dots", 0)]
    if known.sum() >= 5:
        fine = np.linspace(volumes.min(), volumes.max(), 61)
        curve = fit_birch_murnaghan(volumes[known], energies[known]).energies(fine)
        series.append(Series("Birch-Murnaghan", fine, curve, "line", 1))
    return Chart(
        series,
        Axis.spanning("volume, \u00c5\u00b3/atom", [volumes]),
        Axis.spanning("energy above the lowest, meV/atom", [one.y for one in series]),
        f"{_title(record)}: {record['reason']}",
    )


def _phonon_charts(record: Mapping[str, Any]) -> list[Chart]:
    frequencies, states = np.array(record["dos"], dtype=float).T
    axis = Axis.spanning("frequency, THz", [frequencies])
    charts = [
        Chart(
            [Series("density of states", states, frequencies, "line", 0)],
            Axis.spanning("states per THz and cell", [states]),
            axis,
            f"{_title(record)}: {record['reason']}",
        )
    ]
    bands = record["bands"]
    if bands:
        charts.insert(0, _band_chart(bands, axis))
    return charts


def _band_chart(bands: Mapping[str, Any], axis: Axis) -> Chart:
    """Chart with a dot for each mode at the wave vectors of the path."""
    parts = [np.array(part, dtype=float) for part in bands["frequencies"]]
    distances = [np.array(part, dtype=float) for part in bands["distances"]]
    along = np.concatenate([np.repeat(d, part.shape[1]) for d, part in zip(distances, parts, strict=True)])
    modes = np.concatenate([part.ravel() for part in parts])
    ends: dict[str, float] = {}
    for (_, last), part in zip(bands["labels"], distances, strict=True):
        while last in ends:
            last += " "  # a repeated point of the path; trailing blanks are invisible
        ends[last] = float(part[-1])
    return Chart(
        [Series("modes", along, modes, "dots", 1)],
        Axis("wave vector, 1/\u00c5", float(distances[0][0]), float(distances[-1][-1])),
        axis,
        f"bands along {_path(bands['labels'])}",
        guides=ends,
    )


def _path(parts: Sequence[Sequence[str]]) -> str:
    """Labels of the points along the path, with a comma at breaks."""
    text = parts[0][0]
    for k, (first, last) in enumerate(parts):
        text += f", {first}" if k and parts[k - 1][1] != first else ""
        text += f"\u2013{last}"
    return text
