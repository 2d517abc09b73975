"""Builds by many processes: the same bytes as by one, whatever is killed on the way."""

import fcntl
import hashlib
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from mlip.data import Store, parts
from mlip.data.build import BuildSettings, build
from mlip.data.parts import plan_parts
from mlip.errors import MlipError

SETTINGS = BuildSettings(subsample=0.01, outliers="path")
N_FILES, N_MATERIALS = 6, 8


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """Files of paths in ALEXANDRIA's layout, each with a material that cannot be used; the last file has no other."""
    folder = tmp_path_factory.mktemp("source")
    rng = np.random.default_rng(0)
    for f in range(N_FILES):
        materials = {f"agm{f:03d}{m:06d}": runs(rng) for m in range(N_MATERIALS)} if f < N_FILES - 1 else {}
        (folder / f"pbe_{f:04d}.json").write_text(json.dumps(materials | {f"bad{f}": [{"steps": []}]}))
    return folder


def runs(rng) -> list[dict]:
    """A path of two runs with random forces."""
    n = int(rng.integers(2, 9))
    sites = [{"species": [{"element": "Si", "occu": 1}], "abc": rng.random(3).tolist()} for _ in range(n)]
    steps = [
        {
            "structure": {"lattice": {"matrix": (np.eye(3) * (6 - 0.01 * k)).tolist()}, "sites": sites},
            "energy": -5.0 * n - 0.03 * n * k,
            "forces": rng.normal(size=(n, 3)).tolist(),
            "stress": rng.normal(size=(3, 3)).tolist(),
        }
        for k in range(20)
    ]
    return [{"steps": steps[:10]}, {"steps": steps[10:]}]


@pytest.fixture(scope="module")
def alone(source, tmp_path_factory) -> Path:
    """What one process makes of it."""
    out = tmp_path_factory.mktemp("alone") / "store.h5"
    build([source], out, SETTINGS, part_bytes=1)
    return out


def checksums(path: Path) -> dict[str, str]:
    """Of a store and of its lists, by name."""
    files = path.glob("*") if path.is_dir() else path.parent.glob(f"{path.name}*")
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files if file.name[0] != "."}


def n_done(out: Path) -> int:
    return len(list(out.with_name(f".{out.name}.parts").glob("*.h5")))


def test_one_process_and_three_make_the_same_bytes(source, alone, tmp_path):
    build([source], tmp_path / "store.h5", SETTINGS, part_bytes=1, n_workers=3)
    assert checksums(tmp_path / "store.h5") == checksums(alone)
    assert len(checksums(alone)) == 3  # the store, what was skipped, what was found


def test_processes_that_share_one_file_make_the_same_bytes(source, tmp_path, monkeypatch):
    monkeypatch.setattr(parts, "_WORTH_HELP", 0)
    monkeypatch.setattr(parts, "_CHUNK_BYTES", 1)
    for name, n_workers in (("one", 1), ("three", 3)):
        (tmp_path / name).mkdir()
        build([source], tmp_path / name / "store.h5", SETTINGS, n_workers=n_workers)
    assert checksums(tmp_path / "one" / "store.h5") == checksums(tmp_path / "three" / "store.h5")


def test_a_folder_of_shards_holds_what_the_file_holds(source, alone, tmp_path):
    out = tmp_path / "store"
    build([source], out, SETTINGS, part_bytes=1)
    assert {p.name for p in tmp_path.iterdir()} == {"store"}
    lists = {"skipped.jsonl", "findings.jsonl"}
    assert {p.name for p in out.iterdir()} == lists | {f"part-{k:05d}.h5" for k in range(N_FILES)}
    with Store(out) as shards, Store(alone) as file:
        assert len(shards.shards) == N_FILES
        assert list(shards.materials()) == list(file.materials())
        for k in range(0, len(file), 7):
            assert np.array_equal(shards.frame(k).forces, file.frame(k).forces)
    assert len((out / "skipped.jsonl").read_text().splitlines()) == N_FILES
    with pytest.raises(MlipError, match="exists already"):
        build([source], out, SETTINGS)


