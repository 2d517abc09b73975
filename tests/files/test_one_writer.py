"""One process at a time writes: whoever comes second is told, and a process that died keeps nobody out."""

import errno
import fcntl
import os
import signal
import subprocess
import sys

import pytest

from mlip.errors import MlipError
from mlip.files.one_writer import claim, one_writer
from mlip.relaxation.results_file import ResultsFile, read_results

REFUSAL = MlipError("another one writes here", where="there")

HOLDS_THE_LOCK = """
import sys
from pathlib import Path
from mlip.errors import MlipError
from mlip.files.one_writer import one_writer

with one_writer(Path(sys.argv[1]), MlipError("no")):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_the_second_one_is_refused_as_long_as_the_first_one_writes(tmp_path):
    lock = tmp_path / ".lock"
    with one_writer(lock, REFUSAL), pytest.raises(MlipError, match="there: another one writes here"):
        one_writer(lock, REFUSAL).__enter__()
    with one_writer(lock, REFUSAL):
        pass
    assert not lock.exists()


def test_a_killed_process_keeps_nobody_out(tmp_path):
    lock = tmp_path / ".lock"
    command = [sys.executable, "-c", HOLDS_THE_LOCK, str(lock)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(MlipError, match="another one"), one_writer(lock, REFUSAL):
            pass
        other.send_signal(signal.SIGKILL)
        other.wait()
    assert lock.exists()
    with one_writer(lock, REFUSAL):
        pass


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_told_of_and_no_obstacle(tmp_path, monkeypatch, code):
    def no_locks(*_) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with (tmp_path / "file").open("w") as file, pytest.warns(UserWarning, match=r"file: this file system has no locks"):
        claim(file, REFUSAL)


def test_where_nobody_may_write_is_one_line(tmp_path):
    with (
        pytest.raises(MlipError, match=r"missing: cannot write here \(No such file"),
        one_writer(tmp_path / "missing" / ".lock", REFUSAL),
    ):
        pass


def test_two_processes_do_not_append_to_one_results_file(tmp_path):
    path = tmp_path / "results.jsonl"
    with ResultsFile(path, {"fmax": 0.1}) as results:
        results.append({"id": "a"})
        with pytest.raises(MlipError, match=r"results\.jsonl: another process appends to it"):
            ResultsFile(path, {"fmax": 0.1})
        results.append({"id": "b"})
    with ResultsFile(path, {"fmax": 0.1}) as results:
        assert [record["id"] for record in results.records] == ["a", "b"]
    assert len(read_results(path)[1]) == 2
