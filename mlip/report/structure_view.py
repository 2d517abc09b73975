"""Views of structures that the reader can rotate, drawn on a canvas by `structure_view.js`."""

import html
from collections.abc import Sequence

import numpy as np
from ase.data import chemical_symbols, covalent_radii
from ase.data.colors import jmol_colors
from ase.geometry import complete_cell
from jaxtyping import Float

from mlip.report.page import json_block

_ON_FACE = 0.01
"""Fractional distance to a cell face within which an atom is drawn on both opposite faces, as in structure_view.js."""


def structure_view(
    name: str,
    caption: str,
    numbers: Sequence[int],
    cell: Sequence | None,
    positions: Sequence | None,
    pbc: Sequence[bool],
    arrows: Sequence | None = None,
) -> str:
    """View of a structure as HTML; empty if geometry is missing or not finite, or if the cell has no volume.

    Args:
        name: text read by screen readers.
        caption: text below the view.
        numbers: (n,) atomic numbers.
        cell: (3, 3) lattice vectors as rows, A; rows of zeros are completed.
        positions: (n, 3) Cartesian positions, A.
        arrows: (n, 3) Cartesian vectors at the atoms, in any unit; they are drawn relative to the longest.
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
    """HTML in which turning one of the views turns them all."""
    return f"<div class='turning'>{''.join(views)}</div>"


def cell_lengths(cell: Sequence) -> str:
    """Lengths of the lattice vectors as text, e.g. "3.61, 3.61, 3.61 Å"; zero vectors are left out."""
    lengths = np.linalg.norm(np.asarray(cell, np.float64), axis=1)
    return ", ".join(f"{length:.2f}" for length in lengths if length > 0) + " Å"


def atom_legend(numbers: Sequence[int]) -> str:
    """HTML legend that shows the color of each element."""
    return " ".join(
        f"<span class='atom'><i style='background: {_color(z)}'></i>{chemical_symbols[z]}</span>"
        for z in sorted({int(z) for z in numbers})
    )


def _geometry(
    cell: Sequence | None, positions: Sequence | None
) -> tuple[Float[np.ndarray, "3 3"], Float[np.ndarray, "n 3"]] | None:
    """Pair (completed cell, fractional coordinates), or None if there is nothing to draw."""
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
    """Fractional coordinates, with atoms on a periodic face of the cell moved to the lower of the two opposite faces,
    from where the script copies them to the upper. Other atoms stay where they are."""
    nearest = np.round(fractional)
    is_on_face = (np.abs(fractional - nearest) < _ON_FACE) & np.asarray(pbc, dtype=bool)
    return np.where(is_on_face, fractional - nearest, fractional)


def _relative(arrows: Sequence | None) -> list[list[float]]:
    """Arrows in units of the longest one; empty if there are none or all are zero."""
    if arrows is None:
        return []
    arrows = np.asarray(arrows, dtype=np.float64)
    longest = np.linalg.norm(arrows, axis=1).max(initial=0)
    return np.round(arrows / longest, 3).tolist() if longest > 0 else []


def _color(z: int) -> str:
    return "#" + "".join(f"{round(255 * channel):02x}" for channel in jmol_colors[z])
