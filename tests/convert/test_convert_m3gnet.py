"""The original's checkpoints become potentials, whatever their size, and what is not understood is refused."""

import json

import jax
import numpy as np
import pytest
from made_checkpoints import read_json, write_json

from mlip.convert import convert
from mlip.errors import MlipError
from mlip.potential import Potential

PUBLISHED = {"m3gnet": "PBE", "m3gnet_alexandria_2d": "PBE", "m3gnet_alexandria_pbesol": "PBEsol"}


def assert_same_parameters(ours, theirs) -> None:
    """Bit for bit."""
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)
    assert jax.tree.leaves(jax.tree.map(lambda leaf: np.asarray(leaf).dtype, ours)) == jax.tree.leaves(
        jax.tree.map(lambda leaf: np.asarray(leaf).dtype, theirs)
    )


def mistake(source, **options) -> str:
    with pytest.raises(MlipError) as error:
        convert(source, **options)
    line = str(error.value)
    assert "\n" not in line
    return line


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_checkpoint_equals_its_plain_arrays_bit_for_bit(shared, name):
    of_arrays = convert(shared / "goldens" / name)
    of_checkpoint = convert(shared / "goldens" / name / "checkpoint")
    assert of_checkpoint.config == of_arrays.config
    assert_same_parameters(of_checkpoint.params, of_arrays.params)
    assert of_checkpoint.metadata.reference_energies == of_arrays.metadata.reference_energies
    assert of_checkpoint.metadata.scale == of_arrays.metadata.scale
    assert of_checkpoint.metadata.functional == of_arrays.metadata.functional == PUBLISHED[name]


@pytest.mark.parametrize("dimensions", [{}, {"n_blocks": 4}, {"max_n": 4, "max_l": 4}, {"units": 7, "n_blocks": 2}])
def test_any_size(checkpoint, tmp_path, dimensions):
    folder, config, params = checkpoint(**dimensions)
    potential = convert(folder)
    assert potential.config == config
    assert_same_parameters(potential.params, params)
    assert_same_parameters(Potential.load(potential.save(tmp_path / "it.safetensors")).params, params)


def test_elements_without_a_reference_energy_were_not_trained(checkpoint):
    folder, _, _ = checkpoint()
    assert convert(folder).metadata.reference_energies == {"H": -3.5, "Li": -1.5, "C": -8.0, "O": -5.0}


def test_a_model_without_reference_energies_knows_every_element(checkpoint):
    folder, _, _ = checkpoint()
    write_json(folder, read_json(folder) | {"element_refs": None})
    assert set(convert(folder).metadata.reference_energies.values()) == {0.0}
    assert len(convert(folder).elements) == 9


def test_a_functional_that_nothing_tells_is_unknown(checkpoint):
    folder, _, _ = checkpoint()
    assert convert(folder).metadata.functional == "unknown"
    assert convert(folder, functional="SCAN").metadata.functional == "SCAN"


def test_each_file_of_the_folder_stands_for_it(checkpoint):
    folder, _, params = checkpoint()
    assert_same_parameters(convert(folder / "m3gnet.index").params, params)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"include_states": True}, "include_states = True is not implemented"),
        ({"readout": "set2set"}, "readout = 'set2set' is not implemented"),
        ({"is_intensive": True}, "is_intensive = True is not implemented"),
        ({"mean": 0.3}, "mean = 0.3 is not implemented"),
        ({"units": 5}, "parameter "),
        ({"n_blocks": 2}, "three_interactions/1/update_network/pipe/layers/0/kernel is missing"),
        ({"max_l": 9}, "max_l: "),
        ({"threebody_cutoff": 9.0}, "is longer than cutoff"),
        ({"std": None}, "std"),
        ({"element_refs": "many"}, "element_refs"),
    ],
)
def test_what_is_not_implemented_or_does_not_fit_is_refused(checkpoint, changes, expected):
    folder, _, _ = checkpoint()
    write_json(folder, read_json(folder) | changes)
    line = mistake(folder)
    assert expected in line
    assert str(folder) in line


def test_weights_that_the_model_has_no_place_for_are_refused(checkpoint):
    folder, _, _ = checkpoint(n_blocks=2)
    write_json(folder, read_json(folder) | {"n_blocks": 1})
    assert "have no place in the model" in mistake(folder)


def test_another_keras_model_is_refused(checkpoint):
    folder, _, _ = checkpoint()
    write_json(folder, read_json(folder), class_name="MEGNet")
    assert "holds a MEGNet, not an M3GNet" in mistake(folder)


@pytest.mark.parametrize("text", ["", "{", "[]", '"{}"', '"no"', "\x00"])
def test_a_config_that_is_none(checkpoint, text):
    folder, _, _ = checkpoint()
    (folder / "m3gnet.json").write_text(text)
    assert "m3gnet.json" in mistake(folder)


@pytest.mark.parametrize("name", ["m3gnet.json", "m3gnet.index", "m3gnet.data-00000-of-00001"])
def test_a_missing_file_is_named(checkpoint, name):
    folder, _, _ = checkpoint()
    (folder / name).unlink()
    assert name in mistake(folder)


def test_the_original_knows_one_direction(checkpoint):
    folder, _, _ = checkpoint()
    assert "center" in mistake(folder, aggregate="neighbor")
    assert "center or neighbor" in mistake(folder, aggregate="both")


def test_a_folder_of_something_else_says_what_would_do(tmp_path):
    (tmp_path / "notes.txt").write_text("none of it")
    line = mistake(tmp_path)
    assert "no checkpoint that mlip can convert" in line
    assert "m3gnet.index" in line
    assert "model.json" in line


def test_plain_arrays_that_are_pickled_or_no_archive_are_refused(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"format": "m3gnet TF", "config": {}}))
    np.savez(tmp_path / "weights.npz", evil=np.array([object()], dtype=object))
    assert "config.json" in mistake(tmp_path)
    (tmp_path / "weights.npz").write_bytes(b"PK")
    assert str(tmp_path) in mistake(tmp_path)
