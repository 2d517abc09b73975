"""`potential.energy_fn`: the same energies, forces and stresses as through every other door, in pure JAX."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111, molecule

import mlip
from mlip.models.m3gnet import M3GNetConfig
from mlip.models.mace import MACEConfig
from mlip.network import init_parameters
from mlip.potential import PotentialMetadata
from mlip.units import VOIGT

ELEMENTS = ("H", "O", "Al", "Cu")
CONFIGS = {
    "m3gnet": M3GNetConfig(units=8, n_blocks=1, cutoff=4.0, three_body_cutoff=3.2, max_n=2, max_l=2),
    "mace": MACEConfig(
        elements=(1, 8, 13, 29),
        cutoff=4.0,
        channels=2,
        max_l=1,
        max_ell=2,
        correlation=2,
        n_bessel=4,
        mean_neighbors=20.0,
    ),
}


def potential_of(config) -> mlip.Potential:
    energies = dict(zip(ELEMENTS, (-3.4, -4.9, -3.7, -4.1), strict=True))
    metadata = PotentialMetadata(reference_energies=energies, scale=1.7, shift=-0.2, functional="PBE")
    return mlip.Potential(config, init_parameters(config, seed=3), metadata)


@pytest.fixture(scope="module")
def potential() -> mlip.Potential:
    return potential_of(CONFIGS["m3gnet"])


@pytest.fixture(autouse=True)
def in_float64():
    with jax.enable_x64(True):
        yield


def rattled(atoms: Atoms, seed: int = 0) -> Atoms:
    atoms = atoms.copy()
    atoms.rattle(0.08, seed=seed)
    return atoms


def alloy() -> Atoms:
    atoms = bulk("Cu", cubic=True)
    atoms.symbols[0] = "Al"
    return rattled(atoms)


STRUCTURES = {
    "alloy": alloy(),
    "one atom": bulk("Al"),
    "slab": rattled(fcc111("Al", (1, 1, 3), vacuum=6.0)),
    "molecule": rattled(molecule("H2O")),
}


@pytest.mark.parametrize(
    ("model", "name"), [("mace", "alloy"), *(("m3gnet", name) for name in ("alloy", "one atom", "slab", "molecule"))]
)
def test_energy_forces_and_stress_equal_those_of_predict(model, name):
    potential = potential_of(CONFIGS[model])
    atoms = STRUCTURES[name]
    (expected,) = potential.predict([atoms], dtype="float64")
    energy = potential.energy_fn(atoms)
    zero = jnp.zeros((3, 3))
    value, (gradient, on_strain) = jax.jit(jax.value_and_grad(energy, argnums=(0, 1)))(atoms.positions, zero)
    np.testing.assert_allclose(value, expected["energy"], rtol=0, atol=1e-9)
    np.testing.assert_allclose(-gradient, expected["forces"], rtol=0, atol=1e-9)
    if atoms.cell.rank == 3:
        stress = np.array([0.5 * (on_strain[i, j] + on_strain[j, i]) for i, j in VOIGT]) / atoms.get_volume()
        np.testing.assert_allclose(stress, expected["stress"], rtol=0, atol=1e-9)


def test_strain_deforms_atoms_and_cell(potential):
    atoms = alloy()
    strain = np.array([[0.01, 0.004, 0.0], [0.0, -0.01, 0.002], [0.003, 0.0, 0.005]])
    deformed = atoms.copy()
    deformed.set_cell(atoms.cell @ (np.eye(3) + strain), scale_atoms=True)
    (expected,) = potential.predict([deformed], dtype="float64")
    energy = potential.energy_fn(atoms)
    assert energy.is_list_complete(atoms.positions, strain)
    np.testing.assert_allclose(energy(atoms.positions, strain), expected["energy"], rtol=0, atol=1e-9)


def test_vmap_goes_over_positions_and_stays_exact_within_the_skin(potential):
    atoms = alloy()
    energy = potential.energy_fn(atoms, skin=1.0)
    images = [rattled(atoms, seed) for seed in range(1, 5)]
    assert all(energy.is_list_complete(image.positions) for image in images)
    energies = jax.vmap(energy)(np.stack([image.positions for image in images]))
    expected = [prediction["energy"] for prediction in potential.predict(images, dtype="float64")]
    np.testing.assert_allclose(energies, expected, rtol=0, atol=1e-9)


def test_a_new_list_takes_atoms_farther_without_compiling(potential):
    atoms = alloy()
    energy = potential.energy_fn(atoms, skin=0.1)
    moved = rattled(atoms, seed=7)
    moved.positions[1] += 0.3
    assert not energy.is_list_complete(moved.positions)
    assert energy.is_list_complete(moved.positions, neighbor=energy.neighbor_list(moved.positions))
    compiled = jax.jit(energy)
    compiled(atoms.positions, neighbor=energy.list)
    value = compiled(moved.positions, neighbor=energy.neighbor_list(moved.positions))
    (expected,) = potential.predict([moved], dtype="float64")
    np.testing.assert_allclose(value, expected["energy"], rtol=0, atol=1e-9)
    assert compiled._cache_size() == 1


def test_gradient_with_respect_to_parameters_is_the_finite_difference(potential):
    atoms = alloy()
    energy = potential.energy_fn(atoms)
    params = potential.cast("float64")
    rng = np.random.default_rng(0)
    direction = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape), params)
    gradient = jax.grad(lambda p: energy(atoms.positions, params=p))(params)
    slope = sum(jax.tree.leaves(jax.tree.map(lambda g, d: jnp.sum(g * d), gradient, direction)))

    def along(step: float) -> float:
        moved = jax.tree.map(lambda leaf, d: leaf + step * d, params, direction)
        return float(energy(atoms.positions, params=moved))

    np.testing.assert_allclose(slope, (along(1e-5) - along(-1e-5)) / 2e-5, rtol=1e-6)


def test_it_is_float32_for_float32_positions(potential):
    atoms = alloy()
    value = potential.energy_fn(atoms)(jnp.asarray(atoms.positions, jnp.float32))
    (expected,) = potential.predict([atoms], dtype="float64")
    assert value.dtype == jnp.float32
    np.testing.assert_allclose(value, expected["energy"], rtol=1e-5)


def test_too_dense_a_structure_is_refused_with_the_way_out(potential):
    atoms = alloy()
    energy = potential.energy_fn(atoms, skin=0.0)
    with pytest.raises(mlip.MlipError, match=r"room for \d+ .*make a new one"):
        energy.neighbor_list(STRUCTURES["alloy"].positions * 0.5)


@pytest.mark.parametrize(
    ("structure", "what"), [(bulk("Xe", "fcc", a=6.2), "does not know Xe"), ([alloy(), alloy()], "2 structures")]
)
def test_what_cannot_be_evaluated_is_named(potential, structure, what):
    with pytest.raises(mlip.MlipError, match=what):
        potential.energy_fn(structure)
