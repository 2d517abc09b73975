"""Every main program can be compiled for a GPU and a TPU: it is lowered for them here, for which none is needed."""

import jax
import numpy as np
import pytest
from ase.build import bulk

import mlip
from mlip.data import Frame
from mlip.energy_gradient import evaluate_batch
from mlip.graph.batching import Shape, pad_batch
from mlip.graph.labeled_graphs import EnergyLabels, labeled_graphs
from mlip.models import build_model
from mlip.models.alignn import ALIGNNConfig
from mlip.models.m3gnet import M3GNetConfig
from mlip.models.mace import MACEConfig
from mlip.network import init_parameters
from mlip.potential import Potential, PotentialMetadata
from mlip.property_model import property_outputs
from mlip.relaxation.batch import advance
from mlip.relaxation.step_programs import Programs
from mlip.training import parallel
from mlip.training.loop import new_state
from mlip.training.recipe import Recipe
from mlip.training.schedule import Plan
from mlip.training.step import train_step_of, validation_step_of
from mlip.training.task_of_recipe import task_of

CONFIGS = {
    "m3gnet": M3GNetConfig(units=8, n_blocks=1),
    "mace": MACEConfig(cutoff=4.0, elements=(14,), channels=4, max_l=1, mean_neighbors=20.0),
}


@pytest.fixture(params=["cuda", "tpu"])
def lowered(request):
    """A function: a jitted function and its arguments -> the text of its program for the accelerator."""

    def lower(function, *arguments) -> str:
        text = function.trace(*arguments).lower(lowering_platforms=(request.param,)).as_text()
        assert "lapack" not in text  # the CPU's library
        return text

    return lower


@pytest.fixture(scope="module", params=CONFIGS)
def potential(request) -> Potential:
    config = CONFIGS[request.param]
    shapes = jax.eval_shape(lambda: init_parameters(config))
    params = jax.tree.map(lambda leaf: np.full(leaf.shape, 0.1, leaf.dtype), shapes)
    return Potential(config, params, PotentialMetadata(reference_energies={"Si": 0.0}))


def labeled_batch(potential: Potential):
    atoms = bulk("Si")
    frame = Frame(atoms.numbers, atoms.positions, atoms.cell[:], atoms.pbc, -9.0, np.zeros((2, 3)), np.zeros(6))
    (graph,) = labeled_graphs([frame], potential.config.inputs, EnergyLabels(np.zeros(119)))
    return pad_batch([graph], Shape(3, len(graph.senders) + 5, 2))


def test_energies_forces_and_stress(potential, lowered):
    assert "dot_general" in lowered(evaluate_batch, potential.model, potential.params, labeled_batch(potential), 1, 0)


def test_steps_of_training_and_validation(potential, lowered):
    train = {"epochs": 1, "batch_size": 1, "learning_rate": 1e-3}
    task = task_of(Recipe(data={"store": "."}, model=potential.config, train=train, out="."))
    state, scale = parallel.replicate(new_state(task, potential.params)), parallel.replicate(np.float32(1.0))
    batch = jax.tree.map(lambda array: np.stack([array] * parallel.n_devices()), labeled_batch(potential))
    assert "dot_general" in lowered(train_step_of(task), state, batch, scale, Plan(task, 1).knobs(1))
    assert "dot_general" in lowered(validation_step_of(task), state.average, batch, scale)


def test_relaxation_with_and_without_symmetry(potential, lowered, monkeypatch):
    calls = []

    def remember(self, shape, device, arguments):
        calls.append(arguments)
        raise KeyboardInterrupt  # nothing is compiled or relaxed here

    monkeypatch.setattr(Programs, "_program", remember)
    for symmetry in (False, True):
        with pytest.raises(KeyboardInterrupt):
            mlip.relax([bulk("Si")], potential, symmetry=symmetry, progress=False)
    for arguments in calls:
        assert "while" in lowered(advance, potential.model, *arguments)


def test_properties(tiny_cgat, lowered):
    assert "dot_general" in lowered(
        property_outputs, tiny_cgat.model, tiny_cgat.params, tiny_cgat.config.inputs.example()
    )


@pytest.mark.parametrize("norm", ["batch", "layer"])
def test_properties_from_bond_pairs(norm, lowered):
    config = ALIGNNConfig(features=8, embedding_features=4, n_pair_layers=1, n_bond_layers=1, norm=norm)
    shapes = jax.eval_shape(lambda: init_parameters(config))
    params = jax.tree.map(lambda leaf: np.full(leaf.shape, 0.1, leaf.dtype), shapes)
    assert "dot_general" in lowered(property_outputs, build_model(config), params, config.inputs.example())
