"""M3GNet for properties: Set2Set as its equations say, and outputs that belong to a crystal, not to its cell."""

import jax
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from mlip.models import parse_config
from mlip.models.m3gnet import matgl_config
from mlip.models.m3gnet_property import M3GNetPropertyConfig, Set2Set
from mlip.network import init_parameters
from mlip.property_model import PropertyMetadata, PropertyModel
from mlip.runtime import precision_scope

SMALL = M3GNetPropertyConfig.model_validate(
    matgl_config(smooth=False, units=6, hidden_units=5, n_blocks=2, max_atomic_number=29).model_dump()
    | {"model": "m3gnet-property", "readout_layers": 2}
)


@pytest.fixture(scope="module")
def model() -> PropertyModel:
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda leaf: rng.normal(0, 0.5, leaf.shape).astype(np.float32), init_parameters(SMALL))
    metadata = PropertyMetadata(property="e_form", mean=-1.5, std=2.0, elements=["Na", "Si", "Cl", "Cu"])
    return PropertyModel(SMALL, params, metadata)


def crystals() -> list[Atoms]:
    salt, silicon = bulk("NaCl", "rocksalt", a=5.3), bulk("Si", "diamond", a=5.4)
    for seed, atoms in enumerate((salt, silicon)):
        atoms.rattle(0.1, seed=seed)
    return [salt, silicon, bulk("Cu"), Atoms("Cu", cell=[20, 20, 20], pbc=True)]


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def set2set(params: dict, atoms: np.ndarray, n_queries: int, n_layers: int) -> np.ndarray:
    """Of one graph, atom by atom."""
    units = atoms.shape[1]
    hidden, memory = np.zeros((n_layers, units)), np.zeros((n_layers, units))
    heard = np.zeros(2 * units)
    for _ in range(n_queries):
        x = heard
        for k in range(n_layers):
            gates = sum(
                given @ params[name]["kernel"] + params[name]["bias"]
                for name, given in ((f"input_{k}", x), (f"hidden_{k}", hidden[k]))
            )
            i, f, g, o = np.split(gates, 4)
            memory[k] = sigmoid(f) * memory[k] + sigmoid(i) * np.tanh(g)
            x = hidden[k] = sigmoid(o) * np.tanh(memory[k])
        weights = np.exp(atoms @ x)
        heard = np.concatenate([x, weights @ atoms / weights.sum()])
    return heard


def test_set2set_is_that_of_its_equations_graph_by_graph():
    rng = np.random.default_rng(1)
    sizes = [3, 1, 4]
    atoms = rng.normal(size=(sum(sizes), 6))
    owner = np.repeat(np.arange(3), sizes)
    network = Set2Set(SMALL)
    with precision_scope("float64"):
        params = network.init(jax.random.key(0), atoms, owner, 3)["params"]
        params = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape), params)
        ours = np.asarray(network.apply({"params": params}, atoms, owner, 3))
    expected = [set2set(params, atoms[owner == k], SMALL.readout_queries, SMALL.readout_layers) for k in range(3)]
    np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-12)


def test_a_prediction_depends_neither_on_the_cell_nor_on_the_rest_of_the_batch(model):
    structures = crystals()
    together = model.predict(structures, dtype="float64")
    alone = [model.predict(atoms, dtype="float64")[0] for atoms in structures]
    repeated = model.predict([atoms * (2, 1, 1) for atoms in structures[:3]], dtype="float64")
    assert np.ptp(together) > 1e-3
    np.testing.assert_allclose(together, alone, rtol=0, atol=1e-12)
    np.testing.assert_allclose(together[:3], repeated, rtol=0, atol=1e-12)


def test_no_uncertainty_is_told_where_none_was_learned(model):
    _, uncertainties = model.predict_with_uncertainty(crystals())
    assert np.isnan(uncertainties).all()


def test_its_file_comes_back(model, tmp_path):
    again = PropertyModel.load(model.save(tmp_path / "model.safetensors"))
    assert again.fingerprint == model.fingerprint
    assert parse_config(again.config.model_dump()) == SMALL
    np.testing.assert_array_equal(again.predict(crystals()), model.predict(crystals()))
