"""Networks of ALIGNN: the layouts that its authors save, and what is wrong with others."""

import json

import numpy as np
import pytest
from ase.build import bulk
from flax.traverse_util import flatten_dict

from mlip.convert import convert
from mlip.convert.alignn import read, recognizes
from mlip.convert.checkpoint_files import ReadOptions
from mlip.errors import MlipError
from mlip.property_model import PropertyModel

FEATURES, EMBEDDING, VECTOR, CENTERS = 8, 6, 5, {"edge": 12, "angle": 7}
MODEL = {"name": "alignn_atomwise", "link": "identity", "calculate_gradient": True, "gradwise_weight": 0.0}
TRAINING = {"neighbor_strategy": "k-nearest", "max_neighbors": 9, "cutoff": 5.0, "model": MODEL}


@pytest.fixture
def arrays() -> dict[str, np.ndarray]:
    """A small network with layer norms under the original's names, random."""
    return network(np.random.default_rng(0))


def network(rng, norm: str = "layer") -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = {}

    def linear(name: str, into: int, out: int) -> None:
        found[f"{name}.weight"], found[f"{name}.bias"] = rng.normal(size=(out, into)), rng.normal(size=out)

    def normalization(name: str, width: int) -> None:
        found[f"{name}.weight"], found[f"{name}.bias"] = rng.uniform(0.5, 1.5, width), rng.normal(size=width)
        if norm == "batch":
            found[f"{name}.running_mean"], found[f"{name}.running_var"] = (
                rng.normal(size=width),
                rng.uniform(1, 2, width),
            )
            found[f"{name}.num_batches_tracked"] = np.array(7)

    def layers(name: str, into: int, out: int) -> None:
        linear(f"{name}.layer.0", into, out)
        normalization(f"{name}.layer.1", out)

    layers("atom_embedding", VECTOR, FEATURES)
    for kind, n in CENTERS.items():
        found[f"{kind}_embedding.0.centers"] = np.linspace(0, 1, n)
        layers(f"{kind}_embedding.1", n, EMBEDDING)
        layers(f"{kind}_embedding.2", EMBEDDING, FEATURES)
    names = [f"alignn_layers.{k}.{part}" for k in range(2) for part in ("node_update", "edge_update")]
    for name in (*names, "gcn_layers.0"):
        for part in ("src_gate", "dst_gate", "edge_gate", "src_update", "dst_update"):
            linear(f"{name}.{part}", FEATURES, FEATURES)
        normalization(f"{name}.bn_nodes", FEATURES)
        normalization(f"{name}.bn_edges", FEATURES)
    linear("fc", FEATURES, 1)
    return {name: array.astype(np.float32) for name, array in found.items()}


@pytest.fixture
def options(tmp_path) -> ReadOptions:
    vectors = {str(z): np.eye(VECTOR)[z % VECTOR].tolist() for z in range(1, 84)}  # by number, as in CGCNN's file
    (tmp_path / "atom_init.json").write_text(json.dumps(vectors))
    return ReadOptions(functional="PBE", predicts="e_form", element_vectors=tmp_path / "atom_init.json")


def save(path, arrays, settings=TRAINING, under: str | None = None):
    torch = pytest.importorskip("torch")
    path.parent.mkdir(exist_ok=True)
    state = {name: torch.from_numpy(array) for name, array in arrays.items()}
    torch.save(state if under is None else {under: state, "epoch": 3}, path)
    if settings is not None:
        (path.parent / "config.json").write_text(json.dumps(settings))
    return path


def mistake(source, options) -> str:
    with pytest.raises(MlipError) as error:
        read(source, options)
    return str(error.value)


@pytest.mark.parametrize("norm", ["layer", "batch"])
def test_dimensions_are_read_from_the_shapes_and_bonds_from_the_settings(norm, options, tmp_path):
    np.savez(tmp_path / "a_weights.npz", **network(np.random.default_rng(1), norm))
    (tmp_path / "a_config.json").write_text(json.dumps(TRAINING))
    assert recognizes(tmp_path / "a_weights.npz")
    model = read(tmp_path / "a_weights.npz", options)
    config = model.config
    assert (config.features, config.embedding_features, config.n_pair_layers, config.n_bond_layers) == (8, 6, 2, 1)
    assert (config.length_centers, config.cosine_centers, config.norm) == (12, 7, norm)
    assert (config.n_neighbors, config.cutoff, config.neighbors, config.lattice_decimals) == (9, 5.0, "nearest", 5)
    assert (model.metadata.property, model.metadata.mean, model.metadata.std) == ("e_form", 0.0, 1.0)
    assert len(model.elements) == 83
    assert np.isfinite(model.predict(bulk("Si"))).all()


