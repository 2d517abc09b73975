"""Two or more programs timed side by side: strictly alternating, never two at once, on the same cores.

Each side is a long-lived process in an environment of its own (`sides/`), asked line by line. This file knows
neither models nor what is timed.
"""

import json
import os
import platform
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from types import MappingProxyType
from typing import Any, NamedTuple

SIDES = Path(__file__).parent / "sides"
_ALL_CORES = os.sched_getaffinity(0)


class SideError(Exception):
    """A side could not do what it was asked."""


class Side:
    """A process that answers requests; a context manager that ends it.

    Args:
        command: python and the script of `sides/`, with its arguments.
        threads: told to every library that counts for itself; the cores are the caller's (`pin`).
        log: where its stderr goes.
        environment: variables that it gets beside those of this process.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str | Path],
        threads: int,
        log: Path,
        environment: Mapping[str, str] = MappingProxyType({}),
    ):
        self.name, self.log = name, log
        count = str(threads)
        variables = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), count)
        variables |= {"XLA_PYTHON_CLIENT_PREALLOCATE": "false", "TF_FORCE_GPU_ALLOW_GROWTH": "true"}  # GPUs are shared
        with log.open("w") as errors:
            self._process = subprocess.Popen(
                list(map(str, command)),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env=os.environ | variables | dict(environment),
            )
        self.introduction = self._answer()

    def ask(self, **request: Any) -> dict[str, Any]:
        """
        Raises:
            SideError: the side says that it failed, or it is gone.
        """
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise SideError(f"{self.name} has ended\n{self.log.read_text()[-2000:]}") from None
        return self._answer()

    def cpu_seconds(self) -> float:
        """Of the process so far, all its threads."""
        user, system = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")

    def _answer(self) -> dict[str, Any]:
        lines = iter(self._process.stdout.readline, "")
        line = next((line for line in lines if line.startswith("{")), None)  # libraries print as they are imported
        if line is None:
            raise SideError(f"{self.name} ended with status {self._process.wait()}:\n{self.log.read_text()[-2000:]}")
        answer = json.loads(line)
        if "error" in answer:
            raise SideError(f"{self.name}: {answer['error']}")
        return answer

    def __enter__(self) -> "Side":
        return self

    def __exit__(self, *_) -> None:
        self._process.stdin.close()
        try:
            self._process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self._process.kill()


class Contestant(NamedTuple):
    """A side and what it is to do."""

    side: Side
    task: str
    structures: Path
    options: Mapping[str, Any] = {}


class Outcome(NamedTuple):
    """Of one contestant."""

    seconds: list[float]
    """A run, of each repeat."""
    elsewhere: list[float]
    """Cores that other processes kept busy meanwhile: near 0, or the repeat does not count."""
    check: dict[str, Any]
    error: str | None = None
    memory: int | None = None
    """Bytes that the device needs for it, where the side can tell."""

    def as_dict(self) -> dict[str, Any]:
        if self.error:
            return {"error": self.error.splitlines()[0]}  # no paths of this machine
        milliseconds = [1000 * s for s in self.seconds]
        memory = {} if self.memory is None else {"memory_mb": round(self.memory / 1e6, 1)}
        return memory | {
            "median_ms": round(median(milliseconds), 4),
            "min_ms": round(min(milliseconds), 4),
            "all_ms": [round(ms, 4) for ms in milliseconds],
            "cores_busy_elsewhere": round(median(self.elsewhere), 2),
        }


def race(
    contestants: Mapping[str, Contestant],
    repeats: int,
    seconds: float,
    objection: Callable[[dict[str, Outcome]], str | None] = lambda outcomes: None,
) -> dict[str, Outcome]:
    """Prepare and warm up all, then time them in turns, each for `seconds` at least, `repeats` times.

    Every round starts with another contestant. One that fails is out, with its error; the others go on.

    Args:
        objection: given what all computed, why nobody is to be timed, or None.
    """
    outcomes: dict[str, Outcome] = {}
    for name, contestant in contestants.items():
        side, task, structures, options = contestant
        try:
            prepared = side.ask(do="prepare", job=name, task=task, structures=str(structures), options=dict(options))
            outcomes[name] = Outcome([], [], prepared["check"], memory=prepared["memory"])
            side.ask(do="time", job=name, seconds=seconds)
        except SideError as error:
            outcomes[name] = Outcome([], [], {}, str(error))
    reason = objection(outcomes)
    for turn in range(0 if reason else repeats):
        names = list(contestants)
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            if outcomes[name].error is None:
                try:
                    _take_turn(name, contestants[name].side, outcomes[name], seconds)
                except SideError as error:
                    outcomes[name] = Outcome([], [], {}, str(error))
    for name, contestant in contestants.items():
        if outcomes[name].error is None:
            contestant.side.ask(do="drop", job=name)
    return {name: outcome._replace(error=outcome.error or reason) for name, outcome in outcomes.items()}


def _take_turn(name: str, side: Side, outcome: Outcome, seconds: float) -> None:
    """One timed repeat, into the outcome."""
    start, busy = time.perf_counter(), _busy_seconds() - side.cpu_seconds()
    taken = side.ask(do="time", job=name, seconds=seconds)["seconds"]
    busy = _busy_seconds() - side.cpu_seconds() - busy
    outcome.seconds.append(taken)
    outcome.elsewhere.append(max(0.0, busy / (time.perf_counter() - start)))


def _busy_seconds() -> float:
    """Processor time that the whole machine has spent, what a hypervisor stole included."""
    user, nice, system, _, _, irq, softirq, steal = Path("/proc/stat").read_text().splitlines()[0].split()[1:9]
    return sum(map(int, (user, nice, system, irq, softirq, steal))) / os.sysconf("SC_CLK_TCK")


def pin(threads: int) -> None:
    """Run on the first `threads` cores from now on, and so do all sides started later: XLA and TensorFlow take
    their thread counts from there."""
    cores = sorted(_ALL_CORES)[:threads]
    if len(cores) < threads:
        raise SystemExit(f"{threads} threads asked for, this process may use {len(cores)} cores")
    os.sched_setaffinity(0, cores)


def machine() -> dict[str, Any]:
    """What a result must say of where and when it was measured."""
    return {
        "date": time.strftime("%Y-%m-%d %H:%M"),
        "processor": _processor(),
        "cores": len(_ALL_CORES),
        "load_average_at_start": round(os.getloadavg()[0], 2),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
