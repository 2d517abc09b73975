"""ALIGNN against the original's own numbers, and what may change without changing its prediction."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from flax.traverse_util import flatten_dict, unflatten_dict

from mlip.convert.alignn import parameters, read
from mlip.convert.checkpoint_files import ReadOptions, read_npz
from mlip.errors import MlipError
from mlip.graph.batching import ShapeLadder, graph_sizes, pad_batch
from mlip.graph.bond_pair_prototype import BondPairPrototype
from mlip.graph.bond_pairs import BondPairGraph
from mlip.graph.stacked_structures import Structures
from mlip.models import build_model
from mlip.models.alignn import ALIGNN, ALIGNNConfig, expanded
from mlip.network import init_parameters
from mlip.property_model import PropertyMetadata, PropertyModel
from mlip.runtime import precision_scope
from mlip.training.properties.property_loss import property_penalty
from tests.models.alignn_goldens import NAMES, GoldenBatch, element_vectors, structures, weights_of_rule

TINY = ALIGNNConfig(features=12, embedding_features=8, n_pair_layers=2, n_bond_layers=2, element_features=6)


@pytest.fixture(scope="module")
def goldens(shared):
    return shared / "goldens/alignn"


@pytest.fixture(scope="module")
def vectors(goldens, tmp_path_factory):
    path = tmp_path_factory.mktemp("vectors") / "vectors.json"
    path.write_text(json.dumps(element_vectors(goldens)))
    return path


@pytest.fixture(scope="module")
def small(goldens, vectors):
    return read(goldens / "small_weights.npz", ReadOptions(predicts="e_form", element_vectors=vectors))


@pytest.fixture(scope="module")
def atomwise(goldens, vectors):
    return read(goldens / "atomwise_weights.npz", ReadOptions(predicts="e_form", element_vectors=vectors))


@pytest.fixture(scope="module")
def batch(goldens):
    return GoldenBatch(goldens)


def run(model, graph, dtype="float64", **options):
    with precision_scope(dtype):
        params = model.cast(dtype)
        return jax.tree.map(
            np.asarray, jax.jit(lambda p, g: model.model.apply({"params": p}, g, **options))(params, graph)
        )


def seen_in(model, batch, **options):
    """Outputs of all modules, as the original orders and stores them."""
    with precision_scope("float64"):
        (out, state) = model.model.apply(
            {"params": model.cast("float64")},
            batch.graph,
            capture_intermediates=True,
            mutable=["intermediates", "statistics"],
            **options,
        )
    seen = {}
    for path, value in flatten_dict(state["intermediates"]).items():
        values = value[0] if isinstance(value[0], tuple) else (value[0],)
        seen["/".join(path[:-1])] = [None if v is None else np.asarray(v) for v in values]
    return np.asarray(out), seen, state.get("statistics", {})


def check_layers(golden, seen, batch, n_pair_layers: int, n_bond_layers: int, atol: float) -> int:
    edges, pairs = batch.edges[::5], batch.pairs[::40]
    places = {"x": slice(batch.n_atoms), "y": edges, "z": pairs}
    checked = 0

    def check(array, name, rows):
        nonlocal checked
        if array is not None and name in golden.files:
            np.testing.assert_allclose(array[rows], golden[name], rtol=0, atol=atol, err_msg=name)
            checked += 1

    for layer in range(n_pair_layers):
        x, m = seen[f"atoms_{layer}"]
        y, z = seen[f"bonds_{layer}"]
        check(x, f"alignn{layer}/x", places["x"])
        check(y, f"alignn{layer}/y", edges)
        check(z, f"alignn{layer}/z", pairs)
        if layer == 0:
            check(x, "alignn0/node_update_x", places["x"])
            check(m, "alignn0/node_update_m", edges)
    for layer in range(n_bond_layers):
        x, y = seen[f"gated_{layer}"]
        check(x, f"gcn{layer}/x", places["x"])
        check(y, f"gcn{layer}/y", edges)
    check(seen["readout"][0], "readout", slice(batch.n_crystals))
    return checked


def test_the_originals_outputs_and_all_that_leads_to_them(goldens, small, batch):
    golden = np.load(goldens / "small_eval_f64.npz")
    out, seen, _ = seen_in(small, batch)
    np.testing.assert_allclose(out[:6, 0], golden["output"], rtol=0, atol=1e-10)
    assert check_layers(golden, seen, batch, 4, 4, 1e-10) == 21
    silu = lambda v: v / (1 + np.exp(-v))  # noqa: E731
    for ours, theirs, rows in (
        ("atom_embedding_norm", "atom_embedding", slice(batch.n_atoms)),
        ("bond_embedding_1_norm", "edge_embedding", batch.edges[::5]),
        ("pair_embedding_1_norm", "angle_embedding", batch.pairs[::40]),
    ):
        np.testing.assert_allclose(silu(seen[ours][0])[rows], golden[theirs], rtol=0, atol=1e-10)


def test_the_originals_expansions(goldens, batch):
    golden = np.load(goldens / "small_eval_f64.npz")
    edges, pairs = batch.edges[::5], batch.pairs[::40]
    with precision_scope("float64"):
        lengths = expanded(jnp.asarray(batch.graph.edges["lengths"][edges]), 0.0, 8.0, 80)
        cosines = expanded(jnp.asarray(batch.graph.globals["pairs"].columns["cosines"][pairs]), -1.0, 1.0, 40)
    np.testing.assert_allclose(lengths, golden["edge_rbf"], rtol=0, atol=1e-12)
    np.testing.assert_allclose(cosines, golden["angle_rbf"], rtol=0, atol=1e-12)


def test_the_originals_outputs_in_float32(goldens, small):
    golden = np.load(goldens / "small_eval_f64.npz")["output"]
    out = run(small, GoldenBatch(goldens, np.float32).graph, "float32")
    # The original's own float32 noise is 1.5e-6.
    np.testing.assert_allclose(out[:6, 0], golden, rtol=0, atol=1e-5)


def test_the_originals_at_full_size(goldens, vectors, batch):
    arrays = weights_of_rule(json.loads((goldens / "full_param_shapes.json").read_text()))
    arrays = {name: array for name, array in arrays.items() if not name.endswith("centers")}
    vectors = {symbol: np.array(vector) for symbol, vector in json.loads(vectors.read_text()).items()}
    config = ALIGNNConfig(element_vectors="fixed", max_atomic_number=42)
    params = parameters(config, arrays, vectors, "full")
    trained = [
        a for path, a in flatten_dict(params).items() if "running" not in path[-1] and path[-1] != "element_vectors"
    ]
    dead = 2 * 2 * 256  # the norms of the last edges
    assert sum(array.size for array in trained) + dead == 4_026_753
    golden = np.load(goldens / "full_eval_f64.npz")
    with precision_scope("float64"):
        params = jax.tree.map(lambda a: jnp.asarray(a, jnp.float64), params)
        out = jax.jit(ALIGNN(config).apply)({"params": params}, batch.graph)
    np.testing.assert_allclose(out[:6, 0], golden["output"], rtol=0, atol=1e-10)


def test_the_originals_training_mode_and_running_statistics(goldens, small, batch, vectors):
    golden = np.load(goldens / "small_train_f64.npz")
    out, seen, statistics = seen_in(small, batch, total=lambda x: x)
    np.testing.assert_allclose(out[:6, 0], golden["output"], rtol=0, atol=1e-10)
    assert check_layers(golden, seen, batch, 4, 4, 1e-10) == 5
    after = {name.removeprefix("after/"): golden[name] for name in golden.files if name.startswith("after/")}
    arrays = read_npz(goldens / "small_weights.npz")
    given = {symbol: np.array(vector) for symbol, vector in json.loads(vectors.read_text()).items()}
    expected = flatten_dict(parameters(small.config, arrays | after, given, "after"))
    found = flatten_dict(statistics)
    assert set(found) == {path for path in expected if path[-1].startswith("running_")}
    for path, value in found.items():  # the expected ones are rounded to single precision, as parameters are
        np.testing.assert_allclose(value, expected[path], rtol=2e-7, atol=1e-7, err_msg="/".join(path))


@pytest.mark.parametrize("mode", ["eval", "train"])
@pytest.mark.parametrize("kind", ["mse", "l1"])
def test_the_originals_losses_and_gradients(goldens, small, batch, vectors, mode, kind):
    golden = json.loads((goldens / "small_losses_grads.json").read_text())
    targets, expected = np.array(golden["target"]), golden[f"{mode}_{kind}"]
    options = {"total": lambda x: x, "mutable": ["statistics"]} if mode == "train" else {}

    def loss(params):
        found = small.model.apply({"params": params}, batch.graph, **options)
        out = found[0] if mode == "train" else found
        return property_penalty(out[:6], jnp.asarray(targets), {"mse": "mse", "l1": "mae"}[kind]).mean()

    with precision_scope("float64"):
        value, gradient = jax.jit(jax.value_and_grad(loss))(small.cast("float64"))
    np.testing.assert_allclose(value, expected["loss"], rtol=1e-12)
    # Where each of the original's parameters is in ours: its gradient's norm and sum, put in its place.
    given = {symbol: np.array(vector) for symbol, vector in json.loads(vectors.read_text()).items()}
    arrays = read_npz(goldens / "small_weights.npz")
    numbers = {name: k + 1 for k, name in enumerate(arrays)}
    marked = {name: np.full(array.shape, float(numbers[name])) for name, array in arrays.items()}
    origin = flatten_dict(parameters(small.config, marked, {s: 0 * v for s, v in given.items()}, "marked"))
    checked = 0
    for name, norm in expected["grad_l2"].items():
        if norm is None:
            continue
        rows = np.concatenate(
            [np.asarray(g)[origin[path] == numbers[name]] for path, g in flatten_dict(gradient).items()]
        )
        scale = 1e-10 * max(1.0, abs(norm))
        np.testing.assert_allclose(np.linalg.norm(rows), norm, rtol=1e-9, atol=scale, err_msg=name)
        np.testing.assert_allclose(rows.sum(), expected["grad_sum"][name], rtol=1e-9, atol=100 * scale, err_msg=name)
        checked += 1
    assert checked > 100


def test_the_originals_atomwise_variant_with_forces_and_stress(goldens, atomwise):
    golden = np.load(goldens / "atomwise_f64.npz")
    plain = GoldenBatch(goldens)
    out, seen, _ = seen_in(atomwise, plain)
    np.testing.assert_allclose(out[:6, 0], golden["output"], rtol=0, atol=1e-10)
    assert check_layers(golden, seen, plain, 2, 2, 1e-10) == 11
    batch = GoldenBatch(goldens, vectors=True)
    graph = batch.graph

    def energy(vectors):
        changed = graph._replace(edges=graph.edges | {"vectors": vectors})
        values = atomwise.model.apply({"params": params}, changed)[:6, 0]
        return (values * graph.n_node[:6]).sum()

    with precision_scope("float64"):
        params = atomwise.cast("float64")
        pulls = np.asarray(jax.jit(jax.grad(energy))(jnp.asarray(graph.edges["vectors"])))
    # A vector goes from the receiver to the sender.
    forces = np.zeros((len(graph.nodes["species"]), 3))
    np.add.at(forces, graph.receivers, pulls)
    np.add.at(forces, graph.senders, -pulls)
    np.testing.assert_allclose(forces[:41], golden["forces"], rtol=0, atol=1e-10)
    of_edge = np.repeat(np.arange(len(graph.n_edge)), graph.n_edge)
    volumes = [abs(np.linalg.det(np.round(structures(goldens)[name]["lattice"], 5))) for name in NAMES]
    for k, volume in enumerate(volumes):  # the original's are in single precision
        virial = graph.edges["vectors"][of_edge == k].T @ pulls[of_edge == k]
        np.testing.assert_allclose(160.21766208 * virial / volume, golden["stress"][k], rtol=2e-7, atol=1e-8)


CRYSTALS = [
    bulk("NaCl", "rocksalt", a=5.64),
    bulk("Si"),
    bulk("Fe"),
    bulk("Ti"),
    Atoms(
        "SrTiO3",
        scaled_positions=[[0, 0, 0], [0.5] * 3, [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]],
        cell=[3.9] * 3,
        pbc=True,
    ),
    bulk("GaAs", "zincblende", a=5.65) * (2, 1, 1),
]


def padded(config, atoms, merges: bool, dtype=np.float64):
    graphs = BondPairGraph(config.n_neighbors, merges=merges).graphs(Structures.of(atoms), dtype)
    shape = ShapeLadder(growth=1.3).smallest(
        *(graph_sizes(graphs).sum(0)[[0, 1]] + 1).tolist(), len(atoms) + 1, int(graph_sizes(graphs)[:, 2].sum())
    )
    return pad_batch(graphs, shape)


def random_parameters(config, seed=0):
    """Parameters as of a network that has been trained a while: statistics and norms are no ones and zeros."""
    rng = np.random.default_rng(seed)
    flat = flatten_dict(jax.tree.map(np.asarray, init_parameters(config, seed)))
    draws = {"scale": (0.5, 1.5), "bias": (-0.3, 0.3), "running_mean": (-0.2, 0.2), "running_variance": (0.5, 1.5)}
    return unflatten_dict(
        {
            path: rng.uniform(*draws[path[-1]], array.shape) if path[-1] in draws else array.astype(float)
            for path, array in flat.items()
        }
    )


@pytest.mark.parametrize("norm", ["batch", "layer"])
@pytest.mark.parametrize("training", [False, True])
def test_alike_rows_as_one_change_nothing(norm, training):
    """Outputs, running statistics and gradients are those of all atoms, bonds and pairs one by one."""
    config = TINY.model_copy(update={"norm": norm})
    options = {"total": (lambda x: x) if training else None, "mutable": ["statistics"]}

    def loss(params, graph):
        out, state = build_model(config).apply({"params": params}, graph, **options)
        return (out[: len(CRYSTALS), 0] ** 2).sum(), (out[: len(CRYSTALS)], state)

    with precision_scope("float64"):
        params = jax.tree.map(jnp.asarray, random_parameters(config))
        found = [
            jax.jit(jax.grad(loss, has_aux=True))(params, padded(config, CRYSTALS, merges)) for merges in (True, False)
        ]
    for merged, every in zip(*map(jax.tree.leaves, found), strict=True):
        np.testing.assert_allclose(merged, every, rtol=1e-9, atol=1e-10)


def test_merging_is_of_some_use():
    merged, every = (graph_sizes(BondPairGraph(merges=m).graphs(Structures.of(CRYSTALS))).sum(0) for m in (True, False))
    assert (merged * [1, 5, 20] < every).all()


def test_a_batch_gives_what_crystals_give_alone():
    params = random_parameters(TINY)
    with precision_scope("float64"):
        together = ALIGNN(TINY).apply({"params": params}, padded(TINY, CRYSTALS, True))[: len(CRYSTALS), 0]
        alone = [ALIGNN(TINY).apply({"params": params}, padded(TINY, [atoms], True))[0, 0] for atoms in CRYSTALS]
    np.testing.assert_allclose(together, alone, rtol=0, atol=1e-12)


def test_a_prototype_shares_its_graph_among_assignments():
    """Predictions are those of the crystals one by one, whether or not two sites have the same element."""
    config = TINY.model_copy(update={"norm": "layer"})
    metadata = PropertyMetadata(property="e_form", mean=0.3, std=2.0, elements=["Na", "Cl", "K", "Br", "Ca", "Ti", "O"])
    model = PropertyModel(config, init_parameters(config, 3), metadata)
    perovskite = CRYSTALS[4]
    prototype = BondPairPrototype.of(perovskite, config.inputs, np.float64)
    assignments = np.array([[20, 22, 8], [11, 19, 17], [11, 11, 35], [19, 20, 8], [22, 22, 22]])
    found = model.predict_prototype(prototype, assignments, dtype="float64", batch_size=2)
    labels = np.array([0, 1, 2, 2, 2])
    alone = [
        Atoms(numbers[labels], positions=perovskite.positions, cell=perovskite.cell, pbc=True)
        for numbers in assignments
    ]
    np.testing.assert_allclose(found, model.predict(alone, dtype="float64"), rtol=0, atol=1e-10)
    assert len(prototype.graph.senders) < 10
    with pytest.raises(MlipError, match="the prototype has 3 sites"):
        model.predict_prototype(prototype, assignments[:, :2])
    with pytest.raises(MlipError, match="does not know Au"):
        model.predict_prototype(prototype, np.array([[79, 8, 8]]))


def test_predictions_of_many_name_the_one_that_cannot_be_read():
    config = TINY.model_copy(update={"norm": "layer"})
    metadata = PropertyMetadata(property="e_form", elements=["Na", "Cl", "Si"])
    model = PropertyModel(config, init_parameters(config, 3), metadata)
    twice = Atoms("Si2", positions=[[0, 0, 0], [0, 0, 1e-4]], cell=[5] * 3, pbc=True)
    found = model.try_predict([bulk("Si"), twice, bulk("Fe"), bulk("NaCl", "rocksalt", a=5.6)])
    assert "coincide" in str(found[1])
    assert "does not know Fe" in str(found[2])
    assert np.isfinite([found[0].value, found[3].value]).all()
    with pytest.raises(MlipError, match="structure 1: atoms 0 and 1 coincide"):
        model.predict([bulk("Si"), twice])


def test_links_and_uncertainty():
    graph = padded(TINY, CRYSTALS[:1], True, np.float32)
    config = TINY.model_copy(update={"link": "log"})
    params = init_parameters(config)
    np.testing.assert_allclose(params["out"]["bias"], np.log(0.7), rtol=1e-6)
    plain = float(ALIGNN(TINY).apply({"params": params}, graph)[0, 0])
    assert float(ALIGNN(config).apply({"params": params}, graph)[0, 0]) == pytest.approx(np.exp(plain), rel=1e-5)
    logit = TINY.model_copy(update={"link": "logit"})
    assert float(ALIGNN(logit).apply({"params": params}, graph)[0, 0]) == pytest.approx(
        1 / (1 + np.exp(-plain)), rel=1e-5
    )
    uncertain = TINY.model_copy(update={"predicts_uncertainty": True})
    out = ALIGNN(uncertain).apply({"params": init_parameters(uncertain)}, graph)
    assert out.shape == (2, 2)
    assert out[0, 1] != 0