def test_a_run_folder_a_file_in_it_and_a_whole_checkpoint_are_one_network(arrays, options, tmp_path):
    save(tmp_path / "run/best_model.pt", arrays)
    save(tmp_path / "run/current_model.pt", network(np.random.default_rng(5)))
    whole = save(tmp_path / "whole/checkpoint_300.pt", arrays, under="model")
    sources = tmp_path / "run", tmp_path / "run/best_model.pt", whole
    assert all(recognizes(source) for source in sources)
    models = [convert(source, "PBE", element_vectors=options.element_vectors, predicts="e_form") for source in sources]
    first = flatten_dict(models[0].params)
    for model in models[1:]:
        for name, array in flatten_dict(model.params).items():
            np.testing.assert_array_equal(array, first[name])
    models[0].save(tmp_path / "m.safetensors")
    again = PropertyModel.load(tmp_path / "m.safetensors")
    np.testing.assert_array_equal(again.predict(bulk("Cu")), models[0].predict(bulk("Cu")))


def test_without_settings_the_originals_defaults_are_taken_and_told(arrays, options, tmp_path):
    model = read(save(tmp_path / "bare/model.pt", arrays, settings=None), options)
    assert (model.config.n_neighbors, model.config.cutoff) == (12, 8.0)
    assert "defaults" in model.metadata.provenance["notes"][0]


def test_what_cannot_be_converted_is_told_in_a_line(arrays, options, tmp_path):
    source = save(tmp_path / "m/model.pt", arrays)
    assert "--element-vectors" in mistake(source, options._replace(element_vectors=None))
    assert "--predicts" in mistake(source, options._replace(predicts=None))
    short = tmp_path / "short.json"
    short.write_text('{"Si": [1.0, 2.0]}')
    assert "takes vectors of 5 numbers, those given have 2" in mistake(source, options._replace(element_vectors=short))
    for change, reason in (
        ({"classification": True}, "classifies, which is not implemented"),
        ({"extra_features": 3}, "takes further features"),
        ({"use_cutoff_function": True}, "has a cutoff function"),
    ):
        source = save(tmp_path / "m/model.pt", arrays, TRAINING | {"model": MODEL | change})
        assert reason in mistake(source, options)
    source = save(tmp_path / "m/model.pt", arrays, TRAINING | {"neighbor_strategy": "voronoi"})
    assert "'voronoi' is not implemented" in mistake(source, options)
    source = save(tmp_path / "m/model.pt", arrays | {"fc2.weight": np.zeros((2, 2), np.float32)})
    assert "have no place in the model, such as fc2.weight" in mistake(source, options)
    source = save(tmp_path / "m/model.pt", {n: a for n, a in arrays.items() if n != "gcn_layers.0.edge_gate.bias"})
    assert "gcn_layers.0.edge_gate.bias is missing" in mistake(source, options)
    damaged = tmp_path / "m/model.pt"
    damaged.write_bytes(damaged.read_bytes()[:-2000])
    assert not recognizes(damaged)
    two = tmp_path / "two"
    save(two / "a.pt", arrays)
    save(two / "b.pt", arrays)
    assert "holds several networks: a.pt, b.pt" in mistake(two, options)


def test_the_published_configurations_are_of_networks_that_there_are(shared):
    """All eight of the paper's: layer norms, k-nearest bonds, one output."""
    import gzip

    from mlip.convert.alignn import config_of

    path = shared / "data/alexandria/alexandria_v2_model_configs.json.gz"
    configurations = json.loads(gzip.decompress(path.read_bytes()))["alignn_configs"]
    assert len(configurations) == 8
    for settings in configurations.values():
        model = settings["model"]
        width, narrow = model["hidden_features"], model["embedding_features"]
        shapes = {
            "atom_embedding.layer.0.weight": (width, model["atom_input_features"]),
            "edge_embedding.1.layer.0.weight": (narrow, model["edge_input_features"]),
            "angle_embedding.1.layer.0.weight": (narrow, model["triplet_input_features"]),
            "fc.weight": (1, width),
        }
        shapes |= {f"alignn_layers.{k}.node_update.src_gate.weight": (1, 1) for k in range(model["alignn_layers"])}
        shapes |= {f"gcn_layers.{k}.src_gate.weight": (1, 1) for k in range(model["gcn_layers"])}
        arrays = {name: np.zeros(shape) for name, shape in shapes.items()}
        config = config_of(arrays, settings, {"Si": np.zeros(92)}, "published")
        assert (config.n_pair_layers, config.n_bond_layers, config.features, config.norm) == (4, 4, 256, "layer")
        assert (config.neighbors, config.n_neighbors, config.link) == ("nearest", 12, "identity")
