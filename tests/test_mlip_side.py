"""benchmarks/sides/mlip_side.py: what is timed is what users run, for MACE as for M3GNet."""

import sys
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator

sys.path += [str(Path(__file__).parents[1] / "benchmarks"), str(Path(__file__).parents[1] / "benchmarks" / "sides")]
import mlip_side
from random_potential import random_potential

from mlip.models.m3gnet import M3GNetConfig
from mlip.models.mace import MACEConfig

CONFIGS = {
    "m3gnet": M3GNetConfig(units=4, n_blocks=1, max_n=2, max_l=2),
    "mace": MACEConfig(
        elements=(28, 29), channels=4, max_ell=1, correlation=2, n_bessel=3, radial_hidden=(8,), cutoff=4.5
    ),
}


@pytest.fixture(scope="module")
def structures(tmp_path_factory) -> str:
    """Two labelled frames of one strained cell."""
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
