"""The store: what is read is what was written, whoever reads it, and damage is named."""

import json
import multiprocessing
import os
import pickle
import resource
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise

import h5py
import numpy as np
import pytest

from mlip.data import Frame, Store, StoreWriter, Trajectory, writer
from mlip.data.schema import FORMAT_VERSION, STRUCTURES_VERSION
from mlip.data.shard import is_store
from mlip.errors import MlipError
from tests.clean_process import in_clean_process


def random_trajectories(n: int, seed: int = 0) -> list[tuple[Trajectory, str]]:
    """Materials of every shape: 1 to 40 atoms, 1 to 9 frames, labels missing here and there, any pbc."""
    rng = np.random.default_rng(seed)
    made = []
    for m in range(n):
        n_atoms = int(rng.integers(1, 41))
        numbers = rng.integers(1, 119, n_atoms).astype(np.int16)
        frames = [
            Frame(
                numbers=numbers,
                positions=rng.normal(size=(n_atoms, 3)) * 9,
                cell=rng.normal(size=(3, 3)) * 5,
                pbc=rng.random(3) < 0.5,
                energy=float(rng.normal() * 100) if rng.random() < 0.9 else float("nan"),
                forces=rng.normal(size=(n_atoms, 3)) if rng.random() < 0.8 else None,
                stress=rng.normal(size=6) if rng.random() < 0.5 else None,
                magmoms=rng.normal(size=n_atoms) if rng.random() < 0.3 else None,
                calculation=int(k > 4),
                ionic_step=k,
            )
            for k in range(rng.integers(1, 10))
        ]
        properties = {"e_form": float(rng.normal())} if m % 2 else {"prototype_id": f"p{m}", "spg": 225}
        material = Trajectory(f"agm{m:09d}", frames, ["PBE", "PBEsol"][m % 2], 1 + m % 3, properties)
        made.append((material, ["train", "val", "test"][m % 3]))
    return made


def write(path, materials, **options):
    with StoreWriter(path, **options) as store_writer:
        for trajectory, split in materials:
            store_writer.add(trajectory, split)
    return path


@pytest.fixture
def materials():
    return random_trajectories(60)


@pytest.fixture
def path(tmp_path, materials):
    return write(tmp_path / "store.h5", materials, settings={"seed": 0})


def assert_same_frame(read: Frame, written: Frame):
    np.testing.assert_array_equal(read.numbers, written.numbers)
    np.testing.assert_array_equal(read.positions, written.positions)
    np.testing.assert_array_equal(read.cell, written.cell)
    np.testing.assert_array_equal(read.pbc, written.pbc)
    np.testing.assert_equal(read.energy, written.energy)
    assert (read.calculation, read.ionic_step) == (written.calculation, written.ionic_step)
    for name in ("forces", "stress", "magmoms"):
        a, b = getattr(read, name), getattr(written, name)
        assert (a is None) == (b is None), name
        if a is not None:
            np.testing.assert_array_equal(a, b.astype(a.dtype))  # forces are kept in single precision


def test_frames_read_in_any_order_are_those_written(path, materials):
    written = [frame for trajectory, _ in materials for frame in trajectory.frames]
    with Store(path) as store:
        assert len(store) == len(written)
        for k in np.random.default_rng(1).permutation(len(written)):
            assert_same_frame(store.frame(int(k)), written[k])


def test_blocks_of_any_size_make_the_same_store(tmp_path, materials, monkeypatch, path):
    monkeypatch.setattr(writer, "BLOCK_ATOMS", 1)
    small = write(tmp_path / "small.h5", materials, settings={"seed": 0})
    with h5py.File(path) as a, h5py.File(small) as b:
        assert json.loads(a["checksums"].asstr()[()]) == json.loads(b["checksums"].asstr()[()])


def test_materials_keep_identity_properties_and_frames(path, materials):
    with Store(path) as store:
        assert store.n_materials == len(materials)
        first = 0
        for m, (trajectory, split) in enumerate(materials):
            material = store.material(m)
            assert material.id == trajectory.material_id
            assert material.split == split
            assert material.functional == trajectory.functional
            assert material.dimensionality == trajectory.dimensionality
            assert material.properties == trajectory.properties
            assert material.frames == range(first, first + len(trajectory.frames))
            assert {store.material_of(k) for k in material.frames} == {m}
            first = material.frames.stop
        assert [m.id for m in store.materials()] == [t.material_id for t, _ in materials]


