"""Structures that the reader can turn: what `structure_view.js` draws on a canvas."""

import html
from collections.abc import Sequence

import numpy as np
from ase.data import chemical_symbols, covalent_radii
from ase.data.colors import jmol_colors
from ase.geometry import complete_cell
from jaxtyping import Float

from mlip.report.page import json_block

_ON_FACE = 0.01
"""Fraction of the cell within which an atom is drawn on both sides of it, as in structure_view.js."""


def structure_view(
    name: str,
    caption: str,
    numbers: Sequence[int],
    cell: Sequence | None,
    positions: Sequence | None,
    pbc: Sequence[bool],
    arrows: Sequence | None = None,
) -> str:
    """A structure as HTML; empty where it is not on record, not finite, or its cell has no volume.

    Args:
        name: text that a screen reader says.
        caption: text below it.
        numbers: (n,) atomic numbers.
        cell: (3, 3) A; rows of zeros are completed.
        positions: (n, 3) A.
        arrows: (n, 3) vectors at the atoms, in any unit: they are drawn in proportion to the longest.
    """
    geometry = _geometry(cell, positions)
    if geometry is None:
        return ""
    cell, fractional = geometry
    elements = sorted({int(z) for z in numbers})
    view = {
        "numbers": [int(z) for z in numbers],
        "cell": np.round(cell, 4).tolist(),
        "fractional": np.round(_on_lower_faces(fractional, pbc), 4).tolist(),
        "pbc": [bool(periodic) for periodic in pbc],
        "arrows": _relative(arrows),
        "elements": {z: {"color": _color(z), "radius": round(float(covalent_radii[z]), 2)} for z in elements},
    }
    said = f"{html.escape(name)}; the arrow keys turn it"
    return (
        f"<figure class='view'><canvas tabindex='0' role='img' aria-label='{said}'></canvas>"
        f"<figcaption>{html.escape(caption)}</figcaption>{json_block(view)}</figure>"
    )


def turning_together(views: Sequence[str]) -> str:
    """Views of which all turn when one is turned."""
    return f"<div class='turning'>{''.join(views)}</div>"


def cell_lengths(cell: Sequence) -> str:
    """E.g. "3.61, 3.61, 3.61 Å"."""
    lengths = np.linalg.norm(np.asarray(cell, np.float64), axis=1)
    return ", ".join(f"{length:.2f}" for length in lengths if length > 0) + " Å"


def atom_legend(numbers: Sequence[int]) -> str:
    """Which color is which element."""
    return " ".join(
        f"<span class='atom'><i style='background: {_color(z)}'></i>{chemical_symbols[z]}</span>"
        for z in sorted({int(z) for z in numbers})
    )


def _geometry(
    cell: Sequence | None, positions: Sequence | None
) -> tuple[Float[np.ndarray, "3 3"], Float[np.ndarray, "n 3"]] | None:
    """(complete cell, fractional coordinates), if there is something to draw."""
    if cell is None or positions is None:
        return None
    cell, positions = np.array(cell, dtype=np.float64), np.array(positions, dtype=np.float64)
    if not (np.isfinite(cell).all() and np.isfinite(positions).all()):
        return None
    cell = complete_cell(cell)
    if abs(np.linalg.det(cell)) < 1e-9:
        return None
    return cell, positions @ np.linalg.inv(cell)


def _on_lower_faces(fractional: Float[np.ndarray, "n 3"], pbc: Sequence[bool]) -> Float[np.ndarray, "n 3"]:
    """Atoms on a periodic face of the cell as if on the lower one, from where the script copies them to the others;
    all others where they are."""
    nearest = np.round(fractional)
    is_on_face = (np.abs(fractional - nearest) < _ON_FACE) & np.asarray(pbc, dtype=bool)
    return np.where(is_on_face, fractional - nearest, fractional)


def _relative(arrows: Sequence | None) -> list[list[float]]:
    """In units of the longest."""
    if arrows is None:
        return []
    arrows = np.asarray(arrows, dtype=np.float64)
    longest = np.linalg.norm(arrows, axis=1).max(initial=0)
    return np.round(arrows / longest, 3).tolist() if longest > 0 else []


def _color(z: int) -> str:
    return "#" + "".join(f"{round(255 * channel):02x}" for channel in jmol_colors[z])