def test_merged_parts_know_the_properties_that_only_some_have(shared, tmp_path):
    """Of entries: the second part's materials have other properties than the first's."""
    folder = shared / "data" / "alexandria"
    entry = {
        "lattice": {"matrix": np.eye(3).tolist()},
        "sites": [{"species": [{"element": "H", "occu": 1}], "abc": [0] * 3}],
    }
    made = {"entry_id": "x", "energy": -1.0, "structure": entry, "data": {"hardness": 3.0, "note": "made"}}
    (tmp_path / "pbe.json").write_text(json.dumps({"entries": [made]}))
    sources = [folder / "fixture_entries_pbe.json.bz2", tmp_path / "pbe.json"]
    build(sources, tmp_path / "store.h5", part_bytes=1)
    with Store(tmp_path / "store.h5") as store:
        *real, last = store.materials()
        assert last.properties["hardness"] == 3.0
        assert "hardness" not in real[0].properties
        assert real[0].properties["e_above_hull"] == 0.0
        assert "e_above_hull" not in last.properties


KILLED = """
    import sys
    from pathlib import Path
    from mlip.data import parts
    from mlip.data.build import BuildSettings, build

    if __name__ == "__main__":
        source, out = map(Path, sys.argv[1:])
        settings = BuildSettings(subsample=0.01, outliers="path")
        build([source], out, settings, part_bytes=1, n_workers=2)
"""


def test_a_build_killed_half_way_goes_on_where_it_was(source, alone, tmp_path):
    out = tmp_path / "store.h5"
    (tmp_path / "killed.py").write_text(textwrap.dedent(KILLED))
    child = subprocess.Popen([sys.executable, str(tmp_path / "killed.py"), str(source), str(out)])
    while n_done(out) < 2 and child.poll() is None:
        time.sleep(0.001)
    workers = descendants(child.pid)
    assert len(workers) >= 2
    os.kill(child.pid, signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    assert not out.exists()
    wait_for_end(workers)
    left = n_done(out)
    told = []
    build([source], out, SETTINGS, part_bytes=1, on_resumed=lambda *counts: told.append(counts))
    assert told == [(left, N_FILES)]
    assert checksums(out) == checksums(alone)
    with Store(out) as store:
        assert max(Counter(m.id for m in store.materials()).values()) == 1


def descendants(pid: int) -> set[int]:
    """Processes that it started, and that those started."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(stat.parent.name)] = int(stat.read_text().rsplit(")", 1)[1].split()[1])
        except OSError:  # it has ended
            continue
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {pid}


def wait_for_end(pids: set[int]) -> None:
    deadline = time.monotonic() + 30
    while any(Path(f"/proc/{pid}").exists() for pid in pids):
        assert time.monotonic() < deadline, "workers outlive the build that was killed"
        time.sleep(0.05)


PEAK = """
    import re
    import sys
    from pathlib import Path
    from mlip.data.build import BuildSettings, build

    if __name__ == "__main__":
        build([Path(sys.argv[1])], Path(sys.argv[2]), BuildSettings(subsample=0.01))
        print(int(re.search(r"VmHWM:\\s*(\\d+) kB", Path("/proc/self/status").read_text())[1]) / 1e3)
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_source(tmp_path):
    (tmp_path / "peak.py").write_text(textwrap.dedent(PEAK))
    material = json.dumps(runs(np.random.default_rng(0)))
    peaks = []
    for n_materials in (1000, 5000):
        source = tmp_path / f"pbe_{n_materials:04d}.json"
        source.write_text("{" + ",".join(f'"agm{k:09d}": {material}' for k in range(n_materials)) + "}")
        command = [sys.executable, str(tmp_path / "peak.py"), str(source), str(tmp_path / f"{n_materials}.h5")]
        peaks.append(float(subprocess.run(command, capture_output=True, text=True, check=True).stdout))
    assert source.stat().st_size > 100e6
    assert peaks[1] - peaks[0] < 20  # MB
    assert peaks[1] < 300


def test_parts_of_other_settings_are_not_mixed_in(source, tmp_path):
    out = tmp_path / "store.h5"
    last = tmp_path / "pbe_9999.json"
    last.write_text('{"a": []}')
    n_before = sum(file.stat().st_size for file in source.iterdir())

    def interrupt_in_the_last(n_bytes, _) -> None:
        if n_bytes > n_before:
            raise KeyboardInterrupt

    for settings in (BuildSettings(), SETTINGS):
        with pytest.raises(KeyboardInterrupt):
            build([source, last], out, settings, part_bytes=1, on_progress=interrupt_in_the_last)
    assert n_done(out) == N_FILES
    told = []
    last.write_text("{}")
    build([source, last], out, SETTINGS, part_bytes=1, on_resumed=lambda *counts: told.append(counts))
    assert told == []  # a source has changed
    with Store(out) as store:
        assert store.metadata["settings"] == json.loads(json.dumps(SETTINGS.as_dict()))


def test_two_builds_do_not_write_one_store(source, tmp_path):
    out = tmp_path / "store.h5"

    def second(*_) -> None:
        with pytest.raises(MlipError, match="another build"):
            build([source], out, SETTINGS)

    build([source], out, SETTINGS, on_progress=second)
    assert out.exists()


def test_a_lock_that_an_ending_build_removes_before_it_is_taken_is_no_lock(source, tmp_path, monkeypatch):
    out = tmp_path / "store.h5"
    flock, removed, refused = fcntl.flock, [], []

    def flock_too_late(file, operation) -> None:
        if not removed:
            removed.append(out.with_name(f".{out.name}.lock").unlink())
        flock(file, operation)

    def second(*_) -> None:
        with pytest.raises(MlipError, match="another build"):
            build([source], out, SETTINGS)
        refused.append(True)

    monkeypatch.setattr(fcntl, "flock", flock_too_late)
    build([source], out, SETTINGS, on_progress=second)
    assert removed
    assert refused
    assert {path.name for path in tmp_path.iterdir()} == {
        f"store.h5{end}" for end in ("", ".skipped.jsonl", ".findings.jsonl")
    }


def test_parts_go_by_size_and_order(tmp_path):
    for name, size in (("a", 10), ("b", 10), ("c", 100), ("d", 5), ("e", 5)):
        (tmp_path / f"{name}.xyz").write_bytes(b" " * size)
    names = [[source.name for source in part.sources] for part in plan_parts([tmp_path], part_bytes=20)]
    assert names == [["a.xyz", "b.xyz"], ["c.xyz"], ["d.xyz", "e.xyz"]]


@pytest.fixture(scope="module")
def workers():
    """A client of two worker processes, which start again when they die."""
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, memory_limit=0
        ) as local,
        distributed.Client(local) as client,
    ):
        yield client


