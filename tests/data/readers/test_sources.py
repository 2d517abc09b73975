"""Which files are read, and by which reader."""

import pytest

from mlip.data import Entry, Trajectory
from mlip.data.readers.sources import read_source, source_files, source_names
from mlip.errors import MlipError


def test_a_folder_gives_its_data_files_in_order_of_names(tmp_path):
    for name in ("b/pbe_1.json.bz2", "b/pbe_0.json.bz2", "a.extxyz.gz", "notes.txt", ".hidden.json", "c.db"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    names = [str(path.relative_to(tmp_path)) for path in source_files([tmp_path])]
    assert names == ["a.extxyz.gz", "b/pbe_0.json.bz2", "b/pbe_1.json.bz2", "c.db"]


def test_a_file_that_is_named_twice_is_read_once(tmp_path):
    file = tmp_path / "a.json"
    file.touch()
    assert source_files([file, tmp_path, file]) == [file]


def test_sources_are_called_by_their_place_in_the_given_folder_or_by_as_much_as_tells_them_apart(tmp_path):
    for name in ("md/run1/a.xyz", "md/run2/a.xyz", "run1/OUTCAR", "run2/OUTCAR", "other/b.cif"):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).touch()
    given = [tmp_path / name for name in ("md", "run1/OUTCAR", "run2/OUTCAR", "other/b.cif")]
    assert list(source_names(given).values()) == ["run1/a.xyz", "run2/a.xyz", "run1/OUTCAR", "run2/OUTCAR", "b.cif"]
    assert list(source_names(given[1:2]).values()) == ["OUTCAR"]


def test_a_missing_path_an_empty_folder_and_a_store_are_told_apart(tmp_path):
    with pytest.raises(MlipError, match=r"none\.json: no such file or folder"):
        source_files([tmp_path / "none.json"])
    with pytest.raises(MlipError, match="holds nothing to read"):
        source_files([tmp_path])
    store = tmp_path / "store.h5"
    store.touch()
    with pytest.raises(MlipError, match="not a source"):
        source_files([store])


def test_json_is_alexandrias_and_the_rest_ases(shared):
    folder = shared / "data"
    entry = next(iter(read_source(folder / "alexandria" / "fixture_entries_pbe.json.bz2")))
    assert isinstance(entry, Entry)
    path = next(iter(read_source(folder / "trajectories" / "pbe_relaxations.extxyz.gz")))
    assert isinstance(path, Trajectory)
