"""No matrix product is left to a GPU's default, TF32. No GPU is needed: the program for one is looked at."""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ase.build import bulk

from mlip.data import Frame
from mlip.energy_gradient import energies_forces_stress
from mlip.graph.batching import Shape, pad_batch
from mlip.graph.labeled_graphs import EnergyLabels, labeled_graphs
from mlip.graph.radius_graph import crystal_graph
from mlip.models import build_model
from mlip.models.m3gnet import M3GNetConfig
from mlip.models.mace import MACEConfig
from mlip.network import init_parameters
from mlip.property_model import property_outputs
from mlip.training import parallel
from mlip.training.loop import new_state
from mlip.training.recipe import Recipe, TrainRecipe
from mlip.training.schedule import Plan
from mlip.training.step import train_step_of, validation_step_of
from mlip.training.task_of_recipe import task_of

FULL = "precision = [HIGHEST, HIGHEST]"
LESS = {"tf32": "precision = [HIGH, HIGH]", "bf16": "lhs_precision_type = bf16, rhs_precision_type = bf16"}
CONFIGS = {
    "m3gnet": M3GNetConfig(units=8, n_blocks=1),
    "mace": MACEConfig(cutoff=4.0, elements=(14,), channels=4, max_l=1, mean_neighbors=20.0),
}


def products(function, *arguments) -> list[str]:
    """The lines of the matrix products in the program for a GPU."""
    traceable = function if hasattr(function, "trace") else jax.jit(function)
    lowered = traceable.trace(*arguments).lower(lowering_platforms=("cuda",))
    return [line for line in lowered.as_text().splitlines() if "stablehlo.dot_general" in line]


def has_channels(product: str) -> bool:
    """Whether a factor has the network's channels: others are of positions and of basis functions of bonds."""
    return re.search(r"x(4|8|16)xf32", product) is not None


@pytest.fixture(scope="module", params=CONFIGS)
def program(request):
    """A function: precision of products -> products of energies, forces, stresses and a gradient through them."""
    config = CONFIGS[request.param]
    model, params = build_model(config), jax.eval_shape(partial(init_parameters, config))
    graph = crystal_graph(bulk("Si"), config.cutoff)
    batch = pad_batch([graph], Shape(len(graph.nodes["species"]) + 1, len(graph.senders) + 5, 2))

    def make(*precision: str) -> list[str]:
        def loss(params, batch):
            evaluation = energies_forces_stress(model, params, batch, 1.0, 0.0, *precision)
            return jnp.sum(evaluation.forces**2) + jnp.sum(evaluation.stress**2), evaluation

        return products(jax.grad(loss, has_aux=True), params, batch)

    return make


def test_products_are_made_in_full_by_default(program):
    found = program()
    assert len(found) > 100
    assert all(FULL in product for product in found)


@pytest.mark.parametrize("precision", LESS)
def test_less_is_for_the_network_alone_and_not_for_positions_or_basis_functions(program, precision):
    found = program(precision)
    assert all((FULL in product) != (LESS[precision] in product) for product in found)
    assert len([product for product in found if LESS[precision] in product]) > 100
    assert any(FULL in product for product in found)
    assert not any(FULL in product for product in found if has_channels(product))


def test_products_of_a_property_model_are_made_in_full_by_default(tiny_cgat):
    arguments = tiny_cgat.params, tiny_cgat.config.inputs.example()
    found = products(partial(property_outputs, tiny_cgat.model), *arguments)
    assert len(found) > 5
    assert all(FULL in product for product in found)
    found = products(partial(property_outputs, tiny_cgat.model, products="tf32"), *arguments)
    assert all(LESS["tf32"] in product for product in found)


@pytest.mark.parametrize("precision", ["highest", "tf32"])
def test_a_recipe_decides_on_training_steps_and_never_on_validation(precision):
    train = {"epochs": 1, "batch_size": 1, "learning_rate": 1e-3, "matmul_precision": precision}
    task = task_of(Recipe(data={"store": "."}, model=CONFIGS["m3gnet"], train=train, out="."))
    state, scale = parallel.replicate(new_state(task)), parallel.replicate(np.float32(1.0))
    batch = jax.tree.map(lambda array: np.stack([array] * parallel.n_devices()), labeled_batch())
    steps = products(train_step_of(task), state, batch, scale, Plan(task, 1).knobs(1))
    assert any(LESS.get(precision, FULL) in product for product in steps)
    assert all((FULL in product) or (precision != "highest" and LESS[precision] in product) for product in steps)
    validation = products(validation_step_of(task), state.average, batch, scale)
    assert validation
    assert all(FULL in product for product in validation)


def labeled_batch():
    atoms = bulk("Si")
    frame = Frame(atoms.numbers, atoms.positions, atoms.cell[:], atoms.pbc, -9.0, np.zeros((2, 3)), np.zeros(6))
    (graph,) = labeled_graphs([frame], CONFIGS["m3gnet"].inputs, EnergyLabels(np.zeros(119)))
    return pad_batch([graph], Shape(3, len(graph.senders) + 5, 2))


def test_rough_products_are_for_float32():
    with pytest.raises(ValueError, match="matmul_precision tf32 is for precision float32"):
        TrainRecipe(epochs=1, batch_size=1, learning_rate=1e-3, precision="float64", matmul_precision="tf32")
