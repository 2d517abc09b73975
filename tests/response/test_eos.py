"""Equations of state: the minimum that relaxation finds, the bulk modulus of the elastic tensor, ASE's curve."""

import numpy as np
import pytest
from ase.build import bulk
from ase.eos import EquationOfState
from ase.units import GPa

from mlip.errors import MlipError
from mlip.relaxation import relax
from mlip.response import elastic_tensor, equation_of_state
from mlip.response.birch_murnaghan import fit_birch_murnaghan


def birch_murnaghan(volumes, energy, volume, bulk_modulus, derivative):
    """The equation itself; the modulus in eV/A^3."""
    f = (volume / volumes) ** (2 / 3)
    return energy + 9 / 16 * volume * bulk_modulus * ((f - 1) ** 3 * derivative + (f - 1) ** 2 * (6 - 4 * f))


def test_the_fit_gives_back_the_curve_that_made_the_points():
    volumes = np.linspace(34, 47, 9)
    fit = fit_birch_murnaghan(volumes, birch_murnaghan(volumes, -10.8, 40.3, 97 * GPa, 4.2))
    assert fit.volume == pytest.approx(40.3, abs=1e-8)
    assert fit.energy == pytest.approx(-10.8, abs=1e-10)
    assert fit.bulk_modulus == pytest.approx(97, rel=1e-7)
    assert fit.derivative == pytest.approx(4.2, rel=1e-6)
    assert fit.residual < 1e-12
    np.testing.assert_allclose(fit.energies(volumes[2:3]), birch_murnaghan(volumes[2], -10.8, 40.3, 97 * GPa, 4.2))


def test_a_curve_without_a_minimum_has_none():
    volumes = np.linspace(34, 47, 9)
    assert np.isnan(fit_birch_murnaghan(volumes, -0.1 * volumes).volume)


def test_the_minimum_is_the_relaxed_structure_and_the_bulk_modulus_that_of_the_tensor(potential, crystals):
    curves = equation_of_state(crystals.values(), potential, volumes=np.linspace(0.96, 1.04, 7), progress=False)
    relaxed = relax(crystals.values(), potential, fmax=1e-3, dtype="float64", progress=False)
    tensors = elastic_tensor(crystals.values(), potential, progress=False)
    for name, curve, end, tensor in zip(crystals, curves, relaxed, tensors, strict=True):
        assert curve.reason == "ok", f"{name}: {curve.message}"
        assert curve.volume == pytest.approx(end.atoms.get_volume(), rel=1e-3)
        assert curve.energy == pytest.approx(end.energy, abs=1e-3)
        assert curve.residual < 1e-3 * len(end.atoms)
        if name in ("one_atom", "left_handed"):  # cubic: no other shape is lower
            assert curve.bulk_modulus == pytest.approx(tensor.bulk_modulus, rel=0.01)
        else:  # a shape that is held is stiffer
            assert curve.bulk_modulus > 0.99 * tensor.moduli["bulk_reuss"]


def test_a_shape_that_may_follow_gives_the_bulk_modulus_of_even_pressure(potential, crystals):
    atoms = crystals["no_symmetry"]
    curve = equation_of_state(
        atoms, potential, volumes=np.linspace(0.97, 1.03, 7), relax_shape=True, fmax=1e-4, progress=False
    )[0]
    tensor = elastic_tensor(atoms, potential, fmax=1e-4, progress=False)[0]
    assert curve.reason == "ok", curve.message
    assert curve.bulk_modulus == pytest.approx(tensor.moduli["bulk_reuss"], rel=0.02)


def test_the_curve_is_that_of_ase():
    copper = bulk("Cu", a=3.7)
    (result,) = equation_of_state(copper, "ase:ase.calculators.emt:EMT", progress=False)
    volume, energy, modulus = EquationOfState(result.volumes, result.energies, eos="birchmurnaghan").fit()
    assert result.reason == "ok"
    assert result.volume == pytest.approx(volume, rel=1e-5)
    assert result.energy == pytest.approx(energy, abs=1e-6)
    assert result.bulk_modulus == pytest.approx(modulus / GPa, rel=1e-3)


def test_a_minimum_outside_the_volumes_is_told_and_not_extrapolated(potential):
    squeezed = bulk("Cu", a=3.1)
    (result,) = equation_of_state(squeezed, potential, relax=False, progress=False)
    assert result.reason == "no_minimum"
    assert result.failed
    assert np.isnan(result.volume)
    assert np.isfinite(result.energies).all()
    assert "lowest point" in result.message
    assert squeezed == bulk("Cu", a=3.1)


def test_points_that_fail_are_named_and_left_out(potential):
    """Half the volume is a collapse."""
    ratios = (0.05**0.5, 0.94, 0.96, 0.98, 1.0, 1.02, 1.04)
    (result,) = equation_of_state(bulk("Cu", a=3.6), potential, volumes=ratios, progress=False)
    assert result.reason == "collapsed"
    assert "0.223607 of the volume" in result.message
    assert np.isnan(result.energies).tolist() == [True] + 6 * [False]
    assert np.isfinite(result.volume)


def test_what_has_no_curve_is_a_record_with_its_reason(potential):
    results = equation_of_state([bulk("No", "fcc", a=5.0), bulk("Cu", a=3.6)], potential, progress=False)
    assert [result.reason for result in results] == ["error", "ok"]
    assert results[0].failed
    assert results.to_dataframe().bulk_modulus.isna().tolist() == [True, False]


def test_four_volumes_are_too_few(potential):
    with pytest.raises(MlipError, match=r"volumes: .*five or more"):
        equation_of_state(bulk("Cu"), potential, volumes=(0.9, 1.0, 1.1, 1.2), progress=False)
