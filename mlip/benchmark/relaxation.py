"""The relaxation benchmark: every material of a split relaxed from its DFT structure, volumes and energies compared.

Protocol of Tables 3 and 4 of "Improving machine-learning models in materials science through large datasets":
start from the DFT-relaxed structure (the path's last frame), relax atoms and the crystal's own directions (in plane
for layers, along the chain for chains), compare with that structure's effective volume and energy.
"""

import hashlib
from collections import Counter
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from mlip.benchmark.metrics import ErrorSummary, energy_errors, volume_errors
from mlip.benchmark.results import ResultsFile
from mlip.benchmark.volume import crystal_directions, effective_volume
from mlip.data import Store
from mlip.data.outliers import END_REMOVED
from mlip.errors import MlipError
from mlip.potential import Potential
from mlip.relaxation import RelaxResult, Statistics, check_options, relaxations
from mlip.relaxation.cell import Along
from mlip.relaxation.queue import progress_bar

SPLITS = ("train", "val", "test", "all")


@dataclass
class BenchmarkRun:
    """All records of a results file, and what this process spent on those it added."""

    header: dict[str, Any]
    records: list[dict[str, Any]]
    left_out: list[str] = field(default_factory=list)
    """Ids of materials without a relaxed structure to compare with: an outlier rule removed it."""
    n_added: int = 0
    statistics: Statistics = field(default_factory=Statistics)

    def summary(self) -> dict[str, Any]:
        """Counts of reasons and the cost; JSON-able."""
        relaxed = [r for r in self.records if r["reason"] != "error"]
        return {
            "materials": len(self.records),
            "left_out": self.left_out,
            "added": self.n_added,
            "reasons": dict(Counter(r["reason"] for r in self.records).most_common()),
            "mean_force_calls": float(np.mean([r["n_steps"] + 1 for r in relaxed])) if relaxed else None,
            "seconds_per_structure": self.statistics.seconds / self.n_added if self.n_added else None,
            **self.statistics.as_record(),
        }

    def describe(self) -> list[str]:
        """The summary in words."""
        cost = self.statistics
        reasons = ", ".join(f"{n} {reason}" for reason, n in self.summary()["reasons"].items())
        lines = [f"{len(self.records)} materials ({self.n_added} relaxed now): {reasons}"]
        if self.n_added:
            lines.append(
                f"{cost.n_force_calls / self.n_added:.1f} force calls and {cost.seconds / self.n_added:.3f} s a "
                f"material; {cost.seconds:.1f} s in all, {cost.compile_seconds:.1f} s of it compiling "
                f"{len(cost.shapes)} shapes; {100 * cost.padded_fraction:.0f} % of the edges were padding"
            )
        if self.left_out:
            lines.append(
                f"{len(self.left_out)} materials left out, an outlier rule having removed their relaxed structure: "
                + ", ".join(self.left_out)
            )
        return lines


def run_relaxation_benchmark(
    potential_path: str | PathLike,
    store_path: str | PathLike,
    out: str | PathLike,
    *,
    split: str = "test",
    fmax: float = 0.05,
    steps: int = 500,
    dtype: str = "float32",
    progress: bool = True,
) -> BenchmarkRun:
    """Relax the materials of a split and append a record of each to OUT/results.jsonl; done ones are skipped.

    Raises:
        MlipError: an option out of range; a split that is unknown or has no materials; OUT has results of another
            potential, store or protocol.
    """
    if split not in SPLITS:
        raise MlipError(f"unknown split {split!r}", where="--split", fix=f"one of: {', '.join(SPLITS)}")
    check_options(fmax, steps, dtype)
    potential = Potential.load(potential_path)
    with Store(store_path) as store:
        of_split = {k: m for k, m in enumerate(store.materials()) if split in ("all", m.split)}
        left_out = [m.id for m in of_split.values() if END_REMOVED in m.properties]
        chosen = [k for k, m in of_split.items() if END_REMOVED not in m.properties]
        if not chosen:
            raise MlipError(f"no materials in split {split!r}", where=str(store_path), fix="try --split all")
        protocol = _protocol(potential_path, store, split, fmax, steps, dtype)
        with ResultsFile(Path(out) / "results.jsonl", protocol) as results:
            done = {record["material"] for record in results.records}
            missing = [k for k in chosen if k not in done]
            run = BenchmarkRun(protocol, results.records, left_out, n_added=len(missing))
            _relax_and_record(store, missing, potential, results, run.statistics, protocol, progress)
    return run


