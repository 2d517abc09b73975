"""The HTML report: tables, histograms, and the failed and worst relaxations with their structures before and after.

One file that needs nothing else: figures, structures, script and style are within, and a content policy forbids the
browser to fetch anything.
"""

import base64
import html
import io
import json
from collections.abc import Callable, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from ase.data import chemical_symbols, covalent_radii
from ase.data.colors import jmol_colors
from ase.geometry import complete_cell
from matplotlib.figure import Figure

from mlip import __version__
from mlip.benchmark.comparison import PotentialResults
from mlip.benchmark.histograms import error_figures
from mlip.benchmark.summary import Record, energy_error, relative_volume_error
from mlip.benchmark.tables import Table

_SHOWN = 12
"""Structures a potential and kind."""
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


def write_report(potentials: Sequence[PotentialResults], tables: Sequence[Table], path: Path) -> None:
    """Write the report of these potentials to `path`."""
    views: list[dict[str, Any]] = []
    sections = "\n".join(_structures(potential, views) for potential in potentials)
    resources = files("mlip.benchmark")
    content = f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<title>Relaxation benchmark</title>
<style>{(resources / "report.css").read_text()}</style></head><body>
<h1>Relaxation benchmark</h1>
{_protocol_table(potentials).to_html()}
{"".join(table.to_html() for table in tables)}
<h2>Distribution of errors</h2>
{"".join(_image(figure) for figure in error_figures(potentials).values())}
{sections}
<script type="application/json" id="structures">{_json_of(views)}</script>
<script>{(resources / "report.js").read_text()}</script>
<p class="note">mlip {__version__}</p>
</body></html>
"""
    path.write_text(content, encoding="utf-8")


def failed(records: list[Record]) -> list[Record]:
    """Those that gave no relaxed structure."""
    return [record for record in records if record["volume"] is None]


def worst(records: list[Record], error_of: Callable[[Record], float]) -> list[Record]:
    """The relaxed ones by falling size of an error, where it is known."""
    known = [record for record in records if np.isfinite(error_of(record))]
    return sorted(known, key=lambda record: -abs(error_of(record)))


def _protocol_table(potentials: Sequence[PotentialResults]) -> Table:
    columns = ("", "potential", "start", "symmetry", "fmax", "steps", "dtype", "store", "SHA-256")
    rows = tuple(
        (
            str(number),
            potential.name,
            *(potential.setting(key) for key in ("start", "symmetry", "fmax", "steps", "dtype")),
            ", ".join(header["store"]["name"] for header in potential.headers),
            potential.sha256[:12],
        )
        for number, potential in enumerate(potentials, start=1)
    )
    return Table("protocol", "What was run", columns, rows)


def _structures(potential: PotentialResults, views: list[dict[str, Any]]) -> str:
    records = potential.records
    kinds = {
        f"failed ({len(failed(records))})": failed(records),
        "largest volume errors": worst(records, relative_volume_error),
        "largest energy errors": worst(records, energy_error),
    }
    parts = []
    for kind, chosen in kinds.items():
        if chosen:
            shown = "\n".join(_structure(record, views) for record in chosen[:_SHOWN])
            parts.append(f"<h3>{html.escape(potential.name)}: {kind}</h3>\n<div class='structures'>{shown}</div>")
    return "\n".join(parts)


def _structure(record: Record, views: list[dict[str, Any]]) -> str:
    """A material's figures and its two views, which are appended to `views`."""
    numbers = {"dV": (relative_volume_error(record), "{:+.1f} %"), "dE": (energy_error(record), "{:+.3f} eV/atom")}
    facts = [record["reason"], f"{record['n_steps']} steps"]
    facts += [f"{name} {text.format(value)}" for name, (value, text) in numbers.items() if np.isfinite(value)]
    lines = [
        f"<b>{html.escape(record['id'])}</b> {html.escape(record['formula'])} ({record['dimensionality']}D)",
        html.escape(", ".join(facts)),
        *([html.escape(record["message"])] if record.get("message") else []),
    ]
    before = _view(record, record.get("initial_cell"), record.get("initial_positions"))
    after = _view(record, record["cell"], record["positions"])
    canvases = "".join(_canvas(name, view, views) for name, view in (("before", before), ("after", after)) if view)
    legend = " ".join(
        f"<span style='color:{_colour(z)}'>●</span>{chemical_symbols[z]}" for z in sorted(set(record["numbers"]))
    )
    return f"<div class='structure'>{'<br>'.join([*lines, legend])}<div class='pair'>{canvases}</div></div>"


def _view(record: Record, cell: list | None, positions: list | None) -> dict[str, Any] | None:
    """What the script draws; None where the structure is not on record or not finite."""
    if cell is None or positions is None:
        return None
    cell, positions = np.array(cell, dtype=np.float64), np.array(positions, dtype=np.float64)
    if not (np.isfinite(cell).all() and np.isfinite(positions).all()):
        return None
    cell = complete_cell(cell)
    if abs(np.linalg.det(cell)) < 1e-9:
        return None
    return {
        "numbers": record["numbers"],
        "cell": np.round(cell, 4).tolist(),
        "fractional": np.round(positions @ np.linalg.inv(cell), 4).tolist(),
        "pbc": record["pbc"],
    }


def _canvas(name: str, view: dict[str, Any], views: list[dict[str, Any]]) -> str:
    views.append(view)
    lengths = ", ".join(f"{length:.2f}" for length in np.linalg.norm(view["cell"], axis=1))
    return f"<div><canvas data-view='{len(views) - 1}'></canvas>{name}: {lengths} Å</div>"


def _json_of(views: list[dict[str, Any]]) -> str:
    elements = {
        z: {
            "colour": _colour(z),
            "radius": round(float(covalent_radii[z]), 2),
        }
        for z in sorted({z for view in views for z in view["numbers"]})
    }
    return json.dumps({"elements": elements, "views": views}).replace("<", "\\u003c")


def _colour(z: int) -> str:
    return "#" + "".join(f"{round(255 * channel):02x}" for channel in jmol_colors[z])


def _image(figure: Figure) -> str:
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=130)
    return f"<p><img alt='histograms' src='data:image/png;base64,{base64.b64encode(content.getvalue()).decode()}'></p>"
