"""Large JSON files, member by member."""

import bz2
import gzip
import json
import math

import pytest

from mlip.data.readers import json_stream, streams
from mlip.data.readers.json_stream import members
from mlip.errors import MlipError
from tests.clean_process import with_peak_memory


@pytest.fixture
def write(tmp_path):
    def to_file(text, name="file.json"):
        path = tmp_path / name
        data = text.encode() if isinstance(text, str) else text
        path.write_bytes(data)
        return path

    return to_file


VALUES = {"a": [1, 2.5e-3, -0.0], "b": {"x": 'brace } and " quote, é 😀'}, "c": None, "d": 12345678901234, "e": True}


@pytest.mark.parametrize("block", [1, 2, 7, 64, 1 << 20])
@pytest.mark.parametrize("compress", [lambda x: x, bz2.compress, gzip.compress])
def test_members_are_the_same_wherever_the_blocks_end(write, monkeypatch, block, compress):
    monkeypatch.setattr(streams, "BLOCK_BYTES", block)
    text = json.dumps(VALUES, indent=1, ensure_ascii=False)
    assert list(members(write(compress(text.encode())))) == list(VALUES.items())


@pytest.mark.parametrize("block", [1, 5, 1 << 20])
def test_brackets_quotes_and_backslashes_in_strings_are_text(write, monkeypatch, block):
    monkeypatch.setattr(streams, "BLOCK_BYTES", block)
    values = {'k"]': ["\\", '\\\\"', "]}", ['[{"', "\\n"]], "]": {"}": '"\\"'}, "[": "\\\\", "{": [[[]], {}]}
    assert list(members(write(json.dumps(values)))) == list(values.items())


def test_bare_nan_and_infinity_are_read(write):
    found = dict(members(write('{"a": [NaN, Infinity, -Infinity]}')))
    assert math.isnan(found["a"][0])
    assert found["a"][1:] == [math.inf, -math.inf]


def test_a_list_of_entries_is_given_item_by_item(write):
    text = '{"@module": "x", "entries": [{"entry_id": "a"}, {"entry_id": "b"}], "entries_end": 1}'
    found = list(members(write(text)))
    assert found == [
        ("@module", "x"),
        ("entries", {"entry_id": "a"}),
        ("entries", {"entry_id": "b"}),
        ("entries_end", 1),
    ]


@pytest.mark.parametrize("text", ["{}", ' \n{ "entries" : [ ] }\n'])
def test_an_empty_file_of_the_layout_has_no_member(write, text):
    assert list(members(write(text))) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "ends early"),
        ("[1, 2]", "expected a JSON object"),
        ('{"a": 1', "ends early.* last complete material: a"),
        ('{"a": 1, "b": [1, 2', "ends early.* last complete material: a"),
        ('{"a": 1, "b": [1 2], "c": 3' + " " * 100 + "}", "not JSON .* last complete material: a"),
        ('{"a": 1 "b": 2}', "expected ',' or '}'"),
        ('{"a": 1, }', "expected a value"),
        ('{"entries": [{"entry_id": "x"}, ', "ends early.* last complete material: x"),
        ("{" + '"a": ' + "[" * 100_000, "ends early"),
        ("{" + '"a": ' + "[" * 100_000 + "]" * 100_000 + "}", "not JSON"),
        ('{"a": [1}, "b": 2}', "not JSON .*before the first complete material"),
    ],
)
def test_what_is_no_json_says_where_it_stops_being_it(write, text, message):
    with pytest.raises(MlipError, match=message):
        list(members(write(text)))


def test_bytes_that_are_no_text_are_refused(write):
    with pytest.raises(MlipError, match="UTF-8"):
        list(members(write(b'{"a": "\xff\xfe"}')))


def test_a_value_without_end_is_given_up_before_memory_is(write, monkeypatch):
    monkeypatch.setattr(json_stream, "MAX_VALUE_BYTES", 10_000)
    monkeypatch.setattr(streams, "BLOCK_BYTES", 1000)
    with pytest.raises(MlipError, match="1 GB"):
        list(members(write('{"a": [' + "1, " * 10_000)))


def count_in_small_blocks(path) -> int:
    streams.BLOCK_BYTES = 1 << 16
    return sum(1 for _ in members(path))


def test_memory_holds_a_member_and_not_the_file(tmp_path):
    path = tmp_path / "large.json.gz"
    member = json.dumps([[0.123456789] * 3] * 300)  # 12 kB
    with gzip.open(path, "wt", compresslevel=1) as stream:
        stream.write("{" + ",".join(f'"m{k}": {member}' for k in range(1000)) + "}")  # 12 MB
    count, peak = with_peak_memory(count_in_small_blocks, path)
    assert count == 1000
    assert peak < 1.5e6  # a few blocks of 64 kB, as bytes and as text, and one member


OBJECTS = [{"a": [1, {"b": "}{"}]}, {}, {"entries": [{"entry_id": "x"}, 2]}, {"c": None}]


def packed_apart(compress):
    return lambda texts: b"".join(compress(text.encode()) for text in texts)


@pytest.mark.parametrize("block", [1, 11, 1 << 20])
@pytest.mark.parametrize(
    "join",
    [
        lambda texts: "\n".join(texts).encode(),
        lambda texts: "".join(texts).encode(),
        lambda texts: "\r\n \t\n".join([*texts, ""]).encode(),
        packed_apart(bz2.compress),
        packed_apart(gzip.compress),
        lambda texts: bz2.compress("\n".join(texts).encode()),
    ],
    ids=["lines", "concatenated", "white space", "bz2 streams", "gzip streams", "lines in bz2"],
)
def test_objects_after_one_another_are_read_as_one(write, monkeypatch, block, join):
    monkeypatch.setattr(streams, "BLOCK_BYTES", block)
    path = write(join([json.dumps(one) for one in OBJECTS]))
    assert list(members(path)) == [("a", [1, {"b": "}{"}]), ("entries", {"entry_id": "x"}), ("entries", 2), ("c", None)]


@pytest.mark.parametrize("rest", ["anything", ", {}", "[1]", "}", "\0", '"text"', "7"])
def test_whatever_else_follows_an_object_is_an_error_at_its_place(write, rest):
    with pytest.raises(MlipError, match=r"another JSON object or the end, found .* at byte 9; last complete.*: a"):
        list(members(write('{"a": 1} ' + rest)))


def test_a_second_object_that_is_cut_short_is_an_error(write):
    with pytest.raises(MlipError, match=r"ends early.*last complete material: a"):
        list(members(write('{"a": 1}\n{"b": ')))


@pytest.mark.parametrize("compress", [bz2.compress, gzip.compress])
def test_text_after_the_compressed_data_is_not_left_out_in_silence(write, compress):
    path = write(compress(b'{"a": 1}') + b'{"b": 2} as it came')
    with pytest.raises(MlipError, match="cannot be read"):
        list(members(path))
