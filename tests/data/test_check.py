"""`mlip data check` finds what was altered and names it."""

from dataclasses import replace

import h5py
import numpy as np
import pytest

from mlip.data import StoreWriter, Trajectory
from mlip.data.check import find_problems


@pytest.fixture
def path(tmp_path, make_trajectory):
    path = tmp_path / "store.h5"
    with StoreWriter(path) as writer:
        for k in range(20):
            writer.add(make_trajectory(f"m{k}", properties={"e_form": -0.1 * k, "prototype_id": f"p{k}"}), "train")
    return path


def test_a_store_as_written_is_sound(path):
    assert list(find_problems(path)) == []


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("frames/energy", -8.000001),
        ("atoms/position", 0.25),
        ("atoms/force", 0.0),
        ("frames/stress", np.nan),
        ("frames/split", 1),
        ("materials/frame_offset", 2),
        ("materials/id", "n7"),
        ("materials/numbers/e_form", 0.0),
        ("materials/texts/prototype_id", "other"),
    ],
)
def test_an_altered_value_is_found_in_its_column(path, column, value):
    with h5py.File(path, "r+") as file:
        file[column][1] = value
    (problem,) = find_problems(path)
    assert (problem.file, problem.column) == (str(path), column)
    assert "altered" in problem.what


def test_a_flipped_byte_in_a_column_is_found_there(path):
    with h5py.File(path) as file:
        chunk = file["atoms/position"].id.get_chunk_info(0)
    flip(path, chunk.byte_offset + chunk.size // 2)
    (problem,) = find_problems(path)
    assert problem.column == "atoms/position"


def test_no_flipped_byte_of_the_file_escapes(path):
    whole = path.read_bytes()
    for position in np.random.default_rng(0).integers(0, len(whole), 60):
        flip(path, int(position))
        assert list(find_problems(path)), position
        path.write_bytes(whole)


def flip(path, position: int):
    data = bytearray(path.read_bytes())
    data[position] ^= 0x10
    path.write_bytes(data)


def test_altered_metadata_are_found(path):
    with h5py.File(path, "r+") as file:
        text = file["metadata"].asstr()[()]
        del file["metadata"]
        file["metadata"] = text.replace("eV/A", "eV/B")
    assert [problem.column for problem in find_problems(path)] == ["metadata"]


def test_of_a_folder_the_truncated_shard_is_named(path, tmp_path):
    other = tmp_path / "other.h5"
    other.write_bytes(path.read_bytes()[:-100])
    (problem,) = find_problems(tmp_path)
    assert problem.file == str(other)


@pytest.mark.parametrize(
    ("label", "column"), [("energy", "frames/energy"), ("stress", "frames/stress"), ("forces", "atoms/force")]
)
def test_an_infinite_label_is_a_fault_and_a_missing_one_is_none(tmp_path, make_frame, label, column):
    path = tmp_path / "infinite.h5"
    shape = {"energy": (), "stress": (6,), "forces": (2, 3)}[label]
    frames = [make_frame(**{label: np.full(shape, value)}) for value in (np.nan, -np.inf)]
    with StoreWriter(path) as writer:
        writer.add(Trajectory("sound", frames[:1], "PBE", 3), "train")
    assert list(find_problems(path)) == []
    with StoreWriter(path) as writer:
        writer.add(Trajectory("infinite", frames, "PBE", 3), "train")
    assert [problem.column for problem in find_problems(path)] == [column]


def test_a_store_written_wrong_contradicts_itself(tmp_path, make_trajectory):
    path = tmp_path / "wrong.h5"
    cell = np.diag([4.0, 4.0, np.nan])
    with StoreWriter(path) as writer:
        writer.add(make_trajectory("m", numbers=(11, 0)), "train")
        writer.add(make_trajectory("n", cell=cell), "train")
    assert {problem.column for problem in find_problems(path)} == {"atoms/number", "frames/cell"}


def test_an_id_that_two_materials_of_one_functional_have_is_a_fault(tmp_path, make_trajectory):
    folder = tmp_path / "store"
    for shard, functionals in enumerate((("PBE", "PBEsol"), ("PBE",))):
        with StoreWriter(folder / f"{shard}.h5") as writer:
            for functional in functionals:
                writer.add(replace(make_trajectory("twin"), functional=functional), "train")
    (problem,) = find_problems(folder)
    assert problem.column == "materials/id"
    assert "'twin' (PBE) occurs twice: in" in problem.what
    assert "0.h5, material 0 and in" in problem.what
    assert "1.h5, material 0" in problem.what
