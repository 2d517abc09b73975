"""Our paths and end points against ASE's FIRE with FrechetCellFilter, the same potential behind both."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111
from ase.constraints import FixAtoms, FixCartesian, FixedLine, FixedPlane, FixScaled, FixSymmetry
from ase.units import GPa
from ase_paths import ase_path, assert_same_ends, assert_same_paths

import mlip
from mlip.errors import MlipError


def test_first_twenty_steps_of_crystals_are_those_of_ase(crystals, potential):
    structures = list(crystals.values())
    paths = [ase_path(atoms, potential) for atoms in structures]
    assert_same_paths(structures, paths, potential)


@pytest.mark.parametrize("mask", [(1, 1, 0, 0, 0, 1), (1, 1, 1, 0, 0, 0), (0, 0, 1, 0, 0, 0)])
def test_first_twenty_steps_with_a_masked_cell_are_those_of_ase(crystals, potential, mask):
    structures = [crystals[name] for name in ("rocksalt", "left_handed", "skewed")]
    paths = [ase_path(atoms, potential, mask=np.array(mask)) for atoms in structures]
    assert_same_paths(structures, paths, potential, cell=mask)


def test_first_twenty_steps_at_a_fixed_cell_are_those_of_ase(crystals, potential):
    structures = [crystals["perovskite"], crystals["hcp"]]
    paths = [ase_path(atoms, potential, with_cell=False) for atoms in structures]
    assert_same_paths(structures, paths, potential, cell=False)


@pytest.mark.parametrize("pressure", [30.0, -1.0])
def test_paths_under_pressure_and_tension_are_those_of_ase(crystals, potential, pressure):
    structures = [crystals[name] for name in ("rocksalt", "left_handed", "hcp")]
    paths = [ase_path(atoms, potential, scalar_pressure=pressure * GPa) for atoms in structures]
    assert_same_paths(structures, paths, potential, pressure_gpa=pressure)


def test_ends_under_pressure_are_those_of_ase(crystals, potential):
    structures = [crystals["rocksalt"], crystals["hcp"]]
    assert_same_ends(structures, potential, {"scalar_pressure": 30 * GPa}, pressure_gpa=30.0)


def test_pressure_along_one_axis_is_that_of_ase(crystals, potential):
    mask = np.array([0, 0, 1, 0, 0, 0])
    structures = [crystals["perovskite"]]
    paths = [ase_path(atoms, potential, mask=mask, scalar_pressure=10 * GPa) for atoms in structures]
    assert_same_paths(structures, paths, potential, cell=mask, pressure_gpa=10.0)


def test_a_crystal_relaxed_under_pressure_has_that_pressure(crystals, potential):
    (result,) = mlip.relax(
        [crystals["rocksalt"]], potential, fmax=1e-4, pressure_gpa=20.0, dtype="float64", progress=False
    )
    np.testing.assert_allclose(result.atoms.get_stress() / GPa, [-20, -20, -20, 0, 0, 0], atol=1e-2)


def test_paths_and_ends_at_constant_volume_are_those_of_ase(crystals, potential):
    structures = [crystals[name] for name in ("wurtzite", "left_handed", "skewed")]
    cell = {"constant_volume": True}
    paths = [ase_path(atoms, potential, **cell) for atoms in structures]
    assert_same_paths(structures, paths, potential, constant_volume=True)
    assert_same_ends(structures, potential, cell, constant_volume=True)
    for atoms, result in zip(
        structures, mlip.relax(structures, potential, constant_volume=True, progress=False), strict=True
    ):
        assert result.atoms.get_volume() == pytest.approx(atoms.get_volume(), rel=1e-5)  # float32


def test_a_layer_at_constant_volume_keeps_its_area(low_dimensional, potential):
    layer = low_dimensional["layer"]
    (result,) = mlip.relax([layer], potential, constant_volume=True, dtype="float64", progress=False)
    old, new = (np.cross(*atoms.cell.array[:2]) for atoms in (layer, result.atoms))
    np.testing.assert_allclose(new, old, atol=1e-9)
    assert np.abs(result.atoms.cell.array[:2] - layer.cell.array[:2]).max() > 0.001
    np.testing.assert_array_equal(result.atoms.cell[2], layer.cell[2])


def test_pressures_without_sense_are_refused(crystals, low_dimensional, potential):
    for structure, options, message in (
        (crystals["rocksalt"], {"pressure_gpa": float("nan")}, "pressure_gpa: is nan"),
        (crystals["rocksalt"], {"pressure_gpa": 1.0, "constant_volume": True}, "no effect at constant volume"),
        (crystals["rocksalt"], {"pressure_gpa": 1.0, "cell": False}, "no effect at constant volume"),
        (low_dimensional["layer"], {"pressure_gpa": 1.0}, "structure 0: open directions have no pressure"),
    ):
        with pytest.raises(MlipError, match=message):
            mlip.relax([structure], potential, **options)


def test_layers_and_chains_relax_along_their_periodic_directions_as_in_ase(low_dimensional, potential):
    masks = {"layer": (1, 1, 0, 0, 0, 1), "chain_along_z": (0, 0, 1, 0, 0, 0)}
    structures = [low_dimensional[name] for name in masks]
    paths = [
        ase_path(atoms, potential, mask=np.array(mask)) for atoms, mask in zip(structures, masks.values(), strict=True)
    ]
    assert_same_paths(structures, paths, potential)


def test_fixed_atoms_move_only_with_the_cell_as_in_ase(crystals, potential):
    atoms = crystals["perovskite"].copy()
    atoms.set_constraint(FixAtoms([0, 3]))
    assert_same_paths([atoms], [ase_path(atoms, potential)], potential)


SOME_DIRECTIONS = {
    "cartesian": [FixCartesian([0, 3], (True, False, True))],
    "plane": [FixedPlane([1, 2], (1, 1, 0))],
    "line": [FixedLine([4], (1, 2, 3)), FixAtoms([0])],
    "both": [FixedPlane([1], (0, 0, 1)), FixCartesian([1], (True, False, False))],
}


@pytest.mark.parametrize("with_cell", [True, False])
def test_paths_of_atoms_that_may_move_in_some_directions_are_those_of_ase(crystals, potential, with_cell):
    structures = [bulk("NaCl", "rocksalt", a=5.4, cubic=True) for _ in SOME_DIRECTIONS]
    for seed, (atoms, constraints) in enumerate(zip(structures, SOME_DIRECTIONS.values(), strict=True)):
        atoms.set_cell(atoms.cell.array + 0.05 * np.random.default_rng(seed).normal(size=(3, 3)), scale_atoms=True)
        atoms.rattle(0.05, seed=seed)
        atoms.set_constraint(constraints)
    structures.append(crystals["hcp"])  # without a constraint, in the same batch
    paths = [ase_path(atoms, potential, with_cell=with_cell) for atoms in structures]
    assert_same_paths(structures, paths, potential, cell=with_cell)


def test_paths_with_fixed_fractions_are_those_of_ase_in_cells_with_right_angles(potential):
    slab = fcc111("Cu", (1, 1, 4), vacuum=8, periodic=True)
    slab.rattle(0.05, seed=1)
    slab.set_constraint([FixScaled([k], (True, True, False)) for k in range(3)])
    assert_same_paths([slab], [ase_path(slab, potential, with_cell=False)], potential, cell=False)
    salt = bulk("NaCl", "rocksalt", a=5.3, cubic=True)
    salt.rattle(0.05, seed=2)
    salt.set_constraint([FixScaled([1, 2], (True, False, True)), FixScaled([5], (False, False, True))])
    mask = np.array([1, 1, 1, 0, 0, 0])
    assert_same_paths([salt], [ase_path(salt, potential, mask=mask)], potential, cell=mask)


def test_fixed_fractions_of_a_skewed_cell_end_where_the_energy_is_least_along_the_free_vector(potential):
    atoms = bulk("NaCl", "rocksalt", a=5.4) * (2, 1, 1)
    atoms.rattle(0.1, seed=3)
    atoms.set_constraint([FixScaled([0, 1, 2], (True, True, True)), FixScaled([3], (True, False, True))])
    (result,) = mlip.relax(atoms, potential, cell=False, fmax=1e-5, dtype="float64", progress=False)
    assert result.converged
    moved = (result.atoms.positions - atoms.positions) @ np.linalg.inv(atoms.cell.array)
    assert abs(moved[3, 1]) > 1e-3
    moved[3, 1] = 0
    np.testing.assert_allclose(moved, 0, atol=1e-9)
    assert abs(result.atoms.get_forces(apply_constraint=False)[3] @ atoms.cell.array[1]) < 1e-4


def test_directions_beside_a_symmetry_are_refused_by_name(potential):
    atoms = bulk("NaCl", "rocksalt", a=5.4, cubic=True)
    atoms.set_constraint(FixScaled([0], (True, True, False)))
    (result,) = mlip.relax(atoms, potential, symmetry=True, progress=False)
    assert result.reason == "error"
    assert "together with a symmetry" in result.message


def test_a_hydrostatic_cell_takes_the_path_of_ase_and_keeps_its_shape(crystals, potential):
    structures = [crystals[name] for name in ("wurtzite", "left_handed", "skewed")]
    paths = [ase_path(atoms, potential, hydrostatic_strain=True) for atoms in structures]
    assert_same_paths(structures, paths, potential, cell="hydrostatic")
    (result,) = mlip.relax(structures[0], potential, cell="hydrostatic", dtype="float64", progress=False)
    scaled = result.atoms.cell.array / structures[0].cell.array
    np.testing.assert_allclose(scaled, scaled[0, 0], rtol=1e-9)


def test_a_hydrostatic_layer_changes_its_area_alone(low_dimensional, potential):
    layer = low_dimensional["layer"]
    (result,) = mlip.relax(layer, potential, cell="hydrostatic", dtype="float64", progress=False)
    scale = result.atoms.cell.array[0, 0] / layer.cell.array[0, 0]
    assert abs(scale - 1) > 1e-4
    np.testing.assert_allclose(result.atoms.cell.array[:2], scale * layer.cell.array[:2], atol=1e-9)
    np.testing.assert_array_equal(result.atoms.cell.array[2], layer.cell.array[2])


def almost_symmetric(atoms: Atoms, strain: float = 0.97) -> Atoms:
    """Off equilibrium, its symmetry held by ASE's constraint, and broken by less than the constraint's tolerance:
    what the constraint does shows in the forces."""
    atoms.set_cell(strain * atoms.cell.array, scale_atoms=True)
    atoms.set_constraint(FixSymmetry(atoms))
    atoms.positions += 0.002 * np.random.default_rng(0).normal(size=atoms.positions.shape)
    return atoms


def test_paths_and_ends_with_fixed_symmetry_are_those_of_ase(potential):
    structures = [
        almost_symmetric(bulk("ZnO", "wurtzite", a=3.25, c=5.2)),
        almost_symmetric(bulk("CsCl", "cesiumchloride", a=4.1) * (1, 2, 1)),
        almost_symmetric(bulk("GaAs", "zincblende", a=5.6, cubic=True)),
        almost_symmetric(Atoms("C2", [[7, 7, 0], [7, 7.5, 1.3]], cell=[14, 15, 2.6], pbc=True)),
    ]
    paths = [ase_path(atoms, potential) for atoms in structures]
    assert_same_paths(structures, paths, potential)
    assert_same_ends(structures[:1], potential, {})


def test_fixed_symmetry_with_fixed_atoms_and_pressure_is_that_of_ase(potential):
    atoms = almost_symmetric(bulk("GaAs", "zincblende", a=5.6, cubic=True))
    gallium = FixAtoms([atom.index for atom in atoms if atom.symbol == "Ga"])
    atoms.set_constraint([*atoms.constraints, gallium])
    assert_same_paths([atoms], [ase_path(atoms, potential, scalar_pressure=5 * GPa)], potential, pressure_gpa=5.0)


def test_structures_with_and_without_fixed_symmetry_share_a_batch(crystals, potential):
    structures = [crystals["rocksalt"], almost_symmetric(bulk("ZnO", "wurtzite", a=3.25, c=5.2)), crystals["hcp"]]
    assert_same_paths(structures, [ase_path(atoms, potential) for atoms in structures], potential)


def test_end_points_are_those_of_ase_in_energy_cell_and_number_of_steps(crystals, potential):
    assert_same_ends(list(crystals.values()), potential, {})