def test_the_relaxed_structure_is_the_end_of_a_path_unless_the_path_has_lost_it(tmp_path, make_trajectory):
    whole, headless = make_trajectory("whole"), make_trajectory("headless")
    with StoreWriter(tmp_path / "s.h5") as writer:
        writer.add(whole, "train")
        writer.add(replace(headless, properties={"path_end_removed": 1.0}), "train")
    with Store(tmp_path / "s.h5") as store:
        first, second = store.materials()
        assert_same_frame(store.relaxed_frame(first), whole.frames[-1])
        assert (first.relaxed, first.why_not_relaxed) == (2, None)
        assert store.relaxed_frame(second) is None
        assert second.relaxed is None
        assert "relaxed structure was removed" in second.why_not_relaxed


def test_content_is_told_whatever_the_files_are_called(tmp_path, path, materials):
    copy, other = tmp_path / "copy.h5", tmp_path / "other" / path.name
    copy.write_bytes(path.read_bytes())
    other.parent.mkdir()
    write(other, materials[1:])
    first, second, third = (Store(each).content_sha256 for each in (path, copy, other))
    assert first == second != third


def test_formula_is_the_sources_or_the_reduced_one(tmp_path, make_trajectory):
    made = [make_trajectory(numbers=(11, 11, 17, 17)), make_trajectory(properties={"formula": "Na2Cl2"})]
    with Store(write(tmp_path / "s.h5", [(t, "train") for t in made])) as store:
        assert [m.formula for m in store.materials()] == ["NaCl", "Na2Cl2"]


def test_indices_of_the_splits_partition_the_frames(path, materials):
    with Store(path) as store:
        parts = {split: store.indices(split) for split in ("train", "val", "test")}
        assert np.array_equal(np.sort(np.concatenate(list(parts.values()))), store.indices())
        for split, indices in parts.items():
            assert indices.dtype == np.int64
            assert {store.material(store.material_of(int(k))).split for k in indices} == {split}
        with pytest.raises(MlipError, match="train, val, test"):
            store.indices("validation")


@pytest.mark.parametrize("gap", [1, 40, 1 << 13])
def test_sizes_are_known_without_reading_atoms(path, materials, monkeypatch, gap):
    monkeypatch.setattr("mlip.data.shard.GAP_BYTES", gap)
    monkeypatch.setattr("mlip.data.shard.RUN_BYTES", 100 * gap)
    sizes = np.array([len(frame) for trajectory, _ in materials for frame in trajectory.frames])
    indices = np.random.default_rng(2).integers(0, len(sizes), 500)
    with Store(path) as store:
        assert store.n_atoms == sizes.sum()
        found = store.n_atoms_of(indices)
        assert found.dtype == np.int32
        np.testing.assert_array_equal(found, sizes[indices])
        assert store.n_atoms_of([]).shape == (0,)
        with pytest.raises(IndexError):
            store.n_atoms_of([len(sizes)])


@pytest.mark.parametrize(("gap", "run"), [(0, 72), (0, 1 << 22), (200, 1000), (1 << 13, 1 << 22)])
@pytest.mark.parametrize("kept", [0, 1 << 27])
def test_columns_of_any_frames_in_any_order_are_those_of_the_frames(tmp_path, materials, monkeypatch, gap, run, kept):
    monkeypatch.setattr("mlip.data.shard.GAP_BYTES", gap)
    monkeypatch.setattr("mlip.data.shard.RUN_BYTES", run)
    monkeypatch.setattr("mlip.data.store.KEPT_BYTES", kept)
    for s, (start, stop) in enumerate(pairwise([0, 1, 20, 60])):
        write(tmp_path / f"{s}.h5", materials[start:stop])
    columns = ("frames/cell", "frames/energy", "frames/material", "atoms/number", "atoms/position")
    with Store(tmp_path) as store:
        for indices in (np.random.default_rng(3).integers(0, len(store), 90), store.indices(), np.zeros(0, np.int64)):
            found = store.gather(columns, indices)
            frames = [store.frame(int(k)) for k in indices]
            assert found["size"].tolist() == [len(frame) for frame in frames]
            assert found["material"].tolist() == [store.material_of(int(k)) for k in indices]
            np.testing.assert_array_equal(found["energy"], [frame.energy for frame in frames])
            np.testing.assert_array_equal(found["cell"], np.reshape([frame.cell for frame in frames], (-1, 3, 3)))
            numbers = [number for frame in frames for number in frame.numbers]
            np.testing.assert_array_equal(found["number"], numbers)
            positions = [position for frame in frames for position in frame.positions]
            np.testing.assert_array_equal(found["position"], np.reshape(positions, (-1, 3)))


