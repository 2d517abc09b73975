"""Several processes that train one run: how they connect, agree, and stop together.

They use JAX's coordination service, which runs in process 0. `jax.distributed` finds it under SLURM and Open MPI, or is
given its address. Whatever the processes must agree on besides sums over devices (shapes of batches, errors, what
process 0 read from the run folder) goes through the service's key-value store, not through the devices. Because a sum
over devices with a dead process would wait forever, a thread in each process monitors the others.
"""

import json
import math
import multiprocessing
import os
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn, TypeVar

import jax
from jax._src.distributed import global_state  # no public interface has the key-value store; Orbax uses this, too

from mlip.errors import MlipError

T = TypeVar("T")

_JOIN_SECONDS = 300.0
"""Seconds that the first process waits for the last one to start."""
_BEAT_SECONDS = 1.0
"""Seconds between two heartbeats."""
_DEAD_SECONDS = 25.0
"""Seconds without a heartbeat after which a process counts as dead."""
_HEARTBEAT_SECONDS = 45
"""Seconds after which JAX itself ends the other processes with a stack trace, in case our own monitoring fails."""
_FOR_EVER_MS = 7 * 24 * 3600 * 1000
"""Timeout of waiting, ms. Monitoring ends the process, not this timeout: a slow disk or a long evaluation is no
failure."""
_ALIVE, _STOPPED = "mlip/alive/", "mlip/stopped/"


def index() -> int:
    """Index of this process, from 0 to `count()` - 1."""
    return global_state.process_id


def count() -> int:
    """Number of processes of the run."""
    return global_state.num_processes


def is_first() -> bool:
    """Whether this is the process that writes logs, checkpoints and the potential."""
    return index() == 0


@contextmanager
def joined(coordinator: str | None = None, processes: int | None = None, process: int | None = None) -> Iterator[None]:
    """Context manager in which this process is one of several, if the arguments or the launcher (srun, mpirun) say so.

    All processes leave together: at the end each waits for the others. If one fails or dies, the others end as well,
    with a line on stderr that says which one and why, and exit status 1.

    Args:
        coordinator: "HOST:PORT" of process 0; not needed under SLURM and Open MPI 4.
        processes: number of processes; not needed with a launcher.
        process: index of this process; not needed with a launcher.

    Raises:
        MlipError: the other processes were not found.
    """
    if (processes, process) == (None, None):
        processes, process = _launched() or ((1, 0) if coordinator is None else (None, None))
    if processes == 1:
        yield
        return
    _connect(coordinator, processes, process)
    watch = _Watch()
    watch.start()
    try:
        yield
        global_state.client.wait_at_barrier("mlip/end", _FOR_EVER_MS)
    except BaseException as error:
        _stop_all(error, watch)
    watch.end()


def gather(compute: Callable[[], Any]) -> list[Any]:
    """Results of `compute` in all processes, by index. Every process must call this at the same point of the program.

    Args:
        compute: returns a JSON-serializable value.

    Raises:
        MlipError: `compute` raised it in some process; it is then raised in all.
    """
    if count() == 1:
        return [compute()]
    try:
        mine = {"value": compute()}
    except MlipError as error:
        mine = {"error": [error.what, error.where, error.fix]}
    found = _exchange(mine)
    for told in found:
        if "error" in told:
            what, where, fix = told["error"]
            raise MlipError(what, where=where, fix=fix)
    return [told["value"] for told in found]


def from_first(compute: Callable[[], T]) -> T:
    """Result of `compute` in process 0, returned in all processes; see `gather`."""
    return gather(compute if is_first() else lambda: None)[0]


def after_first(compute: Callable[[], T]) -> T:
    """Run `compute` in process 0 first and, if that succeeds, in the others, which can then read the files it wrote."""
    results: list[T] = []
    from_first(lambda: results.append(compute()))
    return results[0] if results else compute()


def check_same(**values: str | int) -> None:
    """Check that all processes have the same values.

    Raises:
        MlipError: a process has a value that differs from that of process 0.
    """
    first, *others = gather(lambda: values)
    for process, other in enumerate(others, start=1):
        for name in (name for name in values if other[name] != first[name]):
            raise MlipError(
                f"process {process} has another {name} than process 0: {other[name]} instead of {first[name]}",
                fix="start all processes with the same command, data and number of devices",
            )


def _launched() -> tuple[int, int] | None:
    """Number of processes started by srun or mpirun, and the index of this one; None without a launcher, as in the
    shell of a batch job."""
    for count_, index_ in (("SLURM_STEP_NUM_TASKS", "SLURM_PROCID"), ("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK")):
        if count_ in os.environ and index_ in os.environ:
            return int(os.environ[count_]), int(os.environ[index_])
    return None


def _local_device_ids() -> list[int] | None:
    """All GPUs of a node for its only process, to which JAX would assign only the first; None leaves the choice to
    JAX."""
    is_alone = os.environ.get("SLURM_STEP_NUM_TASKS", "") == os.environ.get("SLURM_STEP_NUM_NODES")
    n_gpus = os.environ.get("SLURM_GPUS_ON_NODE", "")
    return list(range(int(n_gpus))) if is_alone and n_gpus.isdecimal() and int(n_gpus) else None


