"""Corrections that put calculations with and without Hubbard U, and oxides and similar compounds, on the scale of the
Materials Project's hulls (A. Wang et al., Sci. Rep. 11, 15496, 2021), by pymatgen."""

import warnings
from functools import cache
from typing import Any

from ase import Atoms

from mlip.data.records import Frame
from mlip.errors import MlipError


def mp2020_correction(frame: Frame) -> float:
    """Correction of MaterialsProject2020Compatibility to the energy of a calculation with the Materials Project's
    settings, eV per cell. These have a U for oxides and fluorides of Co, Cr, Fe, Mn, Mo, Ni, V and W only.

    Raises:
        MlipError: pymatgen has no correction for the structure.
    """
    from pymatgen.entries.computed_entries import ComputedStructureEntry
    from pymatgen.io.ase import AseAtomsAdaptor

    structure = AseAtomsAdaptor.get_structure(Atoms(frame.numbers, frame.positions, cell=frame.cell, pbc=True))
    hubbards = _hubbards({str(element) for element in structure.composition.elements})
    parameters = {
        "run_type": "GGA+U" if hubbards else "GGA",
        "is_hubbard": bool(hubbards),
        "hubbards": hubbards,
        "software": "vasp",
    }
    entry = ComputedStructureEntry(structure, frame.energy, parameters=parameters)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # warnings on pseudopotentials, which are checked where runs are read
        processed = _scheme().process_entry(entry, inplace=False)
    if processed is None:
        raise MlipError(f"pymatgen has no correction for {structure.composition.reduced_formula}")
    return float(processed.correction)


@cache
def _scheme() -> Any:
    from pymatgen.entries.compatibility import MaterialsProject2020Compatibility

    return MaterialsProject2020Compatibility(check_potcar=False)


def _hubbards(symbols: set[str]) -> dict[str, float]:
    """Hubbard U of each element, eV, as in the Materials Project's settings for the most electronegative element."""
    from pymatgen.core import Element
    from pymatgen.io.vasp.sets import MPRelaxSet

    anion = max(symbols, key=lambda symbol: Element(symbol).X)
    table = MPRelaxSet.CONFIG["INCAR"]["LDAUU"].get(anion, {})
    return {symbol: float(table[symbol]) for symbol in symbols if table.get(symbol)} if len(symbols) > 1 else {}
