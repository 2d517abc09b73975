"""Client of a Dask cluster: one that runs already, processes of this machine, or SLURM jobs (extra `cluster`).

    tcp://HOST:PORT              a running scheduler (`dask scheduler`)
    local:4                      four worker processes on this machine, one GPU each if it has GPUs
    slurm:20,cores=16,memory=64GB,queue=long,walltime=04:00:00
                                 twenty jobs; the other options go to dask_jobqueue.SLURMCluster

Dask runs any code that it is sent. Clusters started here therefore listen to this machine, or its SLURM network, only.
"""

import logging
import os
from collections.abc import Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager
from glob import glob
from typing import TYPE_CHECKING, Any

from mlip.allocator import KEEPING
from mlip.errors import MlipError

if TYPE_CHECKING:
    from distributed import Client, Future, SpecCluster

_CONNECT_SECONDS = 10
_HERE = "127.0.0.1"
_INSTALL = "pip install 'alexandria-mlip[cluster]'"
_ANY_PORT = {"dashboard_address": ":0"}
_SLURM_EXAMPLE = "slurm:20,cores=16,memory=64GB,queue=long,walltime=04:00:00"


@contextmanager
def cluster_client(cluster: str) -> Iterator["Client"]:
    """Client of the cluster that the text names (see the module); a cluster started here ends with the context.

    Raises:
        MlipError: Dask is not installed, no scheduler answers at the address, or the text names no cluster.
    """
    try:
        from distributed import Client
    except ImportError:
        raise MlipError("Dask is not installed", where="--cluster", fix=_INSTALL) from None
    kind, _, rest = cluster.partition(":")
    if kind in ("local", "slurm"):
        start = _local_cluster if kind == "local" else _slurm_cluster
        with start(rest) as started, Client(started) as client:
            client.wait_for_workers(1)
            yield client
        return
    try:
        client = Client(cluster, timeout=_CONNECT_SECONDS)
    except (OSError, TimeoutError, ValueError) as error:
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise MlipError(
            f"no Dask scheduler: {why}",
            where=f"--cluster {cluster}",
            fix="tcp://HOST:PORT, as `dask scheduler` prints it, local:N, or slurm:N,...",
        ) from None
    with client:
        client.wait_for_workers(1)
        yield client


def result_of(future: "Future") -> Any:
    """Result of a task that was sent to a cluster.

    Raises:
        MlipError: the scheduler is gone.
        distributed.KilledWorker: every worker that ran the task died.
    """
    try:
        return future.result()
    except CancelledError:
        raise MlipError(
            "the Dask scheduler is gone", where="--cluster", fix="repeat the command: it goes on where it was"
        ) from None


def _slurm_cluster(text: str) -> "SpecCluster":
    """SLURM cluster for a text such as "20,cores=16,memory=64GB": the number of jobs, and their options.

    Raises:
        MlipError: dask-jobqueue is not installed, the text cannot be parsed, or an option is unknown.
    """
    try:
        from dask_jobqueue import SLURMCluster
    except ImportError:
        raise MlipError("dask-jobqueue is not installed", where="--cluster slurm", fix=_INSTALL) from None
    count, *pairs = text.split(",")
    options: dict[str, Any] = dict(pair.partition("=")[::2] for pair in pairs)
    if not count.isdecimal() or int(count) == 0 or "" in (*options, *options.values()):
        raise MlipError(f"'{text}' is not a number of jobs and options", where="--cluster slurm", fix=_SLURM_EXAMPLE)
    cores = int(options.pop("cores", "1")) if options.get("cores", "1").isdecimal() else 0
    try:
        allocator = [f"export {name}={value}" for name, value in KEEPING.items()]
        resources = {"cores": cores, "processes": cores, "memory": "4GB", "job_script_prologue": allocator, **options}
        cluster = SLURMCluster(scheduler_options=_ANY_PORT, **resources)
    except (TypeError, ValueError) as error:
        why = str(error).strip().splitlines()[0]
        raise MlipError(f"no such SLURM job: {why}", where="--cluster slurm", fix=_SLURM_EXAMPLE) from None
    cluster.scale(jobs=int(count))
    return cluster


def _local_cluster(count: str) -> "SpecCluster":
    """Cluster of `count` local worker processes, with one GPU each if there are GPUs, else an equal share of the cores.

    Raises:
        MlipError: `count` is not a positive number, or exceeds the number of GPUs.
    """
    from dask.system import CPU_COUNT
    from distributed import Nanny, Scheduler, SpecCluster

    if not count.isdecimal() or int(count) == 0:
        raise MlipError(f"'{count}' workers", where="--cluster", fix="local:N with N > 0")
    n, devices = int(count), _gpus()
    if devices and n > len(devices):
        raise MlipError(f"{n} workers for {len(devices)} GPUs", where="--cluster", fix=f"local:{len(devices)}")
    cores = str(max(1, CPU_COUNT // n))
    workers = {
        k: {
            "cls": Nanny,
            "options": {
                "host": _HERE,
                "nthreads": 1,
                "dashboard": False,
                "silence_logs": logging.ERROR,
                "memory_limit": 0,  # unlimited: a worker may use what this process might have used
                "env": {"CUDA_VISIBLE_DEVICES": devices[k]} if devices else {"NPROC": cores, **KEEPING},  # NPROC: XLA's
            },
        }
        for k in range(n)
    }
    scheduler = {"cls": Scheduler, "options": {"host": _HERE, "port": 0, "dashboard": False}}
    return SpecCluster(workers=workers, scheduler=scheduler, silence_logs=logging.ERROR)


def _gpus() -> list[str]:
    """Names of the GPUs as in CUDA_VISIBLE_DEVICES. They are found without JAX, which would occupy their memory in this
    process."""
    if os.environ.get("JAX_PLATFORMS") == "cpu":
        return []
    if (visible := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return [device for device in visible.split(",") if device.strip()]
    return [str(k) for k in range(len(glob("/dev/nvidia[0-9]*")))]