def _connect(coordinator: str | None, processes: int | None, process: int | None) -> None:
    if process == 0 and coordinator is not None:
        _check_free(coordinator)
    # JAX ends the process with a stack trace when its timeout expires; ours is shorter.
    late = threading.Timer(_JOIN_SECONDS, lambda: _leave(_not_together(f"not all came within {_JOIN_SECONDS:g} s"), 2))
    late.daemon = True
    late.start()
    jax.config.update("jax_enable_preemption_service", False)  # it would make SIGTERM ineffective
    try:
        jax.distributed.initialize(
            coordinator,
            processes,
            process,
            local_device_ids=_local_device_ids(),
            initialization_timeout=math.ceil(2 * _JOIN_SECONDS),
            heartbeat_timeout_seconds=_HEARTBEAT_SECONDS,
        )
    except (ValueError, TypeError, RuntimeError) as error:
        raise _not_together(" ".join(str(error).split())) from None
    finally:
        late.cancel()


def _check_free(coordinator: str) -> None:
    """Check that the port is free, because JAX crashes if it is taken."""
    _, _, port = coordinator.rpartition(":")
    try:
        socket.create_server(("", int(port))).close()
    except (OSError, ValueError, OverflowError) as error:
        raise MlipError(f"cannot listen there: {error}", where=coordinator, fix="choose another port") from None


def _not_together(reason: str) -> MlipError:
    return MlipError(
        f"the processes of the run did not find one another: {reason}",
        fix="start every process with the same --coordinator HOST:PORT and --processes N, and with --process 0 to N-1",
    )


_round = 0


def _exchange(mine: Any) -> list[Any]:
    """Value of each process. The first process collects and distributes them, which takes 2 N messages instead of
    N^2."""
    global _round
    client, here, before = global_state.client, f"mlip/{_round}", f"mlip/{_round - 1}"
    _round += 1
    client.key_value_set(f"{here}/{index()}", json.dumps(mine))
    if not is_first():
        return json.loads(client.blocking_key_value_get(f"{here}/all", _FOR_EVER_MS))
    found = [json.loads(client.blocking_key_value_get(f"{here}/{k}", _FOR_EVER_MS)) for k in range(count())]
    client.key_value_set(f"{here}/all", json.dumps(found))
    client.key_value_delete(before)  # every process here has read it
    return found


class _Watch(threading.Thread):
    """Thread that sends heartbeats, and ends this process if another has stopped or sends none."""

    def __init__(self):
        super().__init__(name="watch of the other processes", daemon=True)
        self._end = threading.Event()
        self._last_signs = {str(process): ("none yet", time.monotonic()) for process in range(count())}

    def end(self) -> None:
        self._end.set()
        self.join()

    def run(self) -> None:
        client, beats = global_state.client, 0
        while not self._end.wait(_BEAT_SECONDS):
            beats += 1
            try:
                client.key_value_set(f"{_ALIVE}{index()}", str(beats), allow_overwrite=True)
                if is_first():
                    self._look_for_the_dead()
                stopped = client.key_value_dir_get(_STOPPED)
            except jax.errors.JaxRuntimeError:
                _leave("process 0 cannot be reached: all stop, go on with --resume", 1)
            if stopped:
                _leave(stopped[0][1], 1)

    def _look_for_the_dead(self) -> None:
        now = time.monotonic()
        for key, sign in global_state.client.key_value_dir_get(_ALIVE):
            process = key.rpartition("/")[2]
            if self._last_signs[process][0] != sign:
                self._last_signs[process] = (sign, now)
        for process, (_, last) in self._last_signs.items():
            if now - last > _DEAD_SECONDS:
                _tell(f"process {process} of {count()} died; all stop, go on with --resume")


def _tell(reason: str) -> None:
    """Make all processes stop for this reason."""
    global_state.client.key_value_set(f"{_STOPPED}0", reason, allow_overwrite=True)


def _stop_all(error: BaseException, watch: _Watch) -> NoReturn:
    """Print the error like the command line, notify the other processes, and exit."""
    if _is_of_a_collective(error):  # another process has probably died: the watch will say which
        watch.join(_DEAD_SECONDS + 5 * _BEAT_SECONDS)
    watch.end()
    if isinstance(error, MlipError):
        line, status = f"{error}", 2
    elif isinstance(error, KeyboardInterrupt):
        line, status = f"interrupted: {error}".removesuffix(": "), 130
    else:
        traceback.print_exception(error)
        line, status = f"{type(error).__name__}: {error}", 1
    _tell(f"process {index()} of {count()} stopped: {line}")
    _leave(line, status)


def _is_of_a_collective(error: BaseException) -> bool:
    """Whether a sum over devices failed; on CPUs this happens as soon as another process is gone, on GPUs perhaps
    never."""
    return isinstance(error, jax.errors.JaxRuntimeError) or "Gloo" in str(error)


def _leave(line: object, status: int) -> NoReturn:
    """Exit this process immediately, because its main thread may be waiting for a dead one."""
    print(f"mlip: error: {line}", file=sys.stderr, flush=True)
    for worker in multiprocessing.active_children():
        worker.kill()
    if is_first():
        time.sleep(3 * _BEAT_SECONDS)  # the others read the reason from this process
    os._exit(status)
