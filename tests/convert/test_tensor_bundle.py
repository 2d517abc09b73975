"""TensorFlow checkpoints are read without TensorFlow, and no damaged one is taken for a sound one."""

import json
import time

import numpy as np
import pytest
from made_checkpoints import write_tensor_bundle

from mlip.convert.tensor_bundle import _masked_crc32c, read_tensor_bundle
from mlip.errors import MlipError

INDEX, DATA = "net.index", "net.data-00000-of-00001"
TENSORS = {
    "layer/bias": np.arange(3, dtype=np.float32),
    "layer/kernel": np.arange(6, dtype=np.float64).reshape(2, 3),
    "step": np.int64(-7),
}


@pytest.fixture
def bundle(tmp_path):
    write_tensor_bundle(tmp_path / "net", TENSORS)
    return tmp_path


def mistake(folder) -> str:
    with pytest.raises(MlipError) as error:
        read_tensor_bundle(folder / INDEX)
    line = str(error.value)
    assert "\n" not in line
    return line


def alter(path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 16
    path.write_bytes(data)


def test_checksum_of_the_standard_example():
    assert _masked_crc32c(b"123456789") == ((0xE3069283 >> 15 | 0xE3069283 << 17) + 0xA282EAD8) & 0xFFFFFFFF


def test_names_shapes_types_and_numbers_come_back(bundle):
    tensors = read_tensor_bundle(bundle / INDEX)
    assert tensors.keys() == TENSORS.keys()
    for key, expected in TENSORS.items():
        assert tensors[key].dtype == expected.dtype
        np.testing.assert_array_equal(tensors[key], expected)


def test_a_published_checkpoint_has_the_tensors_that_its_list_names(shared):
    folder = shared / "goldens/m3gnet"
    listed = json.loads((folder / "checkpoint_index.json").read_text())["tensors"]
    weights = np.load(folder / "weights.npz")
    start = time.perf_counter()
    tensors = read_tensor_bundle(folder / "checkpoint/m3gnet.index")
    assert time.perf_counter() - start < 5  # 0.1 s on an idle core, checksums included
    assert tensors.keys() == listed.keys()
    for key, entry in listed.items():
        np.testing.assert_array_equal(tensors[key], weights[entry["tf_variable"]])


@pytest.mark.parametrize("name", [INDEX, DATA])
def test_any_altered_byte_is_noticed(bundle, name):
    file = bundle / name
    sound = file.read_bytes()
    # In the index's footer only the places of blocks and the magic number mean something; the rest is padding.
    footer_padding = range(len(sound) - 48, len(sound) - 8) if name == INDEX else range(0)
    for place in set(range(len(sound))) - set(footer_padding):
        file.write_bytes(sound)
        alter(file, place)
        assert name in mistake(bundle)


@pytest.mark.parametrize("name", [INDEX, DATA])
def test_any_truncation_is_noticed(bundle, name):
    file = bundle / name
    sound = file.read_bytes()
    for length in range(len(sound)):
        file.write_bytes(sound[:length])
        assert name in mistake(bundle)


@pytest.mark.parametrize("name", [INDEX, DATA])
def test_a_missing_file_is_named(bundle, name):
    (bundle / name).unlink()
    assert f"{name}: no such file" in mistake(bundle)


def test_another_file_is_no_index(bundle):
    (bundle / INDEX).write_bytes(b"PK" * 100)
    assert "wrong magic number" in mistake(bundle)


def test_what_is_not_read_is_refused(tmp_path):
    write_tensor_bundle(tmp_path / "net", {"half": np.zeros(2, np.float16)})
    assert "half: type 19 is not read" in mistake(tmp_path)
    write_tensor_bundle(tmp_path / "net", TENSORS, n_shards=2)
    assert "2 shards" in mistake(tmp_path)
