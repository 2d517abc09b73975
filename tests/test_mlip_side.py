"""benchmarks/sides/mlip_side.py: what is timed is what users run, for MACE as for M3GNet."""

import sys
import tempfile
from pathlib import Path

import ase.io
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator

sys.path += [str(Path(__file__).parents[1] / "benchmarks"), str(Path(__file__).parents[1] / "benchmarks" / "sides")]
import mlip_side
from random_potential import random_potential

from mlip.energy_gradient import energies_forces_stress
from mlip.models.m3gnet import M3GNetConfig
from mlip.models.mace import MACEConfig
from mlip.units import EV_PER_A3_IN_GPA

CONFIGS = {
    "m3gnet": M3GNetConfig(units=4, n_blocks=1, max_n=2, max_l=2),
    "mace": MACEConfig(
        elements=(28, 29), channels=4, max_ell=1, correlation=2, n_bessel=3, radial_hidden=(8,), cutoff=4.5
    ),
}


@pytest.fixture(scope="module")
def structures(tmp_path_factory) -> str:
    """Two labeled frames of one strained cell."""
    rng = np.random.default_rng(0)
    frames = []
    for _ in range(2):
        atoms = bulk("CuNi", "zincblende", a=5.2)
        atoms.positions += rng.normal(scale=0.05, size=(2, 3))
        atoms.calc = EMT()
        results = {"energy": atoms.get_potential_energy(), "forces": atoms.get_forces(), "stress": atoms.get_stress()}
        atoms.calc = SinglePointCalculator(atoms, **results)
        frames.append(atoms)
    path = tmp_path_factory.mktemp("side") / "frames.extxyz"
    ase.io.write(path, frames)
    return str(path)


@pytest.mark.parametrize("name", ["mace", pytest.param("m3gnet", marks=pytest.mark.slow)])
def test_every_task_runs_and_those_that_tell_results_agree(name, structures):
    potential = random_potential(CONFIGS[name], scale=10.0)
    calculator, predict = mlip_side.calculator(potential, structures), mlip_side.predict(potential, structures)
    np.testing.assert_allclose(calculator.check["energy"][0], predict.check["energy"][0], rtol=1e-5)
    np.testing.assert_allclose(calculator.check["forces"], predict.check["forces"][:2], atol=1e-4)
    model, training = mlip_side.model(potential, structures), mlip_side.training_step(potential, structures)
    n_bytes = 4 * potential.n_parameters
    assert n_bytes < model.memory < training.memory, "training holds moments of the gradient and activations"
    assert training.check["gradient_norm"] > 0
    labels = np.array([atoms.get_potential_energy() for atoms in ase.io.read(structures, ":")])
    errors = np.abs(np.array(predict.check["energy"]) - labels) / 2
    np.testing.assert_allclose(training.check["energy_mae"], errors.mean(), rtol=1e-4)
    for job in (calculator, predict, model, training):
        job.run()


def test_a_training_step_has_the_gradient_of_the_loss_that_the_peers_compute(structures):
    """Means of squares over energies per atom, forces, and nine components of the stress in GPa, with 1, 1, 0.1."""
    potential = random_potential(CONFIGS["mace"], scale=10.0)
    frames = ase.io.read(structures, ":")
    with tempfile.TemporaryDirectory() as folder:
        of_devices = mlip_side._training_batch(potential, frames, Path(folder) / "store.h5")
    batch = jax.tree.map(lambda array: jnp.asarray(array[0]), of_devices)
    energies = np.array([atoms.get_potential_energy() for atoms in frames])
    forces = np.concatenate([atoms.get_forces() for atoms in frames])
    stresses = np.array([atoms.get_stress(voigt=False) for atoms in frames])
    order = np.argsort(batch.globals["frame"][: len(frames)])  # the loader shuffles
    assert list(order) in ([0, 1], [1, 0])

    def loss(params):
        found = energies_forces_stress(potential.model, params, batch, potential.metadata.scale, 0.0)
        xx, yy, zz, yz, xz, xy = found.stress[:2][order].T
        tensors = jnp.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]]).transpose(2, 0, 1)
        of_atoms = found.forces[:4].reshape(2, 2, 3)[order].reshape(4, 3)
        return (
            jnp.mean(((found.energy[:2][order] - energies) / 2) ** 2)
            + jnp.mean((of_atoms - forces) ** 2)
            + 0.1 * jnp.mean(((tensors - stresses) * EV_PER_A3_IN_GPA) ** 2)
        )

    gradient = jax.jit(jax.grad(loss))(potential.params)
    norm = np.sqrt(sum(np.sum(np.square(leaf)) for leaf in jax.tree.leaves(gradient)))
    assert mlip_side.training_step(potential, structures).check["gradient_norm"] == pytest.approx(norm, rel=1e-4)
