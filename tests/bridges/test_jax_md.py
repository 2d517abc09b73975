"""jax-md sees the energies, forces and stresses that ASE sees, and moves atoms by them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.units import fs, kB

import mlip
import mlip.runtime
from mlip.models.m3gnet import M3GNetConfig
from mlip.network import init_parameters
from mlip.potential import PotentialMetadata
from mlip.units import voigt_from_tensor

pytest.importorskip("jax_md", reason="needs jax-md (pip install jax-md)")

from jax_md import quantity, simulate, space


@pytest.fixture(scope="module")
def potential() -> mlip.Potential:
    config = M3GNetConfig(units=8, n_blocks=1, cutoff=4.0, three_body_cutoff=3.2, max_n=2, max_l=2)
    metadata = PotentialMetadata(reference_energies={"Al": -3.5, "Cu": -3.7}, scale=10.0)
    return mlip.Potential(config, init_parameters(config, seed=1), metadata)


@pytest.fixture(autouse=True)
def in_float64():
    with jax.enable_x64(True):
        yield


def alloy() -> Atoms:
    atoms = bulk("Cu", cubic=True)
    atoms.symbols[0] = "Al"
    atoms.set_cell(atoms.cell @ np.array([[1.01, 0.02, 0], [0, 0.99, 0.01], [0, 0, 1.0]]), scale_atoms=True)
    atoms.rattle(0.08, seed=0)
    return atoms


def test_forces_stress_and_pressure_are_those_of_predict(potential):
    atoms = alloy()
    energy, positions, box = potential.energy_fn(atoms), jnp.asarray(atoms.positions), jnp.asarray(atoms.cell.array.T)
    (expected,) = potential.predict([atoms], dtype="float64")
    np.testing.assert_allclose(quantity.force(energy)(positions), expected["forces"], rtol=0, atol=1e-9)
    stress = -quantity.stress(energy, positions, box)  # jax-md's is compressive where ASE's is tensile
    np.testing.assert_allclose(voigt_from_tensor(np.asarray(stress)), expected["stress"], rtol=0, atol=1e-9)
    pressure = quantity.pressure(energy, positions, box)
    np.testing.assert_allclose(pressure, -expected["stress"][:3].mean(), rtol=0, atol=1e-9)


def test_dynamics_keep_the_energy_while_lists_are_made_anew(potential):
    atoms = alloy()
    energy = potential.energy_fn(atoms, skin=0.7)  # beyond the third shell
    _, shift = space.free()
    init, step = simulate.nve(energy, shift, dt=2.0 * fs)
    step = jax.jit(step)
    state = init(jax.random.key(0), jnp.asarray(atoms.positions), kT=600 * kB, mass=jnp.asarray(atoms.get_masses()))

    neighbor, n_lists, kinetic, total = energy.neighbor_list(state.position), 0, [], []
    for _ in range(150):
        if not energy.is_list_complete(state.position, neighbor=neighbor):
            neighbor, n_lists = energy.neighbor_list(state.position), n_lists + 1
        state = step(state, neighbor=neighbor)
        kinetic.append(float(quantity.kinetic_energy(momentum=state.momentum, mass=state.mass)))
        total.append(float(energy(state.position, neighbor=neighbor)) + kinetic[-1])
    assert not energy.is_list_complete(state.position)  # the first list would not have done
    assert 1 <= n_lists < 50
    assert np.ptp(total) < 0.01 * np.ptp(kinetic)
    assert step._cache_size() == 1
    moved = Atoms(atoms.numbers, np.asarray(state.position), cell=atoms.cell, pbc=True)
    (expected,) = potential.predict([moved], dtype="float64")
    np.testing.assert_allclose(energy(state.position, neighbor=neighbor), expected["energy"], rtol=0, atol=1e-9)


def test_a_box_that_is_not_the_cell_is_refused(potential):
    atoms = alloy()
    energy = potential.energy_fn(atoms)
    with pytest.raises(mlip.MlipError, match=r"^box: is not the cell"):
        quantity.pressure(energy, jnp.asarray(atoms.positions), 1.1 * jnp.asarray(atoms.cell.array.T))
    with pytest.raises(mlip.MlipError, match=r"^box: is not the cell"):
        jax.jit(energy)(atoms.positions, box=atoms.cell.array.T)
