"""Phonons by exact derivatives and by displacements agree with each other and with ASE; what is no minimum says so."""

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.phonons import Phonons

from mlip.errors import MlipError
from tests.response.conftest import left_handed

pytest.importorskip("phonopy", reason="needs phonopy: pip install 'alexandria-mlip[phonons]'")

from mlip.response import phonons


def test_hessians_and_displacements_give_the_same_phonons(potential, crystals):
    atoms = [crystals["one_atom"], crystals["hexagonal"]]
    exact, displaced = (
        phonons(atoms, potential, method=method, min_length=8, progress=False)
        for method in ("hessian", "displacements")
    )
    for one, other in zip(exact, displaced, strict=True):
        assert one.reason == other.reason == "ok", one.message
        assert one.highest == pytest.approx(other.highest, rel=1e-3)
        assert one.heat_capacity(300) == pytest.approx(other.heat_capacity(300), rel=1e-4)
        np.testing.assert_allclose(one.thermal.free_energy, other.thermal.free_energy, atol=5e-5)
        assert one.sum_rule < 1e-10
        for ours, theirs in zip(one.bands.frequencies, other.bands.frequencies, strict=True):
            np.testing.assert_allclose(ours, theirs, atol=0.02)
        _, states = one.dos.T
        assert np.trapezoid(states, one.dos[:, 0]) == pytest.approx(3 * len(one.atoms), rel=0.02)


def test_bands_of_copper_are_those_that_ase_finds(tmp_path):
    (ours,) = phonons(bulk("Cu", a=3.6), "ase:ase.calculators.emt:EMT", supercell=(5, 5, 5), progress=False)
    theirs = Phonons(ours.atoms, EMT(), supercell=(5, 5, 5), delta=0.01, name=str(tmp_path / "phonons"))
    theirs.run()
    theirs.read(acoustic=True)
    points = np.array([[0.5, 0.5, 0.0], [0.5, 0.5, 0.5], [0.1, 0.2, 0.3]])
    expected = np.sort(theirs.band_structure(points), axis=1) / 4.135667696e-3  # eV -> THz
    ours.phonon.run_qpoints(points)
    np.testing.assert_allclose(np.sort(ours.phonon.qpoints.frequencies, axis=1), expected, atol=0.02)


def test_heat_goes_to_dulong_and_petit_whatever_the_cell_and_isotopes_count(potential):
    right, left = bulk("Cu", a=3.6), left_handed(bulk("Cu", a=3.6))
    before = left.copy()
    heavy = right.copy()
    heavy.set_masses(4 * right.get_masses())
    one, other, slow = phonons(
        [right, left, heavy], potential, min_length=8, temperatures=(0, 300, 3000), progress=False
    )
    assert left == before
    assert one.heat_capacity(3000) == pytest.approx(3 * 8.314, rel=0.01)
    assert one.heat_capacity(0) == 0
    assert one.thermal.free_energy[0] > 0
    assert other.heat_capacity(300) == pytest.approx(one.heat_capacity(300), rel=1e-4)
    assert slow.highest == pytest.approx(one.highest / 2, rel=1e-6)
    with pytest.raises(MlipError, match="200 K"):
        one.heat_capacity(200)


def test_a_lattice_that_is_no_minimum_has_imaginary_modes(potential):
    """Simple cubic copper is held by nothing but its symmetry."""
    cubic = bulk("Cu", "sc", a=2.4)
    (result,) = phonons(cubic, potential, min_length=9, progress=False)
    assert result.reason == "imaginary"
    assert not result.failed
    assert result.lowest < -0.1
    assert 0 < result.imaginary_share < 1
    assert "imaginary" in result.message
    record = result.as_record()
    assert record["reason"] == "imaginary"
    assert len(record["thermal"]["heat_capacity"]) == 21


def test_what_has_no_phonons_is_a_record_with_its_reason(potential):
    unknown = bulk("No", "fcc", a=5.0)
    results = phonons([unknown, bulk("Cu", a=3.6)], potential, min_length=6, relax=False, progress=False)
    assert [result.reason for result in results] == ["error", "ok"]
    assert "No" in results[0].message
    assert results[0].failed
    assert results[0].as_record()["bands"] is None
    assert np.isnan(results.to_dataframe().heat_capacity_300K[0])


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"supercell": (2, 2)}, "supercell"),
        ({"method": "dfpt"}, "method"),
        ({"temperatures": (-1.0,)}, "temperatures"),
        ({"imaginary_below": 1.0}, "imaginary_below"),
    ],
)
def test_options_that_make_no_sense_are_refused(potential, options, named):
    with pytest.raises(MlipError, match=named):
        phonons(bulk("Cu"), potential, progress=False, **options)


def test_a_calculator_has_no_exact_derivatives():
    with pytest.raises(MlipError, match="method=displacements"):
        phonons(bulk("Cu"), "ase:ase.calculators.emt:EMT", method="hessian", progress=False)