def _relax_and_record(store, missing, potential, results, statistics, protocol, progress) -> None:
    references = [_Reference.read(store, k) for k in missing]
    finished = relaxations(
        [reference.atoms for reference in references],
        potential,
        fmax=protocol["fmax"],
        steps=protocol["steps"],
        cell=[Along(tuple(reference.directions)) for reference in references],
        dtype=protocol["dtype"],
        statistics=statistics,
    )
    with progress_bar(progress) as bar:
        task = bar.add_task("relaxing", total=len(results.records) + len(missing), completed=len(results.records))
        for index, result in finished:
            results.append(references[index].record(result))
            bar.advance(task)


@dataclass(frozen=True)
class _Reference:
    """A material's DFT-relaxed structure and what it is compared by."""

    material: int
    id: str
    formula: str
    functional: str
    dimensionality: int
    atoms: Atoms
    energy: float
    directions: np.ndarray

    @classmethod
    def read(cls, store: Store, k: int) -> "_Reference":
        material = store.material(k)
        frame = store.frame(material.frames[-1])
        return cls(
            material=k,
            id=material.id,
            formula=material.formula,
            functional=material.functional,
            dimensionality=material.dimensionality,
            atoms=Atoms(frame.numbers, frame.positions, cell=frame.cell, pbc=frame.pbc),
            energy=frame.energy,
            directions=crystal_directions(frame.pbc, material.dimensionality, where=material.id),
        )

    def volume_of(self, atoms: Atoms) -> float:
        return effective_volume(atoms.positions, atoms.cell.array, atoms.pbc, self.directions)

    def record(self, result: RelaxResult) -> dict[str, Any]:
        relaxed = None if result.failed else self.volume_of(result.atoms)
        return {
            "material": self.material,
            "id": self.id,
            "formula": self.formula,
            "functional": self.functional,
            "dimensionality": self.dimensionality,
            "n_atoms": len(self.atoms),
            "dft_energy": self.energy if np.isfinite(self.energy) else None,
            "dft_volume": self.volume_of(self.atoms),
            "volume": relaxed,
            **result.as_record(),
        }


def _protocol(potential_path, store: Store, split, fmax, steps, dtype) -> dict[str, Any]:
    """What two runs must share for their records to stand in one file."""
    return {
        "benchmark": "relaxation",
        "potential": {
            "name": Path(potential_path).name,
            "sha256": hashlib.sha256(Path(potential_path).read_bytes()).hexdigest(),
        },
        "store": {
            "name": store.path.name,
            "materials": store.n_materials,
            "frames": store.n_frames,
            "content_sha256": _content_hash(store),
        },
        "split": split,
        "fmax": fmax,
        "steps": steps,
        "dtype": dtype,
    }


def _content_hash(store: Store) -> str:
    """Hash of the checksums that the store's files carry of each column and of the metadata."""
    content = hashlib.sha256()
    for shard in store.shards:
        content.update(shard.file["checksums"].asstr()[()].encode())
    return content.hexdigest()


@dataclass(frozen=True)
class DimensionalityRow:
    """The errors of one dimensionality's materials."""

    dimensionality: int
    volume: ErrorSummary
    energy: ErrorSummary


def summarise(records: list[dict[str, Any]]) -> list[DimensionalityRow]:
    """Rows of the volume and energy tables, by dimensionality, 3D first."""
    rows = []
    for dimensionality in sorted({r["dimensionality"] for r in records}, reverse=True):
        chosen = [r for r in records if r["dimensionality"] == dimensionality]
        n_atoms, volume, dft_volume, energy, dft_energy = (
            np.array([np.nan if r[key] is None else r[key] for r in chosen], dtype=np.float64)
            for key in ("n_atoms", "volume", "dft_volume", "energy", "dft_energy")
        )
        energy[np.isnan(volume)] = np.nan  # what failed has no relaxed energy either
        rows.append(
            DimensionalityRow(
                dimensionality,
                volume_errors(volume, dft_volume, n_atoms),
                energy_errors(energy, dft_energy, n_atoms),
            )
        )
    return rows