def test_a_small_store_is_kept_in_memory_and_a_large_one_is_not(path, materials, monkeypatch):
    def cache_of(store: Store, column: str) -> int:
        return store.shards[0][column].id.get_access_plist().get_chunk_cache()[1]

    with Store(path) as store:
        n_bytes = store.shards[0].unpacked_bytes
        assert sum(cache_of(store, name) for name in ("atoms/position", "atoms/force", "atoms/magmom")) < n_bytes
        for name in ("atoms/position", "frames/cell"):
            assert cache_of(store, name) >= store.shards[0][name].nbytes
        read = store.gather(("atoms/position",), store.indices())
    monkeypatch.setattr("mlip.data.store.KEPT_BYTES", n_bytes - 1)
    with Store(path) as store:
        default = h5py.h5p.create(h5py.h5p.DATASET_ACCESS).get_chunk_cache()[1]
        assert cache_of(store, "atoms/position") == default
        again = store.gather(("atoms/position",), store.indices())
    np.testing.assert_array_equal(read["position"], again["position"])


@pytest.mark.parametrize("index", [-1, 10**9])
def test_a_frame_that_is_not_there_is_an_index_error(path, index):
    with Store(path) as store:
        with pytest.raises(IndexError):
            store.frame(index)
        with pytest.raises(IndexError):
            store.gather(("frames/energy",), np.array([0, index]))


def test_a_folder_of_shards_is_one_store(tmp_path, materials):
    folder = tmp_path / "shards"
    cuts = [0, 1, 20, 20 + 35, 60]  # ragged
    for s, (start, stop) in enumerate(pairwise(cuts)):
        write(folder / f"{s:05d}.h5", materials[start:stop])
    whole = write(tmp_path / "whole.h5", materials)
    with Store(folder) as parts, Store(whole) as store:
        assert (len(parts), parts.n_materials, parts.n_atoms) == (len(store), store.n_materials, store.n_atoms)
        for k in range(len(store)):
            assert_same_frame(parts.frame(k), store.frame(k))
            assert parts.material_of(k) == store.material_of(k)
        assert list(parts.materials()) == list(store.materials())
        np.testing.assert_array_equal(parts.indices("val"), store.indices("val"))
        np.testing.assert_array_equal(parts.n_atoms_of(store.indices()), store.n_atoms_of(store.indices()))


def test_a_store_can_be_pickled_and_read_by_other_processes(path):
    store = Store(path)
    copy = pickle.loads(pickle.dumps(store))
    assert_same_frame(copy.frame(5), store.frame(5))
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        energies = pool.map(energy_of, [(store, k) for k in range(20)])
    np.testing.assert_equal(energies, [store.frame(k).energy for k in range(20)])


def energy_of(task):
    store, k = task
    return store.frame(k).energy


