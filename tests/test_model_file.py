"""A model's file says when it was altered: a wrong byte is an error that names the file, never another energy."""

import json

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import mlip
from mlip.errors import MlipError
from mlip.model_file import read_model_file, write_model_file
from mlip.models.m3gnet import M3GNetConfig
from mlip.network import init_parameters
from mlip.potential import Potential, PotentialMetadata


@pytest.fixture(scope="module")
def potential() -> Potential:
    config = M3GNetConfig(units=8)
    metadata = PotentialMetadata(reference_energies={"Cu": -3.25}, scale=0.4921875)
    return Potential(config, init_parameters(config), metadata)


@pytest.fixture
def path(potential, tmp_path):
    return potential.save(tmp_path / "p.safetensors")


def flip(path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.999])
def test_a_flipped_bit_of_a_tensor_is_an_error_that_names_the_file(path, share):
    content = path.read_bytes()
    first = 8 + int.from_bytes(content[:8], "little")  # of the tensors' bytes
    flip(path, first + int(share * (len(content) - first)))
    with pytest.raises(MlipError, match=rf"{path}: was altered since it was written") as error:
        mlip.load(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("number", [b"0.4921875", b"-3.25"])
def test_a_digit_of_the_energy_scale_counts_as_well(path, number):
    flip(path, path.read_bytes().index(number) + len(number) - 1)
    with pytest.raises(MlipError, match="was altered"):
        mlip.load(path)


def test_a_file_without_a_checksum_as_older_versions_wrote_it_still_loads(potential, path):
    header = {"format_version": 1, "config": potential.config.model_dump(), "metadata": potential.metadata.model_dump()}
    save_file(load_file(path), path, metadata={"mlip": json.dumps(header)})
    assert mlip.load(path).metadata == potential.metadata


def test_what_was_written_is_read_whatever_its_shape_and_type(tmp_path):
    params = {
        "a": {"scalar": np.float32(2.5), "empty": np.zeros((0, 3))},
        "b": {"transposed": np.arange(6.0).reshape(2, 3).T, "flags": np.array([True, False]), "z": np.int8(-3)},
    }
    path = write_model_file(tmp_path / "m.safetensors", {"config": {}}, params)
    header, found = read_model_file(path)
    assert header == {"format_version": 1, "config": {}}
    np.testing.assert_array_equal(found["b"]["transposed"], params["b"]["transposed"])
    assert found["a"]["scalar"] == 2.5
    assert found["a"]["empty"].shape == (0, 3)
    assert found["b"]["z"] == -3
