"""The relaxation benchmark: relax every material of a split and compare volumes and energies with DFT's.

Protocol of Tables 3 and 4 of "Improving machine-learning models in materials science through large datasets": start
from the DFT-relaxed structure (the path's last frame), relax atoms and the periodic directions of the cell (in plane
for layers, along the chain for chains), and compare with that structure's effective volume and energy. Table 6 starts
from the path's first frame.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from mlip.benchmark.reference import Reference
from mlip.benchmark.results import PotentialResults, row_name
from mlip.benchmark.verdicts import authors
from mlip.benchmark.verdicts.rounds import Relax, relax_in_rounds
from mlip.data import Store
from mlip.errors import MlipError
from mlip.foreign import ForeignPotential
from mlip.functionals import check_functionals
from mlip.potential import Potential
from mlip.progress import count_bar
from mlip.relaxation import RelaxResult, Statistics, check_options, relaxations
from mlip.relaxation.cell import Along
from mlip.relaxation.named import NamedPotential, open_named, precision_recorded
from mlip.relaxation.relax_on_cluster import relax_on_cluster
from mlip.relaxation.results_file import ResultsFile
from mlip.relaxation.statistics import timed

SPLITS = ("train", "val", "test", "all")
STARTS = ("last", "first")
VERDICTS = ("authors",)


@dataclass
class BenchmarkRun:
    """All records of a results file, and the cost of those that this process added."""

    header: dict[str, Any]
    records: list[dict[str, Any]]
    left_out: dict[str, list[str]] = field(default_factory=dict)
    """Reason -> ids of the materials that could not be relaxed for this reason."""
    n_added: int = 0
    statistics: Statistics = field(default_factory=Statistics)

    @cached_property
    def results(self) -> PotentialResults:
        """The results in the form that the tables take."""
        potential = self.header["potential"]
        return PotentialResults(row_name(potential), potential["sha256"], [self.header], self.records)

    def summary(self) -> dict[str, Any]:
        """JSON-serializable counts of reasons, and the cost."""
        relaxed = [r for r in self.records if r["reason"] != "error"]
        return {
            "materials": len(self.records),
            "left_out": self.left_out,
            "added": self.n_added,
            "functional_note": self.results.functional_note,
            "reasons": dict(Counter(r["reason"] for r in self.records).most_common()),
            "mean_force_calls": float(np.mean([r["n_steps"] + 1 for r in relaxed])) if relaxed else None,
            "seconds_per_structure": self.statistics.seconds / self.n_added if self.n_added else None,
            **self.statistics.as_record(),
        }

    def describe(self) -> list[str]:
        """Lines of text that summarize the run."""
        reasons = ", ".join(f"{n} {reason}" for reason, n in self.summary()["reasons"].items())
        lines = [f"{len(self.records)} materials ({self.n_added} relaxed now): {reasons}"]
        if self.n_added:
            lines.append(self._cost_one_by_one() if self._is_one_by_one else self._cost_of_batches())
        for why, ids in self.left_out.items():
            lines.append(f"{len(ids)} materials left out ({why}): " + ", ".join(ids))
        return lines

    @property
    def _is_one_by_one(self) -> bool:
        return "ase" in self.header["potential"]

    def _cost_of_batches(self) -> str:
        cost = self.statistics
        return (
            f"{cost.n_force_calls / self.n_added:.1f} force calls and {cost.seconds / self.n_added:.3f} s a "
            f"material; {cost.seconds:.1f} s in all, {cost.compile_seconds:.1f} s of it compiling "
            f"{len(cost.shapes)} shapes; {100 * cost.padded_fraction:.0f} % of the edges were padding, and "
            f"the device stood idle for {100 * cost.idle_fraction:.0f} % of the time"
        )

    def _cost_one_by_one(self) -> str:
        cost = self.statistics
        return (
            f"one by one, as {self.header['potential']['ase']} takes no batches: "
            f"{cost.n_force_calls / self.n_added:.1f} force calls and {cost.seconds / self.n_added:.3f} s a material; "
            f"{cost.seconds:.1f} s in all, {cost.device_seconds:.1f} s of it in the calculator"
        )


def run_relaxation_benchmark(
    potential: str | PathLike | NamedPotential,
    store_path: str | PathLike,
    out: str | PathLike,
    *,
    split: str = "test",
    materials: range | None = None,
    start: str = "last",
    fmax: float | None = None,
    steps: int = 500,
    symmetry: bool = False,
    verdict: str | None = None,
    dtype: str | None = None,
    cluster: str | None = None,
    allow_functional_mismatch: bool = False,
    progress: bool = True,
) -> BenchmarkRun:
    """Relax the materials of a split and append a record of each to OUT/results.jsonl; those with a record are skipped.

    Args:
        potential: file or name of a potential; any calculator of ASE, ase:MODULE:CLASS?key=value, which relaxes
            structures one by one; or an open potential.
        materials: indices in the store; by default all. Without materials of the split among them, there are no
            records.
        start: "last" (the relaxed structure) or "first" frame of each path; the reference is always the relaxed one.
        fmax: eV/A; by default 0.05, and 0.04 with the authors' verdict.
        steps: maximum number of steps, with the authors' verdict in each round.
        symmetry: keep the space group of each structure.
        verdict: "authors": relax in the rounds of the paper's group, and record their verdict beside ours
            (`mlip.benchmark.verdicts`).
        dtype: "float32" (default) or "float64"; not for calculators of ASE, which have their own precision.
        cluster: a Dask scheduler's address, or "local:N" for N local worker processes; by default this process.
        allow_functional_mismatch: allow references of another functional than the potential's; tables say so.

    Raises:
        MlipError: references are of another functional, an option is out of range, a split is unknown or has no
            materials, OUT has results of another potential, store or protocol, or there is no such cluster.
    """
    chosen_verdict = (("verdict", verdict, VERDICTS),) if verdict else ()
    for name, value, known in (("split", split, SPLITS), ("start", start, STARTS), *chosen_verdict):
        if value not in known:
            raise MlipError(f"unknown {name} {value!r}", where=f"--{name}", fix=f"one of: {', '.join(known)}")
    named = potential if isinstance(potential, NamedPotential) else open_named(potential)
    if fmax is None:
        fmax = authors.FMAX if verdict else 0.05
    settings = {"fmax": fmax, "steps": steps, "symmetry": symmetry, **named.precision(dtype)}
    check_options(fmax, steps, settings.get("dtype", "float32"))
    functional = named.potential.functional
    with Store(store_path) as store:
        chosen, left_out = _choose(store, split, start, materials)
        if not chosen and materials is None:
            why = "".join(f"; {len(ids)} left out, {reason}" for reason, ids in left_out.items())
            raise MlipError(f"no materials in split {split!r}{why}", where=str(store_path), fix="try --split all")
        check_functionals(
            functional,
            {store.material(k).functional for k in chosen},
            of_ours="the potential",
            of_theirs="the references",
            where=str(store_path),
            allowed=allow_functional_mismatch,
        )
        protocol = _protocol(named, store, split, start, settings)
        if materials is not None:
            protocol["materials"] = [materials.start, materials.stop]
        if verdict:
            factor = authors.stress_factor(named.potential)
            protocol["verdict"] = {"name": verdict, "rounds": authors.ROUNDS, "stress_factor": factor}
            settings |= {"fmax": fmax / 2, "stress_factor": factor}
        with ResultsFile(Path(out) / "results.jsonl", protocol) as results:
            done = {record["material"] for record in results.records}
            references = [Reference.read(store, k, start) for k in chosen if k not in done]
            run = BenchmarkRun(protocol, results.records, left_out, n_added=len(references))

            def relax(structures: list[Atoms], cells: list[Along]) -> Iterator[tuple[int, RelaxResult, float]]:
                if cluster and structures:
                    return relax_on_cluster(structures, cells, named.source, settings, cluster, run.statistics)
                return _relaxed(structures, cells, named.potential, settings, run.statistics)

            with count_bar(progress) as bar:
                task = bar.add_task("relaxing", total=len(done) + len(references), completed=len(done))
                for index, result, seconds, told in _judged(references, relax, verdict, fmax):
                    record = references[index].record(result, seconds)
                    results.append(record | told | {"potential_functional": functional})
                    bar.advance(task)
    return run


def _judged(
    references: list[Reference], relax: Relax, verdict: str | None, fmax: float
) -> Iterator[tuple[int, RelaxResult, float, dict[str, Any]]]:
    """Index, result, seconds and additional record entries of each material, in the order in which they finish."""
    if verdict is None:
        for index, result, seconds in relax(*_tasks(references)):
            yield index, result, seconds, {}
    else:
        for index, result, seconds, told in relax_in_rounds(references, relax, fmax):
            yield index, result, seconds, {"verdicts": {verdict: told}}


def _choose(store: Store, split: str, start: str, materials: range | None) -> tuple[list[int], dict[str, list[str]]]:
    """Indices of the materials to relax, and by reason the ids of those that cannot be relaxed."""
    chosen: list[int] = []
    left_out: dict[str, list[str]] = {}
    candidates = enumerate(store.materials()) if materials is None else ((k, store.material(k)) for k in materials)
    for k, material in candidates:
        if split not in ("all", material.split):
            continue
        if not material.has_structure:
            left_out.setdefault("having a composition only", []).append(material.id)
        elif material.why_not_relaxed is not None:
            left_out.setdefault(material.why_not_relaxed, []).append(material.id)
        elif start == "first" and len(material.frames) == 1:
            left_out.setdefault("having a relaxed structure only", []).append(material.id)
        else:
            chosen.append(k)
    return chosen, left_out


def _relaxed(
    structures: list[Atoms],
    cells: list[Along],
    potential: Potential | ForeignPotential,
    settings: dict[str, Any],
    statistics: Statistics,
) -> Iterator[tuple[int, RelaxResult, float]]:
    """Index, result and device seconds of each structure, in the order in which they finish."""
    return timed(relaxations(structures, potential, cell=cells, statistics=statistics, **settings), statistics)


def _tasks(references: list[Reference]) -> tuple[list[Atoms], list[Along]]:
    """Start structures, and the cell directions that relax."""
    return [reference.start for reference in references], [Along(tuple(r.directions)) for r in references]


def _protocol(named: NamedPotential, store: Store, split, start, settings: dict[str, Any]) -> dict[str, Any]:
    """Settings that two runs must share to write to one results file. The machine is not among them."""
    return {
        "benchmark": "relaxation",
        "potential": named.record,
        "store": {
            "name": store.path.name,
            "materials": store.n_materials,
            "frames": store.n_frames,
            "content_sha256": store.content_sha256,
        },
        "split": split,
        "start": start,
        **settings,
        "dtype": precision_recorded(settings),
    }
