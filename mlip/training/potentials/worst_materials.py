"""Materials with the largest errors of a potential, with interactive views of their structures."""

import html
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from ase.symbols import Symbols

from mlip.evaluation.comparison import LabeledFrame
from mlip.evaluation.split_errors import SplitErrors
from mlip.report.structure_view import atom_legend, structure_view, turning_together

_SHOWN = 8
"""Number of materials for each kind of error."""
_NEGLIGIBLE = 1e-3
"""Largest force error that is not drawn, eV/A; where symmetry forbids forces, such errors are rounding."""


class _Bad(NamedTuple):
    """One frame of a split, with its error."""

    error: float
    split: SplitErrors
    place: int
    """Index among the split's items."""

    @property
    def item(self) -> LabeledFrame:
        return self.split.items[self.place]


def worst_materials(splits: Sequence[SplitErrors]) -> str:
    """HTML of the materials with the largest errors of energy, force on an atom, and stress; each with its worst
    frame."""
    kinds = {
        "Largest errors of energies": [split.energy_errors for split in splits],
        "Largest errors of forces": [split.force_errors for split in splits],
        "Largest errors of stresses": [split.stress_errors for split in splits],
    }
    parts = []
    for kind, errors in kinds.items():
        if worst := _worst(splits, errors):
            cards = "\n".join(_card(bad) for bad in worst)
            parts.append(f"<h3>{kind}</h3>\n<div class='structures'>{cards}</div>")
    note = (
        "Of each material its worst frame. E: energy; F: the force on the atom where it is worst; S: the worst "
        "component of the stress. Arrows are predicted minus reference forces. A mouse, a finger and the arrow keys "
        "turn a structure."
    )
    return f"<p class='note'>{note}</p>{''.join(parts)}"


def _worst(splits: Sequence[SplitErrors], errors: Sequence[np.ndarray]) -> list[_Bad]:
    """Worst frame of each material, sorted by decreasing error."""
    worst: dict[str, _Bad] = {}
    for split, of_split in zip(splits, errors, strict=True):
        for place in np.flatnonzero(~np.isnan(of_split)):
            bad = _Bad(float(of_split[place]), split, int(place))
            known = worst.get(bad.item.material_id)
            if known is None or known.error < bad.error:
                worst[bad.item.material_id] = bad
    return sorted(worst.values(), key=lambda bad: -bad.error)[:_SHOWN]


def _card(bad: _Bad) -> str:
    """HTML card of a frame: name, errors, structure."""
    item, split, place = bad.item, bad.split, bad.place
    frame = item.frame
    errors = (
        ("E", 1000 * split.energy_errors[place], "{:.0f} meV/atom"),
        ("F", split.force_errors[place], "{:.2f} eV/Å"),
        ("S", split.stress_errors[place], "{:.1f} GPa"),
    )
    said = ", ".join(f"{name} {text.format(error)}" for name, error, text in errors if np.isfinite(error))
    formula = Symbols(frame.numbers).get_chemical_formula()
    lines = [
        f"<b>{html.escape(item.material_id)}</b> {formula} ({item.dimensionality}D)",
        f"{split.name}, calculation {frame.calculation}, step {frame.ionic_step}",
        said,
        atom_legend(frame.numbers),
    ]
    comparison = split.comparison
    arrows = np.nan_to_num(comparison.forces.errors[comparison.frame_of_atom == place])
    longest = np.linalg.norm(arrows, axis=1).max(initial=0)
    has_arrows = longest > _NEGLIGIBLE
    view = structure_view(
        item.material_id,
        f"longest arrow: {longest:.2g} eV/Å" if has_arrows else "",
        frame.numbers,
        frame.cell,
        frame.positions,
        frame.pbc,
        arrows=arrows if has_arrows else None,
    )
    return f"<div class='structure single'>{'<br>'.join(lines)}{turning_together([view])}</div>"