def exit_code_of_a_fork_that_reads(path) -> int:
    store = Store(path)
    expected = store.frame(7).energy
    parents_shard = store.shards[0]
    pid = os.fork()
    if pid == 0:
        same = store.frame(7).energy == expected or np.isnan(expected)
        os._exit(0 if same and store.shards[0] is not parents_shard else 1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_a_forked_child_reads_by_a_handle_of_its_own(path):
    assert in_clean_process(exit_code_of_a_fork_that_reads, path) == 0


def test_several_threads_read_the_same_frames(path, materials):
    written = [frame for trajectory, _ in materials for frame in trajectory.frames]
    with Store(path) as store, ThreadPoolExecutor(8) as pool:
        for frame, expected in zip(pool.map(store.frame, range(len(written))), written, strict=True):
            assert_same_frame(frame, expected)


def test_metadata_tell_version_units_sign_settings_and_counts(path, materials):
    with Store(path) as store:
        metadata = store.metadata
        assert metadata["format_version"] == STRUCTURES_VERSION
        assert metadata["units"]["stress"] == "eV/A^3, Voigt xx yy zz yz xz xy, tension positive (ASE)"
        assert metadata["settings"] == {"seed": 0}
        assert metadata["counts"] == {
            "frames": len(store),
            "atoms": store.n_atoms,
            "materials": store.n_materials,
        }


def test_labels_that_no_frame_has_take_no_space(tmp_path):
    materials = random_trajectories(200)
    bare = [
        (Trajectory(t.material_id, [bare_frame(f) for f in t.frames], t.functional, t.dimensionality), split)
        for t, split in materials
    ]
    store = write(tmp_path / "bare.h5", bare)
    with h5py.File(store) as file:
        for column in ("atoms/force", "atoms/magmom", "frames/stress"):
            assert file[column].id.get_storage_size() == 0
    with Store(store) as opened:
        assert opened.frame(3).forces is None


def bare_frame(frame: Frame) -> Frame:
    return Frame(frame.numbers, frame.positions, frame.cell, frame.pbc, energy=1.0)


# --- atomic writing


def test_an_exception_leaves_the_old_store_and_no_litter(path, tmp_path, materials):
    old = path.read_bytes()
    with pytest.raises(MlipError, match="without frames"):
        write(path, [*materials, (Trajectory("m", [], "PBE", 3), "train")])
    assert path.read_bytes() == old
    assert [p.name for p in tmp_path.iterdir()] == ["store.h5"]


def test_a_killed_writer_leaves_the_old_store_and_the_next_one_cleans_up(path, tmp_path, materials):
    old = path.read_bytes()
    script = f"""
        import os, signal
        from mlip.data import Frame, StoreWriter, Trajectory, writer
        import numpy as np
        writer.BLOCK_ATOMS = 1
        store_writer = StoreWriter({str(path)!r})
        frame = Frame(np.array([1]), np.zeros((1, 3)), np.eye(3), np.ones(3, bool), -1.0)
        for _ in range(50):
            store_writer.add(Trajectory("m", [frame], "PBE", 3), "train")
        os.kill(os.getpid(), signal.SIGKILL)
    """
    killed = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=False)
    assert killed.returncode == -9
    assert path.read_bytes() == old
    assert len(list(tmp_path.iterdir())) == 2  # and what the dead process was writing
    write(path, materials[:3])
    assert [p.name for p in tmp_path.iterdir()] == ["store.h5"]
    with Store(path) as store:
        assert store.n_materials == 3


# --- files that are not what they should be


def test_a_path_that_is_not_there_says_so(tmp_path):
    with pytest.raises(MlipError, match="no such store"):
        Store(tmp_path / "none.h5")


def test_an_empty_folder_says_so(tmp_path):
    with pytest.raises(MlipError, match="holds no store"):
        Store(tmp_path)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.999])
def test_a_truncated_store_is_named_in_one_line(path, share):
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(MlipError, match=r"store\.h5: ") as error:
        Store(path)
    assert "\n" not in str(error.value)


def test_a_file_of_another_kind_is_not_a_store(tmp_path):
    text = tmp_path / "text.h5"
    text.write_text("not HDF5" * 1000)
    with pytest.raises(MlipError, match="not a readable HDF5 file"):
        Store(text)
    other = tmp_path / "other.h5"
    h5py.File(other, "w").close()
    with pytest.raises(MlipError, match="not an mlip store"):
        Store(other)


def test_a_store_of_a_newer_version_says_what_to_do(path):
    with h5py.File(path, "r+") as file:
        file.attrs["format_version"] = FORMAT_VERSION + 1
    with pytest.raises(MlipError, match=rf"format {FORMAT_VERSION + 1} is newer than format {FORMAT_VERSION}.*upgrade"):
        Store(path)


def test_a_missing_or_mistyped_column_is_named(path):
    with h5py.File(path, "r+") as file:
        del file["atoms/force"]
    with pytest.raises(MlipError, match="column atoms/force is missing"):
        Store(path)
    with h5py.File(path, "r+") as file:
        file["atoms/force"] = np.zeros((len(file["atoms/number"]), 3), dtype="f8")
    with pytest.raises(MlipError, match="column atoms/force is float64"):
        Store(path)


def test_a_column_of_another_length_is_named(path):
    with h5py.File(path, "r+") as file:
        file["frames/energy"].resize(3, axis=0)
    with pytest.raises(MlipError, match=r"column frames/\w+ has \d+ rows"):
        Store(path)


def test_a_column_that_lies_in_another_file_is_not_followed(path, tmp_path):
    secret = tmp_path / "secret.h5"
    with h5py.File(secret, "w") as file, h5py.File(path) as store:
        file["energy"] = store["frames/energy"][:]
    with h5py.File(path, "r+") as file:
        del file["frames/energy"]
        file["frames/energy"] = h5py.ExternalLink(str(secret), "energy")
    with pytest.raises(MlipError, match="frames/energy is missing"):
        Store(path)


