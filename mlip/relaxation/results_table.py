"""Results of relaxations as a pandas table, and as an HTML table with a picture of each structure for notebooks."""

from collections import Counter
from collections.abc import Iterable
from html import escape
from typing import TYPE_CHECKING, Any, SupportsIndex, overload

import numpy as np
from ase import Atoms
from ase.data import covalent_radii
from ase.data.colors import jmol_colors

from mlip.relaxation.result import RelaxResult
from mlip.units import EV_PER_A3_IN_GPA

if TYPE_CHECKING:
    from pandas import DataFrame

_MOST_ROWS = 50
"""Largest number of rows shown in a notebook; failed structures take precedence."""
_MOST_ATOMS = 200
"""Largest number of atoms in a picture."""
_PIXELS = 56


class RelaxResults(list[RelaxResult]):
    """The list that `relax` returns, in the order of its input; notebooks show it as a table."""

    def __init__(self, results: Iterable[RelaxResult] = (), potential: dict[str, str | None] | None = None):
        super().__init__(results)
        self.potential = potential or {}
        """Name, functional and license of the potential; None for unknown ones."""

    @overload
    def __getitem__(self, place: SupportsIndex) -> RelaxResult: ...

    @overload
    def __getitem__(self, place: slice) -> "RelaxResults": ...

    def __getitem__(self, place: Any) -> Any:
        found = super().__getitem__(place)
        return RelaxResults(found, self.potential) if isinstance(place, slice) else found

    def to_dataframe(self) -> "DataFrame":
        """Table with a row for each structure, indexed by the order of the input.

        Columns: `formula`, `n_atoms`, `reason`, `converged`, `failed`, `n_steps`; `energy_per_atom` and `energy_change`
        (since the start), eV/atom; `fmax`, eV/A; `max_stress`, GPa; `volume_per_atom`, A^3; `message`. Unknown values
        are NaN; structures that failed have no volume. A potential with an uncertainty adds `energy_std_per_atom`,
        eV/atom, `relative_volume_std` and `do_not_trust`.
        """
        from pandas import DataFrame

        is_sure = any(result.energy_std is not None for result in self)
        return DataFrame([_row(result) for result in self], columns=[*_COLUMNS, *(_CERTAINTY if is_sure else ())])

    def _repr_html_(self) -> str:
        failed_first = sorted(range(len(self)), key=lambda k: not self[k].failed)
        shown = sorted(failed_first[:_MOST_ROWS])
        counts = ", ".join(f"{n} {reason}" for reason, n in Counter(result.reason for result in self).most_common())
        title = f"{len(self)} relaxations: {counts}" if self else "no relaxations"
        if len(shown) < len(self):
            title += f"; {len(shown)} are shown"
        if self.potential:
            title += f"; by {', '.join(fact for fact in self.potential.values() if fact)}"
        columns = _SHOWN | (_CERTAINTY if any(result.energy_std is not None for result in self) else {})
        header = "".join(f"<th>{escape(name)}</th>" for name in ("", "structure", *columns.values()))
        body = "".join(_html_row(k, self[k], columns) for k in shown)
        return f"<table><caption>{escape(title)}</caption><tr>{header}</tr>{body}</table>"


_SHOWN = {
    "formula": "formula",
    "reason": "reason",
    "n_steps": "steps",
    "energy_per_atom": "energy, eV/atom",
    "energy_change": "change, eV/atom",
    "fmax": "fmax, eV/\u00c5",
    "max_stress": "stress, GPa",
    "volume_per_atom": "volume, \u00c5\u00b3/atom",
    "message": "message",
}
"""Columns of tables in notebooks, and their headings."""
_CERTAINTY = {
    "energy_std_per_atom": "std of energy, eV/atom",
    "relative_volume_std": "std of volume / volume",
    "do_not_trust": "do not trust",
}
"""Additional columns for a potential with an uncertainty."""
_COLUMNS = (*list(_SHOWN)[:1], "n_atoms", "reason", "converged", "failed", *list(_SHOWN)[2:])
_STYLES = {"message": " style='text-align:left;min-width:20em'"}
_DIGITS = {"energy_per_atom": 4, "energy_change": 4, "fmax": 3, "max_stress": 2, "volume_per_atom": 2}
_DIGITS |= {"energy_std_per_atom": 3, "relative_volume_std": 3}


def _row(result: RelaxResult) -> dict[str, object]:
    atoms = result.atoms
    n = max(len(atoms), 1)
    is_crystal = atoms.cell.rank == 3 and not result.failed
    return {
        "formula": atoms.get_chemical_formula(empirical=True),
        "n_atoms": len(atoms),
        "reason": result.reason,
        "converged": result.converged,
        "failed": result.failed,
        "n_steps": result.n_steps,
        "energy_per_atom": result.energy / n,
        "energy_change": (result.energy - result.initial_energy) / n,
        "fmax": result.fmax,
        "max_stress": result.max_stress * EV_PER_A3_IN_GPA,
        "volume_per_atom": atoms.get_volume() / n if is_crystal else float("nan"),
        "message": result.message,
        "energy_std_per_atom": None if result.energy_std is None else result.energy_std / n,
        "relative_volume_std": result.relative_volume_std,
        "do_not_trust": result.do_not_trust,
    }


def _html_row(index: int, result: RelaxResult, columns: Iterable[str]) -> str:
    row = _row(result)
    cells = "".join(f"<td{_STYLES.get(name, '')}>{escape(_told(name, row[name]))}</td>" for name in columns)
    return f"<tr><th>{index}</th><td>{picture(result.atoms)}</td>{cells}</tr>"


def _told(name: str, value: object) -> str:
    if value is None or (isinstance(value, float) and not np.isfinite(value)):
        return ""
    return f"{value:.{_DIGITS[name]}f}" if name in _DIGITS else str(value)


def picture(atoms: Atoms) -> str:
    """Small SVG of the atoms viewed along z, far ones first, as circles with half their covalent radii."""
    positions = atoms.positions[:_MOST_ATOMS]
    if not len(positions) or not np.isfinite(positions).all():
        return ""
    radii = 0.5 * covalent_radii[atoms.numbers[:_MOST_ATOMS]]
    low = (positions[:, :2] - radii[:, None]).min(0)
    extent = max(float(((positions[:, :2] + radii[:, None]).max(0) - low).max()), 1e-6)
    circles = []
    for k in np.argsort(positions[:, 2], kind="stable"):
        x, y = (positions[k, :2] - low) / extent * _PIXELS
        red, green, blue = (255 * jmol_colors[atoms.numbers[k]]).astype(int)
        circles.append(
            f'<circle cx="{x:.1f}" cy="{_PIXELS - y:.1f}" r="{radii[k] / extent * _PIXELS:.1f}" '
            f'fill="rgb({red},{green},{blue})" stroke="#555" stroke-width="0.5"/>'
        )
    return f'<svg width="{_PIXELS}" height="{_PIXELS}" role="img">{"".join(circles)}</svg>'
