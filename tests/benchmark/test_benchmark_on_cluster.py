"""The relaxation benchmark on Dask workers: the same records as here, whatever happens to a worker."""

import os
import signal
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk

from mlip.benchmark.relaxation import BenchmarkRun, run_relaxation_benchmark
from mlip.cluster import client
from mlip.data import Frame, StoreWriter, Trajectory
from mlip.errors import MlipError
from mlip.models.m3gnet import M3GNetConfig
from mlip.network import init_parameters
from mlip.potential import Potential, PotentialMetadata
from mlip.relaxation.results_file import read_results

N_MATERIALS = 36  # three a chunk with two workers


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    """Rocksalt and copper at many volumes; the last two are of elements that the potential does not know."""
    path = tmp_path_factory.mktemp("store") / "materials.h5"
    with StoreWriter(path) as writer:
        for k in range(N_MATERIALS):
            atoms = bulk("Cu", a=3.5 + 0.01 * k) if k % 2 else bulk("NaCl", "rocksalt", a=5.4 + 0.01 * k)
            atoms = bulk(("Xe", "Kr")[N_MATERIALS - k - 1], "fcc", a=6.2) if k >= N_MATERIALS - 2 else atoms
            frame = Frame(atoms.numbers.astype(np.int16), atoms.positions, atoms.cell.array, atoms.pbc, energy=-3.0)
            writer.add(Trajectory(f"agm{k:02d}", [frame], "PBE", 3), "test")
    return path


@pytest.fixture(scope="module")
def potential(tmp_path_factory) -> Path:
    config = M3GNetConfig(units=8)
    metadata = PotentialMetadata(reference_energies={"Na": -1.0, "Cl": -2.0, "Cu": -3.0}, scale=0.1)
    path = tmp_path_factory.mktemp("potential") / "tiny.safetensors"
    return Potential(config, init_parameters(config), metadata).save(path)


@pytest.fixture(scope="module")
def here(potential, store, tmp_path_factory) -> BenchmarkRun:
    return run_relaxation_benchmark(potential, store, tmp_path_factory.mktemp("here"), steps=5, progress=False)


@pytest.fixture(scope="module")
def workers():
    """A client of two worker processes, which start again when they die; a task is given two of them."""
    dask, distributed = pytest.importorskip("dask"), pytest.importorskip("distributed")
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 1}),
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, memory_limit=0
        ) as local,
        distributed.Client(local) as client,
    ):
        yield client


@pytest.fixture
def kill_with(workers):
    """A function: element and flag file -> workers that relax that element kill themselves, once a flag file or ever.

    The kill comes in the middle of a chunk: the process has relaxed something, and told nobody.
    """
    from distributed import WorkerPlugin

    def install(symbol: str, flag: Path | None) -> None:
        class Killer(WorkerPlugin):
            name = "killer"

            def setup(self, worker):
                from mlip.relaxation import relax_on_cluster, relaxations

                def deadly(structures, *arguments, **options):
                    for ended in relaxations(structures, *arguments, **options):
                        yield ended
                        if any(symbol in atoms.symbols for atoms in structures) and not (flag and flag.exists()):
                            if flag:
                                flag.touch()
                            os.kill(os.getpid(), signal.SIGKILL)

                relax_on_cluster.relaxations = deadly

            def teardown(self, worker):
                from mlip.relaxation import relax_on_cluster, relaxations

                relax_on_cluster.relaxations = relaxations

        workers.register_plugin(Killer())

    yield install
    workers.unregister_worker_plugin("killer")


def test_a_cluster_gives_the_records_of_a_single_process(here, workers, potential, store, tmp_path):
    address = workers.scheduler.address
    run = run_relaxation_benchmark(potential, store, tmp_path, steps=5, cluster=address, progress=False)
    assert_same(run, here)
    assert run.statistics.n_force_calls == here.statistics.n_force_calls
    again = run_relaxation_benchmark(potential, store, tmp_path, steps=5, progress=False)
    assert again.n_added == 0  # where it ran is no part of the protocol


def test_what_a_killed_worker_had_is_done_again_and_recorded_once(here, workers, potential, store, tmp_path, kill_with):
    flag = tmp_path / "killed"
    kill_with("Na", flag)
    address = workers.scheduler.address
    run = run_relaxation_benchmark(potential, store, tmp_path / "out", steps=5, cluster=address, progress=False)
    assert flag.exists()
    _, records = read_results(tmp_path / "out" / "results.jsonl")
    assert Counter(record["id"] for record in records) == Counter(record["id"] for record in here.records)
    assert_same(run, here)


@pytest.mark.slow  # workers are started again four times
def test_a_structure_that_kills_every_worker_is_an_error_of_its_own(
    here, workers, potential, store, tmp_path, kill_with
):
    kill_with("Xe", None)
    address = workers.scheduler.address
    run = run_relaxation_benchmark(potential, store, tmp_path, steps=5, cluster=address, progress=False)
    by_id = {record["id"]: record for record in run.records}
    assert by_id[f"agm{N_MATERIALS - 1}"]["message"] == "its worker was killed each time"
    others = [record for record in run.records if record["formula"] != "Xe"]
    assert_same(others, [record for record in here.records if record["formula"] != "Xe"])


def assert_same(found, expected) -> None:
    """Records are alike; float32 sums of batches of other shapes differ in the last digits."""
    found, expected = (
        sorted(run.records if isinstance(run, BenchmarkRun) else run, key=lambda record: record["id"])
        for run in (found, expected)
    )
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        assert a.keys() == b.keys()
        for key in a.keys() - {"seconds"}:
            close = key in ("energy", "initial_energy", "fmax", "volume", "cell", "positions") and a[key] is not None
            assert a[key] == b[key] if not close else np.allclose(a[key], b[key], rtol=1e-4, atol=1e-4), key


@pytest.mark.parametrize("count", ["0", "x", "-1"])
def test_a_number_of_workers_that_makes_no_sense_is_refused(potential, store, tmp_path, count):
    pytest.importorskip("distributed")
    with pytest.raises(MlipError, match=f"--cluster: '{count}' workers"):
        run_relaxation_benchmark(potential, store, tmp_path, cluster=f"local:{count}", progress=False)


def test_an_address_without_a_scheduler_is_one_line(potential, store, tmp_path, monkeypatch):
    pytest.importorskip("distributed")
    monkeypatch.setattr(client, "_CONNECT_SECONDS", 1)
    with pytest.raises(MlipError, match="no Dask scheduler") as error:
        run_relaxation_benchmark(potential, store, tmp_path, cluster="tcp://127.0.0.1:9", progress=False)
    assert "\n" not in str(error.value)


def test_without_dask_the_way_to_get_it_is_told(potential, store, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(MlipError, match=r"Dask is not installed \(pip install 'alexandria-mlip\[cluster\]'\)"):
        run_relaxation_benchmark(potential, store, tmp_path, cluster="local:2", progress=False)
