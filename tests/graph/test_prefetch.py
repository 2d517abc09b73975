"""Worker processes of the loader end when the training is killed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

LOADING = """
import sys, time
import multiprocessing
import grain
from mlip.graph.prefetch import prefetched

def as_window(index):
    return []

if __name__ == "__main__":
    windows = prefetched(grain.MapDataset.range(1_000_000).map(as_window), n_workers=2)
    for _ in range(8):
        next(windows)
    print(*(child.pid for child in multiprocessing.active_children()), flush=True)
    time.sleep(120)
"""


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")
@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGTERM])
def test_workers_end_with_a_killed_training(tmp_path, sent):
    script = tmp_path / "loading.py"
    script.write_text(LOADING)
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True, env=os.environ) as loading:
        workers = [int(pid) for pid in loading.stdout.readline().split()]
        assert len(workers) == 2
        assert all(map(is_running, workers))
        loading.send_signal(sent)
        loading.wait(timeout=30)
    deadline = time.monotonic() + 20
    while any(map(is_running, workers)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(map(is_running, workers))