def test_what_a_killed_dask_worker_had_is_built_by_another(source, alone, workers, tmp_path):
    from distributed import WorkerPlugin

    flag = tmp_path / "killed"

    class Killer(WorkerPlugin):
        """The first worker that has begun to write a part dies."""

        name = "killer"

        def setup(self, worker):
            add = parts.StoreWriter.add

            def deadly(self, *arguments):
                add(self, *arguments)
                if not flag.exists():
                    flag.touch()
                    os.kill(os.getpid(), signal.SIGKILL)

            parts.StoreWriter.add = deadly

    workers.register_plugin(Killer())
    build([source], tmp_path / "store.h5", SETTINGS, part_bytes=1, cluster=workers.scheduler.address)
    assert flag.exists()
    assert checksums(tmp_path / "store.h5") == checksums(alone)


def test_slurm_jobs_build_it_too(source, alone, tmp_path, monkeypatch):
    """With programs in SLURM's place that run the jobs at once, here."""
    pytest.importorskip("dask_jobqueue")
    log = tmp_path / "submitted"
    start = f'cp "$1" {log}; setsid bash {log} >/dev/null 2>&1 & echo "Submitted batch job $!"'
    write_program(tmp_path / "sbatch", start.replace(";", "\n"))
    write_program(tmp_path / "scancel", 'for job in "$@"; do kill -- "-$job" 2>/dev/null; done; true')
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    build(
        [source],
        tmp_path / "store.h5",
        SETTINGS,
        part_bytes=1,
        cluster="slurm:1,cores=1,memory=2GB,queue=long,interface=lo",
    )
    assert "#SBATCH -p long" in log.read_text()
    assert "export MALLOC_ARENA_MAX=1" in log.read_text()
    assert checksums(tmp_path / "store.h5") == checksums(alone)


def write_program(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/bash\n{text}\n")
    path.chmod(0o755)


@pytest.mark.parametrize("text", ["0", "x", "3,cores", "2,=4", "1,memory=4GB,color=red"])
def test_a_slurm_request_that_makes_no_sense_is_one_line(source, tmp_path, text):
    pytest.importorskip("dask_jobqueue")
    with pytest.raises(MlipError, match="slurm") as error:
        build([source], tmp_path / "store.h5", cluster=f"slurm:{text}")
    assert "\n" not in str(error.value)


def test_a_fault_found_by_a_dask_worker_is_one_line_here(source, workers, tmp_path):
    truncated = tmp_path / "pbe_9999.json"
    truncated.write_text('{"a": [')
    with pytest.raises(MlipError, match=r"pbe_9999\.json: the JSON text ends early"):
        build([truncated], tmp_path / "store.h5", SETTINGS, cluster=workers.scheduler.address)
