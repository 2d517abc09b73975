"""MACE learns; the gradient of its loss, a second derivative of the energy, is that of finite differences."""

import ase
import ase.build
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mlip
from mlip.energy_gradient import energies_forces_stress
from mlip.graph.batching import Shape, graph_sizes, pad_batch
from mlip.graph.radius_graph import crystal_graph
from mlip.models import build_model
from mlip.models.mace import MACEConfig
from mlip.network import init_parameters
from mlip.runtime import precision_scope
from mlip.training.log import read_metrics
from mlip.training.loop import train
from mlip.training.recipe_file import load_recipe
from tests.emt_world import emt_frames, write_store

RECIPE = """
data: {store: STORE, workers: 0}
model: {model: mace, cutoff: 3.6, channels: 8, n_layers: 1, max_l: 0, max_ell: 1, correlation: 2, radial_hidden: [16]}
loss: {kind: huber, huber_delta: 0.1, stress: 0.01}
train: {epochs: 25, batch_size: 8, learning_rate: 0.02, schedule: {warmup_steps: 2}, ema_decay: 0.9}
out: OUT
"""
SMALL = {
    "elements": (8, 11, 17, 29),
    "channels": 3,
    "max_ell": 2,
    "correlation": 2,
    "radial_hidden": (6,),
    "n_bessel": 3,
}
VARIANTS = {
    "published": {},
    "density, agnesi, nuclei": {"normalization": "density", "distance_transform": "agnesi", "zbl": True},
    "elements on densities": {"first_block": "element", "max_l": 2},
    "one scalar layer": {"n_layers": 1, "max_l": 0, "max_ell": 3, "correlation": 3},
}


def test_a_tiny_network_learns(tmp_path):
    store = write_store(tmp_path / "store.h5", emt_frames(56, seed=1))  # five equal batches: one shape
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE.replace("STORE", str(store)).replace("OUT", str(tmp_path / "run")))
    potential = mlip.load(train(load_recipe(path), quiet=True))
    first, *_, last = read_metrics(tmp_path / "run", "validation")
    assert last["loss"] < 0.6 * first["loss"]
    assert last["forces_mae"] < 0.3 * potential.metadata.scale  # the forces' root mean square
    assert potential.config.elements == (13, 28, 29, 47)


@pytest.fixture(scope="module")
def awkward_batch():
    """A crystal, a chain along y (the polar axis of the harmonics), an atom without neighbors; and padding."""
    crystal = ase.build.bulk("NaCl", "rocksalt", a=4.6)
    crystal.rattle(0.1, seed=1)
    chain = ase.Atoms("CuOCu", [[0, 0, 0], [0, 1.7, 0], [0, 3.6, 0]], cell=[9, 9, 9])
    graphs = [crystal_graph(atoms, 4.0, dtype=np.float64) for atoms in (crystal, chain, ase.Atoms("Cu"))]
    n_node, n_edge = graph_sizes(graphs).sum(0)
    return pad_batch(graphs, Shape(n_node + 2, n_edge + 5, 5))


@pytest.mark.parametrize("variant", VARIANTS)
def test_gradient_of_the_loss_of_forces_and_stress_equals_finite_differences(awkward_batch, variant):
    config = MACEConfig(**SMALL | VARIANTS[variant], cutoff=4.0, mean_neighbors=4.0)
    random = np.random.default_rng(2)

    def loss(params, graph):
        found = energies_forces_stress(build_model(config), params, graph, 1.0, 0.0)
        return jnp.sum(found.energy**2) + jnp.sum(found.forces**2) + 1e3 * jnp.sum(found.stress**2)

    with precision_scope("float64"):
        shapes = jax.eval_shape(lambda: init_parameters(config))
        params, direction = (jax.tree.map(lambda leaf: random.normal(size=leaf.shape), shapes) for _ in range(2))
        loss_and_gradient = jax.jit(jax.value_and_grad(loss))
        _, gradient = loss_and_gradient(params, awkward_batch)
        slope = sum(jax.tree.leaves(jax.tree.map(lambda g, d: float(jnp.sum(g * d)), gradient, direction)))
        step = 1e-5
        forward, backward = (
            float(loss_and_gradient(moved, awkward_batch)[0])
            for moved in (jax.tree.map(lambda p, d: p + sign * step * d, params, direction) for sign in (1, -1))  # noqa: B023
        )
    assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(gradient))
    assert abs(slope) > 1e-3
    assert (forward - backward) / (2 * step) == pytest.approx(slope, rel=1e-6)
