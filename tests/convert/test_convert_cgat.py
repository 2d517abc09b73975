"""Checkpoints of CGAT: the layout that Lightning writes, and what is wrong with a damaged one."""

import json
from argparse import Namespace

import numpy as np
import pytest

from mlip.convert import convert
from mlip.errors import MlipError


@pytest.fixture(scope="module")
def weights(shared):
    return shared / "goldens/cgat/small_hyperedge_scalar_meanpool_weights.npz"


@pytest.fixture(scope="module")
def vectors(shared):
    return shared / "goldens/embeddings/matscholar-embedding.json"


def mistake(source, **options) -> str:
    with pytest.raises(MlipError) as error:
        convert(source, **options)
    return str(error.value)


def test_arrays_are_recognized_and_dimensions_read_from_their_shapes(weights, vectors):
    model = convert(weights, functional="PBE", element_vectors=vectors, predicts="e_form")
    assert model.config.model == "cgat"
    assert (model.config.features, model.config.heads, model.config.n_steps) == (8, 2, 3)
    assert (model.metadata.property, model.metadata.functional) == ("e_form", "PBE")
    assert len(model.elements) == 103


def test_a_lightning_checkpoint_with_its_mean_and_standard_deviation(weights, vectors, tmp_path):
    torch = pytest.importorskip("torch")
    arrays = {f"model.{name}": torch.from_numpy(array) for name, array in np.load(weights).items()}
    arrays |= {"mean": torch.tensor(0.05), "std": torch.tensor(0.12)}
    hyper_parameters = Namespace(atom_fea_len=8, fea_path="embeddings/matscholar-embedding.json")
    torch.save({"state_dict": arrays, "epoch": 3, "hyper_parameters": hyper_parameters}, tmp_path / "epoch=3.ckpt")
    model = convert(tmp_path / "epoch=3.ckpt", element_vectors=vectors)
    assert (model.metadata.mean, model.metadata.std) == pytest.approx((0.05, 0.12), rel=1e-6)
    same = convert(weights, element_vectors=vectors)
    np.testing.assert_array_equal(model.params["shell_embedding"], same.params["shell_embedding"])


def test_without_vectors_of_the_elements_the_way_out_is_named(weights):
    assert "--element-vectors" in mistake(weights)


def test_vectors_of_another_length_are_refused(weights, tmp_path):
    path = tmp_path / "vectors.json"
    path.write_text(json.dumps({"H": [1.0, 2.0], "He": [1.0, 2.0]}))
    assert "vectors of 200 numbers, those given have 2" in mistake(weights, element_vectors=path)


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ("[1, 2]", "has no elements"),
        ('{"Xx": [1]}', "'Xx' is no element"),
        ('{"H": [1, NaN]}', "vector of H is no list of finite numbers"),
        ('{"H": [1, 2], "He": [1]}', "vector of He has 1 numbers"),
        ("{", "is not JSON"),
    ],
)
def test_a_damaged_file_of_vectors_is_one_line(weights, tmp_path, content, fault):
    path = tmp_path / "vectors.json"
    path.write_text(content)
    assert fault in mistake(weights, element_vectors=path)


def test_an_array_that_is_missing_or_superfluous_is_named(weights, vectors, tmp_path):
    arrays = dict(np.load(weights))
    del arrays["roost.cry_pool.0.pow"]
    np.savez(tmp_path / "a_weights.npz", **arrays)
    assert "roost.cry_pool.0.pow is missing" in mistake(tmp_path / "a_weights.npz", element_vectors=vectors)
    arrays = dict(np.load(weights)) | {"extra.weight": np.zeros(2)}
    np.savez(tmp_path / "b_weights.npz", **arrays)
    assert "no place in the model, such as extra.weight" in mistake(tmp_path / "b_weights.npz", element_vectors=vectors)


def test_checkpoints_without_the_dead_arrays_convert_too(weights, vectors, tmp_path):
    arrays = {name: array for name, array in np.load(weights).items() if not name.startswith("graphs.2.Edge.")}
    np.savez(tmp_path / "c_weights.npz", **arrays)
    convert(tmp_path / "c_weights.npz", element_vectors=vectors)
