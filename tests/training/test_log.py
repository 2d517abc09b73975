"""What a run says while it lasts, on a terminal, in a log file, and to Weights & Biases."""

import errno
import os
import pty
import re
import struct
import subprocess
import sys
from importlib.util import find_spec

import pytest
from tensorboardX.proto.event_pb2 import Event

from mlip.errors import MlipError
from mlip.training import log as log_module
from mlip.training.live_table import RunDisplay
from mlip.training.log import RunLog, read_metrics
from mlip.training.potentials.potential_loss import QUANTITIES

TRAIN = {
    "loss": 0.0123,
    "loss_energy": 0.008,
    "loss_forces": 0.0041,
    "loss_stress": 0.0002,
    "energy_mae": 23.14,
    "forces_mae": 0.0456,
    "stress_mae": None,
    "gradient_norm": 0.3,
    "structures_per_second": 1234.5,
    "data_wait_share": 0.012,
    "padded_fraction": 0.07,
    "compiled_shapes": 2,
    "compilation_seconds": 3.1,
    "skipped_steps": 0,
}
VALIDATION = {"epoch": 1, **{key: TRAIN[key] for key in list(TRAIN)[:7]}, "energy_mae": 31.4}

_SESSION = """
import sys
from pathlib import Path
sys.path.insert(0, "tests/training")
from test_log import TRAIN, VALIDATION
from mlip.training.log import RunLog
from mlip.training.potentials.potential_loss import QUANTITIES
with RunLog(Path(sys.argv[1]), n_steps=400, quantities=QUANTITIES) as log:
    log.say("a line that stays [and is no markup]")
    log.write("train", 20, TRAIN)
    log.write("validation", 20, VALIDATION)
    log.write("train", 40, TRAIN)
    log._live.refresh()
"""


def on_a_terminal(tmp_path, columns: int) -> list[str]:
    """The lines that a terminal so wide is sent."""
    master, slave = pty.openpty()
    environment = os.environ | {"COLUMNS": str(columns), "LINES": "24", "TERM": "xterm", "PYTHONUTF8": "1"}
    process = subprocess.Popen([sys.executable, "-c", _SESSION, str(tmp_path)], stdout=slave, env=environment)
    os.close(slave)
    sent = b""
    try:
        while chunk := os.read(master, 65536):
            sent += chunk
    except OSError:  # Linux's way to say that the other end is closed
        pass
    os.close(master)
    assert process.wait() == 0
    without_colors = re.sub(r"\x1b\[[0-9;]*m", "", sent.decode())
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]|\r", "\n", without_colors).splitlines()


@pytest.mark.parametrize("columns", [80, 140])
def test_a_terminal_shows_a_table_in_units_that_people_use(tmp_path, columns):
    lines = on_a_terminal(tmp_path, columns)
    assert "a line that stays [and is no markup]" in lines
    (heading,) = {line.rstrip() for line in lines if "meV/atom" in line}
    assert all(unit in heading for unit in ("F eV/Å", "GPa"))
    last = {line.split()[0]: line.split()[1:] for line in lines if line.startswith(("training", "validation"))}
    assert last["training"] == ["0.0123", "0.008", "0.0041", "0.0002", "23.1", "0.046", "-", "40"]
    assert last["validation"][4:] == ["31.4", "0.046", "-", "20"]
    assert any("1,234 structures/s, data wait 1%, padding 7%, 2 compiled" in line for line in lines)
    assert any(re.search(r"step 40/400 +0:00:0\d left", line) for line in lines)
    assert max(map(len, lines)) <= columns


def test_a_log_file_gets_a_plain_line_now_and_then(tmp_path, capsys, monkeypatch):
    with RunLog(tmp_path, n_steps=400, quantities=QUANTITIES) as log:
        log.write("train", 20, TRAIN)  # too soon after the start
        monkeypatch.setattr(log_module, "_SECONDS_A_LINE", 0)
        log.write("train", 40, TRAIN)
        log.write("validation", 40, VALIDATION)  # the loop says this itself
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(
        "step 40/400  loss 0.0123 (E 0.008, F 0.0041, S 0.0002)  E 23.1 meV/atom  F 0.046 eV/Å  S - GPa"
    )
    assert line.endswith("left")


