"""A part of a run: some materials of a store are relaxed, compared with DFT, and written to their own folder.

results.jsonl          the records of relaxations, as `mlip benchmark relaxation` writes them
rows.jsonl.gz          one row for each material: the comparison, or why there is none
structures.jsonl.gz    the part's lines of the submission
"""

import json
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mlip.benchmark.relaxation import BenchmarkRun, run_relaxation_benchmark
from mlip.benchmark.wbm.judging import Judged, Task, judge_all, labels_of
from mlip.benchmark.wbm.submission import gzip_text, write_structures
from mlip.data import Store
from mlip.data.readers.streams import read_lines
from mlip.data.workers import n_cores
from mlip.relaxation.named import NamedPotential

LEFT_OUT = "left out"
"""Reason of a material that could not be relaxed."""
_STRUCTURES, _ROWS = "structures.jsonl.gz", "rows.jsonl.gz"


def relax_and_compare(
    materials: range,
    named: NamedPotential,
    store_path: Path,
    place: Path,
    options: dict[str, Any],
    workers: int | None,
    progress: bool,
) -> tuple[dict[str, Any], int]:
    """Relax and compare a part. Returns its record and the number of materials relaxed by this call; results of an
    earlier process are reused.

    Args:
        materials: indices in the store.
        place: the part's folder.
        options: keyword arguments of `run_relaxation_benchmark`.
        workers: number of processes that compare; None for one per core.
    """
    run = run_relaxation_benchmark(
        named, store_path, place, split="all", materials=materials, progress=progress, **options
    )
    began = time.perf_counter()
    with Store(store_path) as store:
        tasks, left_out = _divided(store, materials, run)
    with gzip_text(place / _ROWS) as rows:

        def compared() -> Iterator[dict[str, Any] | None]:
            for judged in judge_all(tasks, workers or n_cores()):
                rows.write(_json_line(judged))
                yield judged.submitted

        n_submitted = write_structures(place / _STRUCTURES, compared())
        rows.writelines(map(_json_line, left_out))
    spent = {
        "relaxing": sum(record["seconds"] for record in run.records),
        "comparing": time.perf_counter() - began,
    }
    record = {
        "materials": [materials.start, materials.stop],
        "submitted": n_submitted,
        "left_out": len(left_out),
        "reasons": dict(Counter(record["reason"] for record in run.records).most_common()),
        "seconds": {name: round(value, 3) for name, value in spent.items()},
        "functional_note": run.results.functional_note if run.records else None,
        "date": datetime.now(UTC).date().isoformat(),
    }
    return record, run.n_added


def _divided(store: Store, materials: range, run: BenchmarkRun) -> tuple[list[Task], list[Judged]]:
    """The relaxations to compare, and the rows of the materials that could not be relaxed."""
    records = {record["material"]: record for record in run.records}
    why = {name: reason for reason, names in run.left_out.items() for name in names}
    tasks, left_out = [], []
    for k in materials:
        material = store.material(k)
        if k in records:
            tasks.append(Task(records[k], store.relaxed_frame(material), dict(material.properties)))
        else:
            left_out.append(_left_out(material.id, why[material.id], material.properties))
    return tasks, left_out


def _left_out(name: str, why: str, properties: Mapping[str, float | str]) -> Judged:
    row = {"material_id": name, "reason": LEFT_OUT, "message": f"left out: {why}", **labels_of(properties)}
    return Judged(row, None)


def _json_line(judged: Judged) -> str:
    return json.dumps(judged.row, allow_nan=False) + "\n"


def rows_of(places: list[Path]) -> Iterator[dict[str, Any]]:
    """The rows of several parts, one at a time."""
    for place in places:
        yield from map(json.loads, read_lines(place / _ROWS))


def structures_of(places: list[Path]) -> list[Path]:
    """Files with the submission's lines of several parts."""
    return [place / _STRUCTURES for place in places]
