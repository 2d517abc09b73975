"""torch-sim sees the energies, forces and stresses that ASE sees."""

import numpy as np
import pytest
from ase.build import bulk

import mlip
from mlip.models.m3gnet import M3GNetConfig
from mlip.network import init_parameters
from mlip.potential import PotentialMetadata
from mlip.units import voigt_from_tensor

torch = pytest.importorskip("torch", reason="needs PyTorch")
torch_sim = pytest.importorskip("torch_sim", reason="needs torch-sim (pip install torch-sim-atomistic)")

from mlip.bridges.torch_sim import MLIPModel  # noqa: E402


@pytest.fixture(scope="module")
def potential() -> mlip.Potential:
    config = M3GNetConfig(units=8, n_blocks=1, cutoff=4.0, three_body_cutoff=3.2, max_n=2, max_l=2)
    energies = {"Si": -4.1, "Fe": -8.3, "Cu": -3.7, "Al": -3.5, "Mg": -1.5}
    return mlip.Potential(
        config, init_parameters(config, seed=1), PotentialMetadata(reference_energies=energies, scale=0.5)
    )


def structures():
    alloy = bulk("Cu", cubic=True)
    alloy.symbols[0] = "Al"
    alloy.set_cell(alloy.cell @ np.array([[1.01, 0.02, 0], [0, 0.99, 0.01], [0, 0, 1.0]]), scale_atoms=True)
    alloy.rattle(0.05, seed=0)
    return [alloy, bulk("Si"), bulk("Mg")]


def test_energies_forces_and_stresses_are_those_of_the_calculator(potential):
    state = torch_sim.initialize_state(structures(), torch.device("cpu"), torch.float64)
    found = {key: value.numpy() for key, value in MLIPModel(potential)(state).items()}
    first = 0
    for k, atoms in enumerate(structures()):
        atoms.calc = mlip.MLIPCalculator(potential, dtype="float64")
        np.testing.assert_allclose(found["energy"][k], atoms.get_potential_energy(), rtol=0, atol=1e-9)
        np.testing.assert_allclose(found["forces"][first : first + len(atoms)], atoms.get_forces(), rtol=0, atol=1e-9)
        np.testing.assert_allclose(voigt_from_tensor(found["stress"][k]), atoms.get_stress(), rtol=0, atol=1e-9)
        first += len(atoms)


def test_torch_sims_own_validation_passes(potential):
    from torch_sim.models.interface import validate_model_outputs

    validate_model_outputs(MLIPModel(potential), torch.device("cpu"), torch.float64)


def test_torch_sim_relaxes_with_it(potential):
    (start,) = structures()[:1]
    final = torch_sim.optimize(
        system=[start], model=MLIPModel(potential), optimizer=torch_sim.frechet_cell_fire, max_steps=15
    )
    before, after = potential.predict([start, *final.to_atoms()], dtype="float64")
    assert after["energy"] < before["energy"]
    np.testing.assert_allclose(float(final.energy[0]), after["energy"], rtol=0, atol=1e-8)
