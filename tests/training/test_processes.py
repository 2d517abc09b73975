"""Processes that train together: they agree, and none is left waiting for a dead one."""

import json
import re
import signal
import socket
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest

from mlip.errors import MlipError
from mlip.training import processes

PRELUDE = """
import json, os, sys, time
import numpy as np
from mlip.errors import MlipError
from mlip.training import parallel, processes

processes._BEAT_SECONDS, processes._DEAD_SECONDS, processes._JOIN_SECONDS = 0.3, 3.0, {patience}
me = int(sys.argv[1])
with processes.joined("127.0.0.1:{port}", 2, me):
"""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def start(*members: int, code: str, patience: float = 60.0) -> list[subprocess.Popen]:
    """These of two processes that run `code` together."""
    script = PRELUDE.format(port=free_port(), patience=patience) + textwrap.indent(textwrap.dedent(code), "    ")
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return [subprocess.Popen([sys.executable, "-c", script, str(member)], **pipes) for member in members]


TRAINING_FOR_EVER = """
    step = parallel.parallelize(lambda state, x: state + parallel.sum_over_devices(x.sum()))
    state = parallel.replicate(np.float32(0))
    while True:
        state = step(state, np.ones((parallel.n_devices(), 3), np.float32))
        if parallel.fetch(state) == 30:
            print("running", flush=True)
"""


def test_processes_tell_one_another_what_they_know(tmp_path):
    both = start(
        0,
        1,
        code=f"""
        said = {{}}
        said["gathered"] = processes.gather(lambda: [me, "x" * me])
        said["of the first"] = processes.from_first(lambda: 10 + me)

        def write_or_read():
            path = "{tmp_path}/written"
            if me == 0:
                time.sleep(0.5)
                open(path, "w").write("by 0")
            return open(path).read()

        said["written"] = processes.after_first(write_or_read)
        tree = {{"x": np.array([me, -0.0, np.nan]), "n": np.array(7 + me, np.int32), "none": np.zeros((0, 2))}}
        found = parallel.copy_of_first(tree)
        said["copied"] = [found["x"].tobytes().hex(), found["n"].item(), found["n"].dtype.str, found["none"].shape]

        def fails_in_one():
            if me == 1:
                raise MlipError("energy is NaN", where="frame 3", fix="repair it")

        for name, action in {{
            "error": lambda: processes.gather(fails_in_one),
            "difference": lambda: processes.check_same(recipe=f"r{{me}}"),
        }}.items():
            try:
                action()
            except MlipError as error:
                said[name] = str(error)
        print("said", json.dumps(said), flush=True)
        """,
    )
    outs = [process.communicate(timeout=60) for process in both]
    assert [process.returncode for process in both] == [0, 0], outs
    said = [json.loads(out.split("said ")[1]) for out, _ in outs]
    assert said[0] == said[1]
    assert said[0]["gathered"] == [[0, ""], [1, "x"]]
    assert said[0]["of the first"] == 10
    assert said[0]["written"] == "by 0"
    assert said[0]["copied"] == [np.array([0.0, -0.0, np.nan]).tobytes().hex(), 7, "<i4", [0, 2]]
    assert said[0]["error"] == "frame 3: energy is NaN (repair it)"
    assert "process 1 has another recipe than process 0: r1 instead of r0" in said[0]["difference"]


OF_THE_FIRST = r"process 0 cannot be reached|another task died"
"""Ours, or that of JAX, whose own thread ends the process: whichever notices first."""


@pytest.mark.parametrize(
    ("victim", "message"), [(1, "process 1 of 2 died"), (0, OF_THE_FIRST)], ids=["any", "the first"]
)
def test_when_a_process_is_killed_the_other_stops_with_a_message(victim, message):
    both = start(0, 1, code=TRAINING_FOR_EVER)
    while "running" not in both[victim].stdout.readline():
        assert both[victim].poll() is None, both[victim].stderr.read()
    both[victim].send_signal(signal.SIGKILL)
    survivor, died = both[1 - victim], time.monotonic()
    _, said = survivor.communicate(timeout=60)
    assert survivor.returncode not in (0, None)
    assert re.search(message, said)
    assert time.monotonic() - died < 30
    assert processes._DEAD_SECONDS + 3 * processes._BEAT_SECONDS < 60


def test_an_error_in_one_process_stops_the_other_and_both_tell_it():
    code = TRAINING_FOR_EVER.rstrip() + "\n            if me == 0: raise MlipError('no space left')\n"
    both = start(0, 1, code=code)
    (_, first), (_, second) = (process.communicate(timeout=60) for process in both)
    assert [process.returncode for process in both] == [2, 1]
    assert first.splitlines()[-1] == "mlip: error: no space left"
    assert second.splitlines()[-1] == "mlip: error: process 0 of 2 stopped: no space left"


@pytest.mark.parametrize("member", [0, 1])
def test_a_process_that_waits_in_vain_for_the_others_says_so(member):
    (alone,) = start(member, code="pass", patience=1.0)
    _, said = alone.communicate(timeout=60)
    assert alone.returncode == 2
    assert "the processes of the run did not find one another: not all came within 1 s" in said


def test_a_taken_port_and_half_an_address_are_told_at_once():
    with socket.create_server(("", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(MlipError, match=f"{address}: cannot listen there"), processes.joined(address, 2, 0):
            pass
    with pytest.raises(MlipError, match=r"did not find one another.*--processes N"), processes.joined(address):
        pass


def test_without_a_launcher_a_process_is_alone(monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "1")  # a shell of a batch job: four tasks are allowed, none is started
    monkeypatch.setenv("SLURM_NTASKS", "4")
    with processes.joined():
        assert (processes.index(), processes.count()) == (0, 1)


def test_srun_and_mpirun_tell_a_process_who_it_is(monkeypatch):
    assert processes._launched() is None
    for name, value in {"OMPI_COMM_WORLD_SIZE": "8", "OMPI_COMM_WORLD_RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    assert processes._launched() == (8, 0)
    for name, value in {"SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "3", "SLURM_GPUS_ON_NODE": "2"}.items():
        monkeypatch.setenv(name, value)
    assert processes._launched() == (4, 3)


@pytest.mark.parametrize(("nodes", "devices"), [(4, [0, 1]), (2, None)])
def test_the_only_process_of_a_node_has_all_its_gpus(monkeypatch, nodes, devices):
    values = {"SLURM_STEP_NUM_TASKS": 4, "SLURM_STEP_NUM_NODES": nodes, "SLURM_GPUS_ON_NODE": 2}
    for name, value in values.items():
        monkeypatch.setenv(name, str(value))
    assert processes._local_device_ids() == devices
