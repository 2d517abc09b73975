"""How a side of a comparison is asked: one line of JSON in on stdin, one line of JSON out on stdout.

A side is a script with an environment of its own, so this file needs the standard library and numpy alone.
It answers

    {"do": "prepare", "job": NAME, "task": TASK, "structures": FILE, "options": {...}}   {"check": {...}, "memory": ...}
    {"do": "time", "job": NAME, "seconds": S}                                            {"seconds": ..., "runs": ...}
    {"do": "drop", "job": NAME}                                                          {}

after a first line that introduces it: {"versions": {...}, "threads": ..., "elements": [...]}. A request that fails
is answered by {"error": ...}, and the side lives on.
"""

import gc
import json
import sys
import time
import traceback
from collections.abc import Callable
from importlib.metadata import version
from typing import Any, NamedTuple

import numpy as np


class Job(NamedTuple):
    """One thing to time, ready to run."""

    run: Callable[[], Any]
    """Does it once, and returns when it is done."""
    check: dict[str, Any]
    """What it computed, for the comparison with the other side: arrays or numbers, in eV and A."""
    memory: int | None = None
    """Bytes that the device needs for it, where that can be told: arguments, results and all between them."""


def serve(tasks: dict[str, Callable[..., Job]], introduction: dict[str, Any]) -> None:
    """Answer requests until stdin ends.

    Args:
        tasks: by name, (path of the structures, **options) -> Job.
    """
    out, sys.stdout = sys.stdout, sys.stderr  # what libraries print must not look like an answer
    jobs: dict[str, Job] = {}
    _answer(out, introduction)
    for line in sys.stdin:
        try:
            _answer(out, _do(json.loads(line), tasks, jobs))
        except Exception as error:
            traceback.print_exc()
            _answer(out, {"error": f"{type(error).__name__}: {error}".splitlines()[0][:300]})


def _do(request: dict[str, Any], tasks: dict[str, Callable[..., Job]], jobs: dict[str, Job]) -> dict[str, Any]:
    if request["do"] == "prepare":
        job = tasks[request["task"]](request["structures"], **request["options"])
        jobs[request["job"]] = job
        return {"check": {key: np.asarray(value).tolist() for key, value in job.check.items()}, "memory": job.memory}
    if request["do"] == "time":
        seconds, runs = timed(jobs[request["job"]].run, request["seconds"])
        return {"seconds": seconds, "runs": runs}
    del jobs[request["job"]]
    gc.collect()
    return {}


def timed(run: Callable[[], Any], at_least: float) -> tuple[float, int]:
    """(seconds a run, runs): run again and again until `at_least` seconds have passed."""
    runs, start = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - start) < at_least or runs == 0:
        run()
        runs += 1
    return elapsed / runs, runs


def versions(*distributions: str) -> dict[str, str]:
    return {"python": ".".join(map(str, sys.version_info[:3])), **{name: version(name) for name in distributions}}


def _answer(out, answer: dict[str, Any]) -> None:
    out.write(json.dumps(answer) + "\n")
    out.flush()
