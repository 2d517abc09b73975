"""M3GNet against the original's own numbers, and against the symmetries of physics."""

import ase.build
import ase.io
import jax
import numpy as np
import pytest
from ase.data import chemical_symbols

from mlip.convert import convert
from mlip.models.m3gnet import M3GNetConfig
from mlip.network import init_parameters
from mlip.potential import Potential, PotentialMetadata
from mlip.units import tensor_from_voigt


def converted(folder) -> Potential:
    """A published potential that also takes the elements it was not trained on, as the original code does."""
    potential = convert(folder)
    untrained = dict.fromkeys(chemical_symbols[1:95], 0.0)
    return potential.with_metadata(reference_energies=untrained | potential.metadata.reference_energies)


PUBLISHED = ["m3gnet", "m3gnet_alexandria_2d", "m3gnet_alexandria_pbesol"]


@pytest.fixture(scope="module")
def small_potential() -> Potential:
    """Random weights: symmetries hold for any."""
    config = M3GNetConfig(units=8, n_blocks=2)
    elements = {"Cu": -3.5, "O": -4.0, "Na": -1.0, "Cl": -2.0, "Si": -5.0, "H": -3.0}
    return Potential(config, init_parameters(config, seed=1), PotentialMetadata(reference_energies=elements, scale=2.0))


@pytest.fixture
def distorted_crystal():
    crystal = ase.build.bulk("NaCl", "rocksalt", a=5.64, cubic=True)
    crystal.rattle(0.1, seed=3)
    crystal.set_cell(
        crystal.cell.array @ (np.eye(3) + np.random.default_rng(0).normal(0, 0.03, (3, 3))), scale_atoms=True
    )
    return crystal


def test_published_size_has_227549_parameters():
    assert sum(leaf.size for leaf in jax.tree.leaves(init_parameters(M3GNetConfig()))) == 227_549


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_golden_structure_in_float64(shared, name):
    folder = shared / "goldens" / name
    structures = ase.io.read(folder / "structures.extxyz", ":")
    reference = np.load(folder / "reference_float64.npz")
    for structure, result in zip(structures, converted(folder).predict(structures, dtype="float64"), strict=True):
        key = structure.info["name"]
        # What is asked is 1e-6; what is left is rounding (forces reach 77 eV/A).
        assert abs(result["energy"] - reference[f"{key}/energy"]) / len(structure) < 1e-12, key
        np.testing.assert_allclose(result["forces"], reference[f"{key}/forces"], atol=1e-8, err_msg=key)
        stress = tensor_from_voigt(result["stress"])
        np.testing.assert_allclose(stress, reference[f"{key}/stress"], atol=1e-12, err_msg=key)


def test_every_golden_structure_in_float32(shared):
    folder = shared / "goldens/m3gnet"
    structures = ase.io.read(folder / "structures.extxyz", ":")
    reference = np.load(folder / "reference_float64.npz")
    for structure, result in zip(structures, converted(folder).predict(structures), strict=True):
        key = structure.info["name"]
        # The original's own float32 noise is 2e-6, 5e-5 and 9e-7 (spec).
        assert abs(result["energy"] - reference[f"{key}/energy"]) / len(structure) < 5e-6, key
        np.testing.assert_allclose(result["forces"], reference[f"{key}/forces"], atol=1e-4, err_msg=key)
        stress = tensor_from_voigt(result["stress"])
        np.testing.assert_allclose(stress, reference[f"{key}/stress"], atol=2e-6, err_msg=key)


def test_rotation_turns_forces_and_leaves_energy(small_potential, distorted_crystal):
    rotation, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))  # with or without a reflection
    rotated = distorted_crystal.copy()
    rotated.set_cell(distorted_crystal.cell.array @ rotation)
    rotated.positions = distorted_crystal.positions @ rotation
    before, after = small_potential.predict([distorted_crystal, rotated], dtype="float64")
    np.testing.assert_allclose(after["energies"], before["energies"], atol=1e-10)
    np.testing.assert_allclose(after["forces"], before["forces"] @ rotation, atol=1e-10)
    stress = tensor_from_voigt(before["stress"])
    np.testing.assert_allclose(tensor_from_voigt(after["stress"]), rotation.T @ stress @ rotation, atol=1e-10)


def test_translation_and_wrapping_change_nothing(small_potential, distorted_crystal):
    moved = distorted_crystal.copy()
    moved.positions += [0.7, -31.3, 12.9]
    wrapped = moved.copy()
    wrapped.wrap()
    results = small_potential.predict([distorted_crystal, moved, wrapped], dtype="float64")
    for other in results[1:]:
        np.testing.assert_allclose(other["energies"], results[0]["energies"], atol=1e-10)
        np.testing.assert_allclose(other["forces"], results[0]["forces"], atol=1e-10)


def test_permutation_permutes(small_potential, distorted_crystal):
    order = np.random.default_rng(2).permutation(len(distorted_crystal))
    before, after = small_potential.predict([distorted_crystal, distorted_crystal[order]], dtype="float64")
    np.testing.assert_allclose(after["energies"], before["energies"][order], atol=1e-10)
    np.testing.assert_allclose(after["forces"], before["forces"][order], atol=1e-10)


def test_a_supercell_has_the_energy_of_its_cells(small_potential, distorted_crystal):
    one, eight = small_potential.predict([distorted_crystal, distorted_crystal.repeat(2)], dtype="float64")
    assert eight["energy"] == pytest.approx(8 * one["energy"], abs=1e-9)
    np.testing.assert_allclose(eight["stress"], one["stress"], atol=1e-12)


@pytest.mark.parametrize("border", [4.0, 5.0])
def test_energy_and_forces_are_continuous_across_both_cutoffs(small_potential, border):
    def trimer(distance):
        return ase.Atoms("Cu3", [[0, 0, 0], [2.5, 0, 0], [0, 0, distance]])

    step = 1e-6
    inside, outside = small_potential.predict([trimer(border - step), trimer(border + step)], dtype="float64")
    # A smooth function of order one changes by a few steps; a jump would not shrink with the step.
    assert inside["energy"] == pytest.approx(outside["energy"], abs=100 * step)
    np.testing.assert_allclose(inside["forces"], outside["forces"], atol=100 * step)


def test_an_atom_beyond_the_cutoff_is_as_good_as_absent(small_potential):
    alone, with_far_one = small_potential.predict(
        [ase.Atoms("Cu2", [[0, 0, 0], [0, 0, 2.4]]), ase.Atoms("Cu2O", [[0, 0, 0], [0, 0, 2.4], [0, 0, -5.01]])]
    )
    np.testing.assert_allclose(with_far_one["energies"][:2], alone["energies"], atol=1e-6)


def test_angles_matter(small_potential):
    """The densities carry angles: bending at fixed bond lengths changes the energy, H-H being out of reach."""

    def water(angle):
        return ase.Atoms("OHH", [[0, 0, 0], [2.6, 0, 0], [2.6 * np.cos(angle), 2.6 * np.sin(angle), 0]])

    wide, wider = small_potential.predict([water(2.7), water(3.1)], dtype="float64")  # H-H at 5.07 and 5.20 A
    assert abs(wide["energies"][0] - wider["energies"][0]) > 1e-8  # a thousand times what rounding leaves
