"""A run on WBM in parts, each relaxed, compared and written before the next begins.

Memory is bounded by one part, and a killed run resumes at the relaxation where it stopped: OUT/parts.jsonl has a line
for each finished part, and a part's relaxations are in its results.jsonl, as those of `mlip benchmark relaxation`.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from mlip.benchmark.wbm.findings import Findings
from mlip.benchmark.wbm.geometry import SYMPRECS
from mlip.benchmark.wbm.parts import LEFT_OUT, relax_and_compare, rows_of, structures_of
from mlip.benchmark.wbm.submission import (
    analysis_name,
    check_model_key,
    file_reference,
    join_members,
    model_key_of,
    write_analysis,
    write_model_file,
    write_predictions,
)
from mlip.data import Store
from mlip.data.wbm_files import build_wbm_store, check_made_of, is_wbm_folder
from mlip.errors import MlipError
from mlip.relaxation.named import NamedPotential, open_named, precision_recorded
from mlip.relaxation.results_file import ResultsFile

TRIAL = "A trial, not a submission: not all materials, or started from the structures that DFT relaxed."
"""Remark on a run that is not what Matbench Discovery compares, in its last lines and its model file."""
PART_SIZE = 5000
"""Number of materials in a part; large enough that the end of a part, where few still relax, costs little."""


@dataclass(frozen=True)
class WbmRun:
    """A run whose parts are all finished."""

    name: str
    """Name of the potential."""
    functional: str
    findings: Findings
    protocol: dict[str, Any]
    files: list[Path]
    """Files of the submission."""
    n_added: int
    """Number of materials that this process relaxed."""
    seconds: dict[str, float]
    """Time of all parts, s, by step ("relaxing", "comparing"), including earlier processes."""
    functional_note: str | None = None
    """A warning if potential and references are of different or unknown functionals; else None."""

    def summary(self) -> dict[str, Any]:
        """JSON-serializable summary of the run."""
        findings = self.findings
        discovery = {name: metrics.as_record() for name, metrics in findings.discovery.items()}
        return {
            "potential": {**self.protocol["potential"], "functional": self.functional},
            "protocol": {key: value for key, value in self.protocol.items() if key != "potential"},
            "materials": len(findings),
            "submitted": findings.n_submitted,
            "unmatched": findings.n_unmatched,
            "added": self.n_added,
            "functional_note": self.functional_note,
            "reasons": findings.reasons,
            "messages": findings.messages,
            "geometry": findings.geometry_records(),
            "discovery": discovery,
            "hull_distances_known": findings.is_hull_known,
            "seconds": {name: round(value, 1) for name, value in self.seconds.items()},
            "files": [path.name for path in self.files],
        }

    def describe(self) -> list[str]:
        """Lines of text that summarize the run."""
        findings = self.findings
        reasons = ", ".join(f"{n} {reason}" for reason, n in findings.reasons.items())
        each = {name: value / max(len(findings), 1) for name, value in self.seconds.items()}
        return [
            f"{len(findings)} materials ({self.n_added} relaxed now): {reasons}",
            f"{findings.n_submitted} structures submitted, {findings.n_unmatched} of them do not match DFT's; "
            f"{each['relaxing']:.3f} s a material relaxing, {each['comparing']:.3f} s comparing",
            *([TRIAL] if _is_trial(self.protocol) else []),
            *(f"{count} x {message}" for message, count in findings.messages.items()),
        ]


def run_wbm(
    potential: str | PathLike,
    source: str | PathLike,
    out: str | PathLike,
    *,
    start: str = "first",
    fmax: float = 0.05,
    steps: int = 500,
    dtype: str | None = None,
    part_size: int = PART_SIZE,
    at_most: int | None = None,
    model_key: str | None = None,
    workers: int | None = None,
    cluster: str | None = None,
    allow_functional_mismatch: bool = False,
    progress: bool = True,
) -> WbmRun:
    """Relax WBM, compare with DFT, and write a submission to OUT; finished parts are not repeated.

    Args:
        potential: as in `run_relaxation_benchmark`.
        source: a store, or a folder with the files that Matbench Discovery publishes, from which OUT/wbm.h5 is built.
        start: "first": from the initial structures; "last": from those relaxed by DFT.
        at_most: only the first materials, up to this number; not valid as a submission.
        model_key: the model's name in file names; by default made from the potential's.
        workers: number of processes that compare; by default one per core.

    Raises:
        MlipError: as `run_relaxation_benchmark` and `build_wbm_store`; also if an id occurs twice, no material can be
            relaxed, or OUT has results of another run.
    """
    if part_size < 1:
        raise MlipError(f"is {part_size}", where="--part-size", fix="a number of materials, at least 1")
    named, folder = open_named(potential), Path(out)
    key = model_key or model_key_of(named.name)
    check_model_key(key)
    store_path = _store_of(Path(source), folder)
    settings = {"start": start, "fmax": fmax, "steps": steps, **named.precision(dtype)}
    with Store(store_path) as store:
        n = store.n_materials if at_most is None else min(store.n_materials, at_most)
        if n < 1:
            raise MlipError("has no materials to relax", where=str(store_path), fix="--at-most N, N at least 1")
        _check_ids(store, store_path)
        protocol = _protocol(named, store, settings, n, part_size)
    options = {**settings, "cluster": cluster, "allow_functional_mismatch": allow_functional_mismatch}
    divided = [range(first, min(first + part_size, n)) for first in range(0, n, part_size)]
    places = [folder / "parts" / f"{number:05d}" for number in range(len(divided))]
    n_added = 0
    with ResultsFile(folder / "parts.jsonl", protocol) as parts:
        done = {record["part"] for record in parts.records}
        for number, materials in enumerate(divided):
            if number not in done:
                record, added = relax_and_compare(
                    materials, named, store_path, places[number], options, workers, progress
                )
                parts.append({"part": number, **record})
                n_added += added
        records = sorted(parts.records, key=lambda record: record["part"])
    findings = Findings.of(rows_of(places))
    if not findings.n_submitted and set(findings.reasons) == {LEFT_OUT}:
        why = "; ".join(findings.messages)
        raise MlipError(f"no material can be relaxed: {why}", where=str(store_path), fix="--start last")
    files = write_submission(folder, places, key, named.name, protocol, findings, records[-1]["date"])
    seconds = {name: sum(record["seconds"][name] for record in records) for name in ("relaxing", "comparing")}
    note = next((record["functional_note"] for record in records if record["functional_note"]), None)
    return WbmRun(named.name, named.potential.functional, findings, protocol, files, n_added, seconds, note)


def _store_of(source: Path, out: Path) -> Path:
    if not is_wbm_folder(source):
        return source
    store = out / "wbm.h5"
    if not store.exists():
        build_wbm_store(source, store)
    else:
        check_made_of(source, store)
    return store


def _check_ids(store: Store, path: Path) -> None:
    counts = Counter(material.id for material in store.materials())
    if twice := [name for name, count in counts.items() if count > 1]:
        raise MlipError(f"ids that occur twice: {', '.join(twice[:3])}", where=str(path), fix="one id a material")


def _protocol(named: NamedPotential, store: Store, settings: dict[str, Any], n: int, part_size: int) -> dict[str, Any]:
    """Settings that two processes must share to work on one run."""
    return {
        "benchmark": "wbm",
        "potential": named.record,
        "store": {"name": store.path.name, "content_sha256": store.content_sha256},
        "materials": n,
        "part_size": part_size,
        **settings,
        "dtype": precision_recorded(settings),
        "is_part": n < store.n_materials,
    }


def _is_trial(protocol: Mapping[str, Any]) -> bool:
    return protocol["start"] == "last" or protocol["is_part"]


def write_submission(
    folder: Path,
    places: list[Path],
    key: str,
    name: str,
    protocol: dict[str, Any],
    findings: Findings,
    date: str,
) -> list[Path]:
    """Write the submission's files from those of the parts; file names begin with `date`."""
    structures, predictions = folder / f"{date}-geo-opt.jsonl.gz", folder / f"{date}-discovery.csv.gz"
    join_members(structures, structures_of(places))
    write_predictions(predictions, rows_of(places))
    analyses = []
    for symprec in SYMPRECS:
        analyses.append(folder / analysis_name(date, symprec))
        write_analysis(analyses[-1], symprec, rows_of(places))
    settings = {
        "max_force": protocol["fmax"],
        "max_steps": protocol["steps"],
        "ase_optimizer": "FIRE",
        "cell_filter": "FrechetCellFilter",
    }
    metrics = findings.metrics()
    metrics["geo_opt"] = {"pred_file": file_reference(structures, key), **metrics["geo_opt"]}
    metrics["discovery"] = {"pred_file": file_reference(predictions, key), **metrics["discovery"]}
    model_file = folder / f"{key}.yml"
    write_model_file(model_file, name, settings, metrics, TRIAL if _is_trial(protocol) else None)
    return [structures, predictions, *analyses, model_file]
