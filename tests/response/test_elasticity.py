"""Elastic tensors are second derivatives of the energy, with the symmetry of the crystal, in the axes of the input."""

import jax
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, mx2
from ase.constraints import FixAtoms
from pymatgen.core.elasticity import DeformedStructureSet, ElasticTensor
from pymatgen.io.ase import AseAtomsAdaptor
from scipy.spatial.transform import Rotation

from mlip.errors import MlipError
from mlip.response import elastic_tensor
from mlip.response.elastic_moduli import moduli, rotated, symmetrized
from mlip.response.strains import Strains, point_group, representatives
from mlip.units import EV_PER_A3_IN_GPA, VOIGT

SMALL = {"normal_strains": (-1e-3, 1e-3), "shear_strains": (-1e-3, 1e-3), "fmax": 1e-6}
"""Where third order is below 1e-5 of the slope."""


def of_second_derivatives(potential, atoms: Atoms, relax_ions: bool) -> np.ndarray:
    """The tensor without a step: d2E/de2, less what the ions give way, GPa."""
    with jax.enable_x64(True):
        energy = potential.energy_fn(atoms)
        units = np.zeros((6, 3, 3))
        for unit, (i, j) in zip(units, VOIGT, strict=True):
            unit[i, j] += 0.5
            unit[j, i] += 0.5

        def of(moves):
            strain = jax.numpy.tensordot(moves[:6], units, axes=1)
            return energy(atoms.positions + moves[6:].reshape(-1, 3), strain)

        second = np.asarray(jax.hessian(of)(np.zeros(6 + 3 * len(atoms))))
    tensor = second[:6, :6]
    if relax_ions:
        tensor = tensor - second[:6, 6:] @ np.linalg.pinv(second[6:, 6:], rcond=1e-8) @ second[6:, :6]
    return EV_PER_A3_IN_GPA * tensor / abs(atoms.cell.volume)


@pytest.mark.parametrize("relax_ions", [True, False])
def test_tensors_are_second_derivatives_of_the_energy(potential, crystals, relax_ions):
    results = elastic_tensor(crystals.values(), potential, relax_ions=relax_ions, progress=False, **SMALL)
    for name, result in zip(crystals, results, strict=True):
        assert result.reason in ("ok", "unstable"), f"{name}: {result.message}"
        exact = of_second_derivatives(potential, result.atoms, relax_ions)
        np.testing.assert_allclose(result.tensor, exact, atol=2e-4 * np.abs(exact).max(), err_msg=name)


def test_ions_that_give_way_make_a_crystal_softer(potential, crystals):
    atoms = crystals["no_symmetry"]
    free, clamped = (elastic_tensor(atoms, potential, relax_ions=ions, progress=False)[0] for ions in (True, False))
    assert np.linalg.eigvalsh(clamped.tensor - free.tensor).min() > -1e-2
    assert clamped.shear_modulus > 1.1 * free.shear_modulus


def test_default_strains_give_the_derivative_within_one_percent_of_the_largest_constant(potential, crystals):
    for result in elastic_tensor(crystals.values(), potential, progress=False):
        exact = of_second_derivatives(potential, result.atoms, relax_ions=True)
        np.testing.assert_allclose(result.tensor, exact, atol=1e-2 * exact.max())


def test_float32_would_cost_digits(potential):
    """Why float64 is the default: of a soft direction float32's stresses leave three digits."""
    copper = bulk("Cu", a=3.6)
    strains = {"normal_strains": (-1e-3, 1e-3), "shear_strains": (-1e-3, 1e-3)}
    exact, single = (
        elastic_tensor(copper, potential, dtype=dtype, progress=False, **strains)[0] for dtype in ("float64", "float32")
    )
    error = np.abs(single.tensor - exact.tensor).max()
    assert 1e-5 < error < 1.0  # GPa


