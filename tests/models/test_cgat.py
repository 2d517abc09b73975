"""CGAT against the original's own numbers, and the ways in which the graph may change without the prediction."""

import json
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ase import Atoms
from ase.data import chemical_symbols
from flax.traverse_util import flatten_dict

from mlip.convert.cgat import parameters, read
from mlip.convert.checkpoint_files import ReadOptions, read_npz
from mlip.data.element_vectors import read_element_vectors
from mlip.graph.batching import Shape, enlarge, graph_mask, pad_batch
from mlip.graph.shells import composition, merged_graph
from mlip.models.cgat import CGAT, CGATConfig
from mlip.network import init_parameters
from mlip.property_model import PropertyModel, property_outputs
from mlip.runtime import precision_scope
from mlip.training.properties.property_loss import property_penalty

SMALL = ["small_default", "small_hyperedge_scalar_meanpool"]
SHAPE = Shape(60, 300, 6)
"""Of both batches, so that each model is compiled once."""


@pytest.fixture(scope="module")
def goldens(shared):
    return shared / "goldens/cgat"


@pytest.fixture(scope="module")
def converted(shared, goldens):
    options = ReadOptions(element_vectors=shared / "goldens/embeddings/matscholar-embedding.json")
    models: dict[str, PropertyModel] = {}

    def of(tag: str) -> PropertyModel:
        if tag not in models:
            models[tag] = read(goldens / f"{tag}_weights.npz", options)
        return models[tag]

    return of


@pytest.fixture(scope="module")
def batch_of(goldens):
    """The originals' own edge lists as one of our batches; unmerged: an edge and a node each of theirs."""
    structures = json.loads((goldens / "structures.json").read_text())
    arrays = np.load(goldens / "graphs.npz")

    def batch(name: str, shape: Shape = SHAPE, merged: bool = True):
        graphs = []
        for crystal in np.load(goldens / f"batch_{name}.npz")["names"]:
            numbers = Atoms(structures[crystal]["species"]).numbers
            edges = [arrays[f"{crystal}/{key}"].ravel() for key in ("center", "neighbor", "shell")]
            graph = merged_graph(numbers, *edges) if merged else plain_graph(numbers, *edges)
            elements, fractions = composition(numbers)
            graphs.append(graph._replace(globals={"elements": elements[None], "fractions": fractions[None]}))
        return pad_batch(graphs, shape)

    return batch


def plain_graph(numbers, senders, receivers, shells):
    order = np.argsort(receivers, kind="stable")
    ones = np.ones(len(order), np.float32)
    return merged_graph(numbers, senders, receivers, shells)._replace(
        nodes={"species": numbers.astype(np.int32), "multiplicity": ones[: len(numbers)]},
        edges={"shell": shells[order].astype(np.int32), "multiplicity": ones},
        senders=senders[order].astype(np.int32),
        receivers=receivers[order].astype(np.int32),
        n_node=np.array([len(numbers)], np.int32),
        n_edge=np.array([len(order)], np.int32),
    )


def predictions(model: PropertyModel, batch, dtype="float64"):
    with precision_scope(dtype):
        output = np.asarray(property_outputs(model.model, model.cast(dtype), batch))
    return output[graph_mask(batch)]


@pytest.mark.parametrize("tag", SMALL)
@pytest.mark.parametrize("name", ["A", "B_unary"])
def test_the_originals_outputs_in_float64(goldens, converted, batch_of, tag, name):
    reference = np.load(goldens / f"{tag}_batch_{name}_f64.npz")["output"]
    np.testing.assert_allclose(predictions(converted(tag), batch_of(name)), reference, atol=1e-12)


def test_the_originals_outputs_in_float32(goldens, converted, batch_of):
    reference = np.load(goldens / "small_default_batch_A_f64.npz")["output"]
    # The original's own float32 noise is 2e-6.
    np.testing.assert_allclose(predictions(converted(SMALL[0]), batch_of("A"), "float32"), reference, atol=1e-5)


def test_merging_equal_atoms_and_edges_changes_nothing(converted, batch_of):
    merged = batch_of("A")
    plain = batch_of("A", Shape(60, 920, 6), merged=False)
    assert merged.n_edge[:-1].sum() < plain.n_edge[:-1].sum() / 4
    np.testing.assert_allclose(
        predictions(converted(SMALL[0]), plain), predictions(converted(SMALL[0]), merged), atol=1e-12
    )


def test_padding_changes_nothing(converted, batch_of):
    batch = batch_of("B_unary", Shape(12, 40, 5))
    np.testing.assert_allclose(
        predictions(converted(SMALL[0]), batch), predictions(converted(SMALL[0]), enlarge(batch, SHAPE)), atol=1e-12
    )


LOSSES = {"l1": "mae", "mse": "mse", "robust_l1": "robust_mae", "robust_l2": "robust_mse"}