def test_a_frame_that_claims_atoms_beyond_the_file_is_damage(path):
    with h5py.File(path, "r+") as file:
        file["frames/atom_offset"][4] = 10**12
    with Store(path) as store, pytest.raises(MlipError, match="frame 4 claims atoms"):
        store.frame(4)


@pytest.mark.parametrize("offsets", [[0, 9, 1, 9, 2, 9], [0, 2**62, -(2**62) - 1], [5, 3, 8], [-1, 2]])
def test_frames_that_claim_the_atoms_of_others_are_damage(path, offsets):
    with h5py.File(path, "r+") as file:
        file["frames/atom_offset"][: len(offsets)] = offsets
    frames = np.arange(0, len(offsets) - 1, 2)
    with Store(path) as store:
        for read in (lambda: store.gather(("atoms/position",), frames), lambda: store.n_atoms_of(frames)):
            with pytest.raises(MlipError, match=r"not ascending|claims"):
                read()


def test_chunks_of_parts_of_rows_are_damage(path):
    with h5py.File(path, "r+") as file:
        positions = file["atoms/position"][:]
        del file["atoms/position"]
        file.create_dataset("atoms/position", data=positions, chunks=(4, 2))
    with pytest.raises(MlipError, match="atoms/position has chunks of parts of rows"):
        Store(path)


# --- size


def open_and_read_the_last_frame(path, n: int) -> tuple[float, int]:
    """Seconds, and kB by which the process grew."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    with Store(path) as store:
        assert len(store) == n
        assert len(store.frame(n - 1)) == store.n_atoms
        seconds = time.perf_counter() - start
    return seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before


def test_a_hundred_million_frames_open_at_once_in_little_memory(tmp_path):
    path = write(tmp_path / "large.h5", random_trajectories(1))
    n = 100_000_000
    with h5py.File(path, "r+") as file:  # only the index is large; columns never written take no space
        for name, column in file["frames"].items():
            column.resize(n + (name == "atom_offset"), axis=0)
        file["frames/atom_offset"][-3:] = [0, 0, len(file["atoms/number"])]
        file["materials/frame_offset"][:] = [0, n]
    seconds, grown = in_clean_process(open_and_read_the_last_frame, path, n)
    assert grown < 50_000  # kB
    assert seconds < 1.0  # 0.02 on an idle core


def test_a_store_is_opened_any_number_of_times(tmp_path, materials):
    """HDF5 2.0 crashes the process here, if each opening is a file handle of its own."""
    path = write(tmp_path / "store.h5", materials)
    with Store(path) as first:
        for _ in range(3):
            with Store(path) as other:
                expected = [material.id for material in other.materials()]
        assert [material.id for material in first.materials()] == expected
    with Store(path) as again:
        assert [material.id for material in again.materials()] == expected


def test_two_stores_with_one_file_name_keep_their_metadata_apart(tmp_path):
    for name, cutoff in (("a", 0.01), ("b", 0.02)):
        with StoreWriter(tmp_path / name / "store.h5", {"subsample": cutoff}) as writer:
            writer.add(Trajectory(name, [Frame(*one_atom())], "PBE", 3), "train")
    with Store(tmp_path / "a" / "store.h5", tmp_path / "b" / "store.h5") as both:
        assert {path: known["settings"]["subsample"] for path, known in both.metadata.items()} == {
            str(tmp_path / "a" / "store.h5"): 0.01,
            str(tmp_path / "b" / "store.h5"): 0.02,
        }


@pytest.mark.parametrize("ending", ["h5", "hdf5", "H5"])
def test_a_store_is_known_by_either_ending_alone_and_in_a_folder(tmp_path, ending):
    path = tmp_path / "folder" / f"store.{ending}"
    with StoreWriter(path) as writer:
        writer.add(Trajectory("m", [Frame(*one_atom())], "PBE", 3), "train")
    assert is_store(path)
    assert is_store(path.parent)
    assert len(Store(path.parent)) == len(Store(path)) == 1
    assert not is_store(tmp_path)
    assert not is_store(tmp_path / "store.extxyz")


def one_atom() -> tuple:
    return np.array([29], np.int16), np.zeros((1, 3)), np.eye(3) * 3.6, np.ones(3, bool), -3.7
