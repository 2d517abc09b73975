"""Vectors of elements are read from JSON and from tables, packed or not, and a bad file is one line."""

import gzip
import json

import numpy as np
import pytest

from mlip.data.element_vectors import read_element_vectors
from mlip.errors import MlipError

VECTORS = {"H": [0.25, -1.0], "Fe": [2.0, 1e-3]}
TABLE = "element,0,1\nH,0.25,-1.0\nFe,2,0.001\n"


def test_json_and_tables_give_the_same_vectors(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps(VECTORS))
    (tmp_path / "a.csv").write_text(TABLE)
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(TABLE.encode()))
    for name in ("a.json", "a.csv", "a.csv.gz"):
        found = read_element_vectors(tmp_path / name)
        assert list(found) == list(VECTORS)
        for symbol, vector in VECTORS.items():
            np.testing.assert_array_equal(found[symbol], vector)


@pytest.mark.parametrize(
    ("name", "content", "fault"),
    [
        ("a.csv", b"", "is not a table of elements and numbers"),
        ("a.csv", b"element,0\nH,one\n", "is not a table of elements and numbers"),
        ("a.csv", b"element,0\n", "has no elements"),
        ("a.csv", b"element,0\nH,1\nQq,1\n", "'Qq' is no element"),
        ("a.csv", b"element,0\nH,1\nHe,1,2\n", "has 2 numbers, others 1"),
        ("a.csv", b"element,0\nH,nan\n", "no list of finite numbers"),
        ("a.csv.gz", b"no gzip", "cannot be read: Not a gzipped file"),
        ("a.csv.gz", gzip.compress(TABLE.encode(), mtime=0)[:-12], "is not a table of elements and numbers"),
        ("a.json", b"{", "is not JSON"),
    ],
)
def test_a_bad_file_is_one_line(tmp_path, name, content, fault):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(MlipError) as error:
        read_element_vectors(tmp_path / name)
    assert fault in str(error.value)
    assert "\n" not in str(error.value)


def test_mat2vec_of_118_elements_is_read_as_its_publishers_have_it(shared):
    vectors = read_element_vectors(shared / "data/crabnet/mat2vec_embedding.csv.gz")
    assert len(vectors) == 118
    assert {len(vector) for vector in vectors.values()} == {200}
