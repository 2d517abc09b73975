"""The scale on which energies meet: corrections on both sides or on neither, levels that differ kept apart."""

import numpy as np
import pytest
from ase import Atoms
from ase.spacegroup import crystal

from mlip.campaign.energies import EnergyScale, check_corrections, check_level
from mlip.data import Frame
from mlip.errors import MlipError
from mlip.hull.energies import Energies
from mlip.hull.mp2020 import mp2020_correction
from mlip.hull.references import References


def frame_of(atoms: Atoms, energy: float = -10.0) -> Frame:
    return Frame(atoms.numbers.astype(np.int16), atoms.positions, atoms.cell.array, np.ones(3, bool), energy)


HEMATITE = crystal(
    ["Fe", "O"], [(0, 0, 0.3553), (0.3059, 0, 0.25)], spacegroup=167, cellpar=[5.03, 5.03, 13.75, 90, 90, 120]
)
ALLOY = Atoms("CuAu", scaled_positions=[[0, 0, 0], [0.5] * 3], cell=3.1 * np.eye(3), pbc=True)


def test_corrections_are_those_of_the_published_table():
    """MP2020: -0.687 eV an oxygen of an oxide, -2.256 eV an iron with U in one; nothing for an alloy."""
    n = len(HEMATITE) // 5
    assert mp2020_correction(frame_of(HEMATITE)) == pytest.approx(n * (2 * -2.256 + 3 * -0.687), abs=1e-3)
    assert mp2020_correction(frame_of(ALLOY)) == 0.0


def test_formation_energies_are_by_the_elements():
    scale = EnergyScale({"Cu": -4.0, "Au": -3.0})
    assert scale.energy(frame_of(ALLOY, -7.4)) == pytest.approx(-0.2)
    assert EnergyScale(None).energy(frame_of(ALLOY, -7.4)) == pytest.approx(-3.7)
    with pytest.raises(MlipError, match="no energy of the elements Fe, O"):
        scale.energy(frame_of(HEMATITE))


def references(*, corrections: float, formation: bool, level: str = "PBE") -> References:
    columns = Energies(np.array([-1.0]), np.array([corrections]), [level], np.array([True]))
    return References(["one"], [{"Fe": 2, "O": 3}], columns, formation, "file.json")


def test_corrections_are_on_both_sides_or_on_neither():
    check_corrections(references(corrections=-0.5, formation=False), corrected=True)
    check_corrections(references(corrections=0.0, formation=False), corrected=False)
    check_corrections(references(corrections=0.0, formation=True), corrected=True)
    with pytest.raises(MlipError, match=r"new calculations would have none.*start\.corrections=mp2020"):
        check_corrections(references(corrections=-0.5, formation=False), corrected=False)
    with pytest.raises(MlipError, match=r"have no corrections.*start\.corrections=null"):
        check_corrections(references(corrections=0.0, formation=False), corrected=True)


def test_levels_that_differ_do_not_meet():
    assert check_level(references(corrections=0.0, formation=False), "PBE", is_surrogate=False) is None
    with pytest.raises(MlipError, match="functionals differ"):
        check_level(references(corrections=0.0, formation=False), "PBEsol", is_surrogate=False)
    with pytest.raises(MlipError, match="put the two on one scale"):
        check_level(references(corrections=0.0, formation=False), "surrogate:x", is_surrogate=True)
    note = check_level(references(corrections=0.0, formation=True), "surrogate:x", is_surrogate=True)
    assert "surrogate:x, not of DFT" in note
