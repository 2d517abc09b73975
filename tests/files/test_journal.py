"""A journal loses nothing to a kill but the line that was being written."""

import json
import os
import signal
import subprocess
import sys

import pytest

from mlip.errors import MlipError
from mlip.files.journal import Journal, keep_records, read_journal, whole_lines

APPENDS = """
import sys
from pathlib import Path
from mlip.files.journal import Journal

with Journal(Path(sys.argv[1])) as journal:
    for k in range(3):
        journal.append({"k": k})
    print("done", flush=True)
    sys.stdin.read()
"""


def test_a_killed_process_has_written_what_it_appended(tmp_path):
    path = tmp_path / "journal.jsonl"
    command = [sys.executable, "-c", APPENDS, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "done\n"
        with pytest.raises(MlipError, match="another process appends to it now"):
            Journal(path)
        other.send_signal(signal.SIGKILL)
        other.wait()
    with Journal(path) as journal:
        journal.append({"k": 3})
    assert [record["k"] for record in read_journal(path)] == [0, 1, 2, 3]


def test_a_line_that_is_cut_short_counts_as_not_written(tmp_path):
    path = tmp_path / "journal.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n{"step": 3, "lo')
    assert list(read_journal(path)) == [{"step": 1}, {"step": 2}]
    keep_records(path, lambda record: record["step"] != 1)
    assert path.read_text() == '{"step": 2}\n'


def test_a_line_that_is_no_json_is_named(tmp_path):
    path = tmp_path / "journal.jsonl"
    path.write_text('{"step": 1}\nword\n{"step": 2}\n')
    with pytest.raises(MlipError, match=r"journal.jsonl:2: is no JSON"):
        list(whole_lines(path))


def test_what_stands_behind_a_cut_is_forgotten(tmp_path):
    path = tmp_path / "journal.jsonl"
    path.write_text('{"k": 0}\n{"k"')
    with Journal(path) as journal:
        journal.cut(sum(len(line) for _, line in whole_lines(path)))
        journal.append({"k": 1})
    assert [json.loads(line) for line in path.read_text().splitlines()] == [{"k": 0}, {"k": 1}]
    assert os.path.getsize(path) == 18
