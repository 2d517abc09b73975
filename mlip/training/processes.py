"""Several processes, one run: how they find one another, agree, and stop together.

JAX's coordination service, which lives in process 0, does the work. `jax.distributed` finds it under SLURM and Open
MPI, or is told where it is. What the processes must agree on besides sums over devices (the shapes of batches,
errors, what process 0 read from the run folder) goes through the service's key-value store, past the devices.
A process that waits for a dead one in a sum over devices would wait for ever: a thread in each watches the others.
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
from jax._src.distributed import global_state  # JAX has no public door to its key-value store; Orbax enters here too

from mlip.errors import MlipError

T = TypeVar("T")

_JOIN_SECONDS = 300.0
"""How long the first process waits for the last one to start."""
_BEAT_SECONDS = 1.0
"""Between two signs of life."""
_DEAD_SECONDS = 25.0
"""Without one a process counts as dead."""
_HEARTBEAT_SECONDS = 45
"""After which JAX itself ends the others, with a stack trace: should our own watch fail."""
_FOR_EVER_MS = 7 * 24 * 3600 * 1000
"""The watch ends the process, not a time-out: a slow disk or a long evaluation is no fault."""
_ALIVE, _STOPPED = "mlip/alive/", "mlip/stopped/"


def index() -> int:
    """This process among `count()`."""
    return global_state.process_id


def count() -> int:
    """Processes of the run."""
    return global_state.num_processes


def is_first() -> bool:
    """Whether this is the process that writes: logs, checkpoints, the potential."""
    return index() == 0


@contextmanager
def joined(coordinator: str | None = None, processes: int | None = None, process: int | None = None) -> Iterator[None]:
    """Within it this process is one of several, if the arguments or the launcher (srun, mpirun) say so.

    All leave together: at the end each waits for the others, and where one fails or dies the others end as well,
    with a line on stderr that says which one and why, and exit status 1.

    Args:
        coordinator: "HOST:PORT" of process 0; JAX knows it under SLURM and Open MPI 4.
        processes: how many; the launcher knows.
        process: which one this is; the launcher knows.

    Raises:
        MlipError: the others were not found.
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
    """Results of `compute` in each process, by process; every process must call this at the same place.

    Args:
        compute: returns what JSON can hold.

    Raises:
        MlipError: `compute` raised one, in this process or in another: then all raise it.
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
    """Result of `compute` in process 0, in all of them; as `gather`."""
    return gather(compute if is_first() else lambda: None)[0]


def after_first(compute: Callable[[], T]) -> T:
    """`compute()` in process 0 and then, if that went well, in the others, which find the files that it wrote."""
    results: list[T] = []
    from_first(lambda: results.append(compute()))
    return results[0] if results else compute()


def check_same(**values: str | int) -> None:
    """
    Raises:
        MlipError: a process has another value than process 0.
    """
    first, *others = gather(lambda: values)
    for process, other in enumerate(others, start=1):
        for name in (name for name in values if other[name] != first[name]):
            raise MlipError(
                f"process {process} has another {name} than process 0: {other[name]} instead of {first[name]}",
                fix="start all processes with the same command, data and number of devices",
            )


def _launched() -> tuple[int, int] | None:
    """(How many processes srun or mpirun started, which of them this is). A shell of a batch job is started by none."""
    for count_, index_ in (("SLURM_STEP_NUM_TASKS", "SLURM_PROCID"), ("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK")):
        if count_ in os.environ and index_ in os.environ:
            return int(os.environ[count_]), int(os.environ[index_])
    return None


def _local_device_ids() -> list[int] | None:
    """All GPUs of a node to its only process, which JAX would give the first one; None leaves the choice to JAX."""
    is_alone = os.environ.get("SLURM_STEP_NUM_TASKS", "") == os.environ.get("SLURM_STEP_NUM_NODES")
    n_gpus = os.environ.get("SLURM_GPUS_ON_NODE", "")
    return list(range(int(n_gpus))) if is_alone and n_gpus.isdecimal() and int(n_gpus) else None


def _connect(coordinator: str | None, processes: int | None, process: int | None) -> None:
    if process == 0 and coordinator is not None:
        _check_free(coordinator)
    # JAX ends the process with a stack trace when its own patience is over: ours is shorter.
    late = threading.Timer(_JOIN_SECONDS, lambda: _leave(_not_together(f"not all came within {_JOIN_SECONDS:g} s"), 2))
    late.daemon = True
    late.start()
    jax.config.update("jax_enable_preemption_service", False)  # it would make SIGTERM do nothing
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
    """JAX crashes where the port is taken."""
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
    """The value of each process. The first one collects them, so that 2 N messages do, and not N^2."""
    global _round
    client, here, before = global_state.client, f"mlip/{_round}", f"mlip/{_round - 1}"
    _round += 1
    client.key_value_set(f"{here}/{index()}", json.dumps(mine))
    if not is_first():
        return json.loads(client.blocking_key_value_get(f"{here}/all", _FOR_EVER_MS))
    found = [json.loads(client.blocking_key_value_get(f"{here}/{k}", _FOR_EVER_MS)) for k in range(count())]
    client.key_value_set(f"{here}/all", json.dumps(found))
    client.key_value_delete(before)  # whoever is here has read it
    return found


class _Watch(threading.Thread):
    """Gives signs of life; ends this process when another has stopped, or gives none."""

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
    """All processes stop for this reason: the first one that is given counts."""
    global_state.client.key_value_set(f"{_STOPPED}0", reason, allow_overwrite=True)


def _stop_all(error: BaseException, watch: _Watch) -> NoReturn:
    """Print the error as the command line would, tell the others, leave."""
    if _is_of_a_collective(error):  # another process has died, most likely: the watch will say which
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
    """Whether a sum over devices failed: on CPUs at once when another process is gone, on GPUs perhaps never."""
    return isinstance(error, jax.errors.JaxRuntimeError) or "Gloo" in str(error)


def _leave(line: object, status: int) -> NoReturn:
    """End this process here and now: its main thread may be waiting for a dead one."""
    print(f"mlip: error: {line}", file=sys.stderr, flush=True)
    for worker in multiprocessing.active_children():
        worker.kill()
    if is_first():
        time.sleep(3 * _BEAT_SECONDS)  # the others learn the reason from here
    os._exit(status)