def test_the_tensor_of_a_turned_crystal_is_the_turned_tensor(potential, crystals):
    turn = Rotation.from_euler("zyx", [31, -47, 113], degrees=True).as_matrix()
    for name in ("hexagonal", "no_symmetry"):
        atoms, turned = crystals[name], crystals[name].copy()
        turned.set_cell(atoms.cell.array @ turn.T, scale_atoms=True)
        one, other = elastic_tensor([atoms, turned], potential, progress=False, **SMALL)
        np.testing.assert_allclose(other.tensor, rotated(one.tensor, turn), atol=2e-4 * one.tensor.max())
        assert other.bulk_modulus == pytest.approx(one.bulk_modulus, rel=1e-4)
        assert other.shear_modulus == pytest.approx(one.shear_modulus, rel=1e-4)


def test_symmetry_saves_strains_and_changes_nothing(potential, crystals):
    atoms = [crystals["one_atom"], crystals["hexagonal"], crystals["no_symmetry"]]
    fewer, all_strains = (elastic_tensor(atoms, potential, symmetry=flag, progress=False) for flag in (True, False))
    assert [result.n_strains for result in fewer] == [6, 18, 24]
    assert [result.n_strains for result in all_strains] == [24, 24, 24]
    for one, other in zip(fewer, all_strains, strict=True):
        np.testing.assert_allclose(one.tensor, other.tensor, atol=2e-3 * one.tensor.max())
    cubic = fewer[0].tensor
    np.testing.assert_allclose(cubic[0, 0], [cubic[1, 1], cubic[2, 2]], rtol=1e-10)
    np.testing.assert_allclose(cubic[3, 3], [cubic[4, 4], cubic[5, 5]], rtol=1e-10)
    np.testing.assert_allclose(cubic[:3, 3:], 0, atol=1e-10)
    hexagonal = fewer[1].tensor
    assert hexagonal[5, 5] == pytest.approx((hexagonal[0, 0] - hexagonal[0, 1]) / 2, rel=1e-4)


def test_every_strain_is_the_image_of_the_one_that_is_computed_for_it():
    strains = Strains.of((-0.01, 0.01), (-0.03, 0.03)).tensors
    group = point_group(bulk("Mg"))
    assert len(group) == 24
    chosen, operations = representatives(strains, group)
    images = operations @ strains[chosen] @ np.swapaxes(operations, -1, -2)
    np.testing.assert_allclose(images, strains, atol=1e-9)
    assert (chosen <= np.arange(len(strains))).all()


def test_large_strains_follow_the_convention_of_pymatgen(potential):
    """Stress by stress as the Materials Project takes them: Cauchy, for upper triangular deformations."""
    atoms = elastic_tensor(bulk("Mg"), potential, fmax=1e-6, progress=False)[0].atoms
    deformed = DeformedStructureSet(
        AseAtomsAdaptor.get_structure(atoms), norm_strains=(-0.01, 0.01), shear_strains=(-0.06, 0.06)
    )
    predicted = potential.predict(list(deformed), dtype="float64")
    stresses = [one["stress"] for one in predicted]
    tensor = np.zeros((6, 6))
    for k, place in enumerate((0, 1, 2, 5, 4, 3)):  # pymatgen's order: xx yy zz xy xz yz
        slope = stresses[2 * k + 1] - stresses[2 * k]
        tensor[:, place] = slope / (0.02 if place < 3 else 4 * 0.06)
    told = {"normal_strains": (-0.01, 0.01), "shear_strains": (-0.06, 0.06), "relax_ions": False, "relax": False}
    result = elastic_tensor(atoms, potential, symmetry=False, progress=False, **told)[0]
    expected = EV_PER_A3_IN_GPA * (tensor + tensor.T) / 2
    np.testing.assert_allclose(result.tensor, expected, atol=1e-6 * expected.max())