def test_quiet_is_quiet(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(log_module, "_SECONDS_A_LINE", 0)
    with RunLog(tmp_path, n_steps=400, quantities=QUANTITIES, quiet=True) as log:
        log.say("a line")
        log.write("train", 20, TRAIN)
    assert capsys.readouterr() == ("", "")
    assert [record["step"] for record in read_metrics(tmp_path, "train")] == [20]


def test_the_time_left_is_by_the_steps_of_this_life_of_the_run(monkeypatch):
    clock = iter([100.0, 110.0])
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    display = RunDisplay(n_steps=1000, quantities=QUANTITIES, resumed_from=500)
    display.update("train", 520, TRAIN)
    display.update("train", 540, TRAIN)
    assert "0:03:50 left" in display.line()  # 460 steps at half a second


def test_weights_and_biases_that_is_not_installed_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(MlipError, match=r"pip install 'alexandria-mlip\[wandb\]'"):
        RunLog(tmp_path, n_steps=1, quantities=QUANTITIES, wandb_project="crystals")


@pytest.mark.skipif(find_spec("wandb") is None, reason="needs wandb")
def test_weights_and_biases_gets_the_records_without_a_network_and_a_resumed_run_goes_on(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    (tmp_path / "recipe.yaml").write_text("train: {epochs: 3}\n")
    options = {"n_steps": 40, "quantities": QUANTITIES, "quiet": True, "wandb_project": "crystals"}
    for resumed_from in (0, 20):
        with RunLog(tmp_path, resumed_from=resumed_from, **options) as log:
            log.write("train", resumed_from + 20, TRAIN)
    runs = [path.name for path in (tmp_path / "wandb").glob("offline-run-*")]
    (name,) = {run.rpartition("-")[2] for run in runs}
    assert name == (tmp_path / "wandb_id").read_text().strip()
    assert any(path.stat().st_size for path in tmp_path.glob("wandb/offline-run-*/*.wandb"))


@pytest.mark.parametrize("part", ["metrics.jsonl", "tensorboard"])
def test_a_full_disk_is_one_line_from_the_thread_that_trains(tmp_path, monkeypatch, capfd, part):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    log = RunLog(tmp_path, n_steps=40, quantities=QUANTITIES, quiet=True)
    if part == "tensorboard":
        monkeypatch.setattr(log._board._writer._py_recordio_writer._writer, "write", full, raising=False)
    else:
        monkeypatch.setattr(log._journal, "_file", FullFile())
    with pytest.raises(MlipError, match="cannot write the log: No space left on device") as error, log:
        log.write("train", 20, TRAIN)
    assert "make room, then go on with --resume" in str(error.value)
    assert capfd.readouterr() == ("", "")


class FullFile:
    """On a full disk: neither writing nor closing goes well."""

    closed = False

    def write(self, text: str) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    close = flush = lambda self: self.write("")


def test_tensorboard_reads_what_was_written_and_forgets_steps_that_are_done_again(tmp_path):
    for resumed_from in (0, 10):
        with RunLog(tmp_path, n_steps=40, quantities=QUANTITIES, quiet=True, resumed_from=resumed_from) as log:
            log.write("train", resumed_from + 10, TRAIN)
    events = [event for path in sorted((tmp_path / "tensorboard").iterdir()) for event in read_events(path)]
    losses = [
        (event.step, value.simple_value)
        for event in events
        for value in event.summary.value
        if value.tag == "train/loss"
    ]
    assert losses == [(10, pytest.approx(0.0123)), (20, pytest.approx(0.0123))]
    assert [event.step for event in events if event.HasField("session_log")] == [1, 11]


def read_events(path):
    """The events of a TFRecord file: length, its checksum, event, its checksum."""
    content, place = path.read_bytes(), 0
    while place < len(content):
        (length,) = struct.unpack_from("Q", content, place)
        yield Event.FromString(content[place + 12 : place + 12 + length])
        place += 12 + length + 4