@pytest.mark.parametrize("tag", [SMALL[0], pytest.param(SMALL[1], marks=pytest.mark.slow)])
def test_the_originals_losses_and_gradients(goldens, converted, batch_of, tag):
    golden = json.loads((goldens / f"{tag}_losses_grads.json").read_text())
    model, batch = converted(tag), batch_of("A")
    targets = (np.load(goldens / "batch_A.npz")["y"][:, 0].astype(np.float64) - 0.05) / 0.12
    with precision_scope("float64"):
        params = model.cast("float64")
        outputs = property_outputs(model.model, params, batch)
        pull_back = jax.jit(
            lambda p, change: jax.grad(lambda q: jnp.vdot(property_outputs(model.model, q, batch), change))(p)
        )

        def of(kind):
            loss = lambda out: property_penalty(out[:4], jnp.asarray(targets), kind).mean()  # noqa: E731
            value, change = jax.value_and_grad(loss)(outputs)
            return value, pull_back(params, change)

        found = jax.device_get({name: of(kind) for name, kind in LOSSES.items()})
    owners = owners_of_parameters(model.config, read_npz(goldens / f"{tag}_weights.npz"))
    for name, (value, gradient) in found.items():
        assert value == pytest.approx(golden[name]["loss"], rel=1e-12)
        flat = np.concatenate([np.ravel(array) for _, array in sorted(flatten_dict(gradient).items())])
        for owner, norm in golden[name]["grad_l2"].items():
            ours = flat[owners == owner]
            # What has no gradient in the original is not there at all, or has none here either.
            assert np.linalg.norm(ours) == pytest.approx(norm or 0.0, rel=1e-10, abs=1e-10), (name, owner)
            assert ours.sum() == pytest.approx(golden[name]["grad_sum"][owner] or 0.0, rel=1e-10, abs=1e-9), (
                name,
                owner,
            )


def owners_of_parameters(config: CGATConfig, arrays) -> np.ndarray:
    """For each number among our parameters, flattened, the name of the original's array that it comes from."""
    names = np.array([*arrays, "element vectors"])
    numbered = {name: np.full_like(array, k) for k, (name, array) in enumerate(arrays.items())}
    vectors = dict.fromkeys(chemical_symbols[1:104], np.full(config.element_features, len(arrays)))
    ours = flatten_dict(parameters(config, numbered, vectors, "numbered"))
    ours["element_vectors",][0] = len(arrays)
    return names[np.concatenate([np.ravel(array) for _, array in sorted(ours.items())]).astype(int)]


def test_the_published_size_has_the_originals_parameters_less_the_dead_ones(goldens):
    shapes = json.loads((goldens / "full_heads6_param_shapes.json").read_text())
    total = sum(int(np.prod(shape)) for shape in shapes.values())
    dead = sum(
        int(np.prod(shape))
        for name, shape in shapes.items()
        if name.startswith("graphs.4.Edge.") or ".Edge.MH_" in name
    )
    ours = jax.eval_shape(lambda: init_parameters(CGATConfig()))
    vectors = 104 * 200
    assert total == 118_910_412
    assert sum(leaf.size for leaf in jax.tree.leaves(ours)) == total - dead + vectors


def test_learned_vectors_of_elements_that_are_there_have_a_gradient(tiny_cgat, batch_of):
    model, batch = tiny_cgat, batch_of("A")
    slope = jax.jit(jax.grad(lambda vectors: jnp.sum(jnp.abs(output_of(model, vectors, batch)[:4]))))
    rows = np.flatnonzero(np.abs(slope(model.params["element_vectors"])).sum(1))
    assert set(rows.tolist()) == set(batch.nodes["species"].tolist()) - {0}  # 0 is padding's


def output_of(model, vectors, batch):
    return model.model.apply({"params": model.params | {"element_vectors": vectors}}, batch)


@pytest.mark.slow
def test_the_full_size_of_the_paper(goldens, shared, batch_of):
    """Weights by rule instead of a file of 475 MB; the original's float32 noise is 1e-5."""
    shapes = json.loads((goldens / "full_heads6_param_shapes.json").read_text())
    live = {name: shape for name, shape in shapes.items() if ".Edge.MH_" not in name}
    vectors = read_element_vectors(shared / "goldens/embeddings/matscholar-embedding.json")
    config = CGATConfig(element_vectors="fixed")
    params = parameters(config, {name: by_rule(name, shape) for name, shape in live.items()}, vectors, "by rule")
    with precision_scope("float64"):
        params = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), params)
        output = np.asarray(property_outputs(CGAT(config), params, batch_of("A")))[:4]
    reference = np.load(goldens / "full_heads6_batch_A_f64.npz")["output"]
    np.testing.assert_allclose(output, reference, atol=1e-11)


def by_rule(name: str, shape: list[int]) -> np.ndarray:
    """As the goldens' README gives it."""
    generator = np.random.RandomState(zlib.crc32(name.encode()))
    kind = name.rsplit(".", 1)[-1]
    bound = (3 / np.prod(shape[1:])) ** 0.5
    low, high = {"weight": (-bound, bound), "bias": (-0.1, 0.1)}.get(kind, (0.2, 0.8))
    return generator.uniform(low, high, shape).astype(np.float32)