def test_moduli_are_those_of_pymatgen():
    rng = np.random.default_rng(3)
    half = rng.normal(size=(6, 6))
    tensor = 100 * np.eye(6) + 10 * half @ half.T
    known, found = ElasticTensor.from_voigt(tensor), moduli(tensor)
    assert found["bulk_voigt"] == pytest.approx(known.k_voigt)
    assert found["bulk_reuss"] == pytest.approx(known.k_reuss)
    assert found["shear_voigt"] == pytest.approx(known.g_voigt)
    assert found["shear_reuss"] == pytest.approx(known.g_reuss)
    assert found["bulk_hill"] == pytest.approx(known.k_vrh)
    assert found["shear_hill"] == pytest.approx(known.g_vrh)
    assert found["poisson"] == pytest.approx(known.homogeneous_poisson)
    assert found["anisotropy"] == pytest.approx(known.universal_anisotropy)


def test_a_tensor_symmetrized_by_a_structure_is_that_of_pymatgen():
    rng = np.random.default_rng(4)
    tensor = rng.normal(size=(6, 6))
    tensor += tensor.T
    atoms = bulk("Mg")
    known = ElasticTensor.from_voigt(tensor).fit_to_structure(AseAtomsAdaptor.get_structure(atoms))
    np.testing.assert_allclose(symmetrized(tensor, point_group(atoms)), known.voigt, atol=1e-10)


def test_a_crystal_that_shears_away_is_unstable(potential):
    """Pairs alone do not hold rocksalt."""
    (result,) = elastic_tensor(bulk("NaCl", "rocksalt", a=5.6), potential, progress=False)
    assert result.reason == "unstable"
    assert not result.failed
    assert result.stiffnesses[0] < 0 < result.bulk_modulus
    assert "eigenvalue" in result.message


def test_what_has_no_tensor_is_a_record_with_its_reason_and_nothing_is_modified(potential):
    held = bulk("Cu", a=3.6, cubic=True)
    held.set_constraint(FixAtoms([0]))
    layer = mx2("MoS2", vacuum=8.0)
    layer.pbc = (True, True, False)
    structures = [bulk("Cu", a=3.6), held, layer, bulk("No", "fcc", a=5.0), Atoms("Cu2", [[0, 0, 0], [2.3, 0, 0]])]
    before = [atoms.copy() for atoms in structures]
    results = elastic_tensor(structures, potential, progress=False)
    assert [result.reason for result in results] == ["ok", "error", "error", "error", "error"]
    assert [result.failed for result in results] == [False, True, True, True, True]
    assert "constraints" in results[1].message
    assert "open directions" in results[2].message
    assert "No" in results[3].message
    assert structures == before
    assert structures[1].constraints
    table = results.to_dataframe()
    assert table.reason.tolist()[0] == "ok"
    assert table.bulk_modulus.isna().tolist() == [False, True, True, True, True]


def test_too_few_steps_are_told_and_the_tensor_is_of_what_was_reached(potential, crystals):
    (result,) = elastic_tensor(crystals["no_symmetry"], potential, steps=1, progress=False)
    assert result.reason == "not_converged"
    assert not result.failed
    assert "after 1 steps" in result.message


def test_any_calculator_of_ase_has_a_tensor():
    (result,) = elastic_tensor(bulk("Cu", a=3.6), "ase:ase.calculators.emt:EMT", progress=False)
    np.testing.assert_allclose(result.tensor[[0, 0, 3], [0, 1, 3]], [172, 116, 90], atol=5)  # EMT's copper, GPa


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"shear_strains": (0.0, 0.1)}, "shear_strains"),
        ({"normal_strains": (0.5,)}, "normal_strains"),
        ({"normal_strains": ()}, "normal_strains"),
        ({"sheer_strains": (0.1,)}, "did you mean shear_strains"),
        ({"fmax": -1}, "fmax"),
    ],
)
def test_options_that_make_no_sense_are_refused(potential, options, named):
    with pytest.raises(MlipError, match=named):
        elastic_tensor(bulk("Cu"), potential, progress=False, **options)
