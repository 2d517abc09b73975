"""How many force calls do other optimizers need where FIRE needs so many?

FIRE as in `mlip.relax`, whose steps are ASE's, against ASE's LBFGS and preconditioned FIRE (Packwood et al., J. Chem.
Phys. 144, 164109) with FrechetCellFilter, from real crystals rattled by 0.1 A and strained by 3 %, until every row of
forces is shorter than fmax. A hundred crystals go at once, those of ASE each in a thread of its own whose requests
are evaluated in batches: force calls are counted, not timed.

    python benchmarks/optimizers.py m3gnet.safetensors .../alexandria-random-1k.extxyz.gz --out optimizers.jsonl

Each hundred is written down as it ends; a run that was killed goes on.
"""

import argparse
import gzip
import io
import json
import queue
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ase.io
import jax
import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.filters import FrechetCellFilter
from ase.optimize import LBFGS
from ase.optimize.optimize import Optimizer
from ase.optimize.precon import Exp, PreconFIRE
from jraph import GraphsTuple

import mlip
from mlip import MlipError, Potential
from mlip.energy_gradient import evaluate_batch
from mlip.graph.batching import Shape, pad_batch
from mlip.graph.radius_graph import crystal_graph
from mlip.runtime import set_up_jax

SHAPES = [Shape(n_node=1 + n // 16, n_edge=n, n_graph=1 + n // 128) for n in (1024, 4096, 16_384)]
"""A batch takes the first that holds it: when few crystals are left, the largest would be almost all padding."""
_TOGETHER = 100
"""Crystals."""
OPTIMIZERS: dict[str, Callable[[FrechetCellFilter], Optimizer]] = {
    "LBFGS": lambda target: LBFGS(target, logfile=None),
    "PreconFIRE": lambda target: PreconFIRE(target, precon=Exp(), logfile=None),
}


class Batches:
    """Evaluates what many threads ask for as soon as all that are alive wait."""

    def __init__(self, potential: Potential):
        self.potential, self.params = potential, potential.cast("float32")
        self._asked: queue.Queue = queue.Queue()

    def ask(self, atoms: Atoms) -> dict[str, Any]:
        """Called by a crystal's thread: its energy, forces and stress.

        Raises:
            MlipError: the crystal cannot be evaluated.
        """
        answer: queue.Queue = queue.Queue()
        self._asked.put((atoms.copy(), answer))
        result = answer.get()
        if isinstance(result, MlipError):
            raise result
        return result

    def leave(self) -> None:
        """Called by a crystal's thread when it has ended."""
        self._asked.put(None)

    def serve(self, n_alive: int) -> None:
        waiting: list[tuple[Atoms, queue.Queue]] = []
        while n_alive:
            asked = self._asked.get()
            if asked is None:
                n_alive -= 1
            else:
                waiting.append(asked)
            if waiting and len(waiting) == n_alive:
                self._answer(waiting)
                waiting = []

    def _answer(self, waiting: list[tuple[Atoms, queue.Queue]]) -> None:
        """In batches of the largest shape, filled in order."""
        together: list[tuple[Atoms, queue.Queue, GraphsTuple]] = []
        for atoms, answer in waiting:
            try:
                graph = crystal_graph(atoms, self.potential.cutoff)
            except MlipError as error:
                answer.put(error)
                continue
            if together and not _fits([*(g for *_, g in together), graph], SHAPES[-1]):
                self._evaluate(together)
                together = []
            together.append((atoms, answer, graph))
        if together:
            self._evaluate(together)

    def _evaluate(self, together) -> None:
        metadata = self.potential.metadata
        graphs = [graph for *_, graph in together]
        batch = pad_batch(graphs, next((s for s in SHAPES if _fits(graphs, s)), SHAPES[-1]))
        evaluation = jax.device_get(
            evaluate_batch(self.potential.model, self.params, batch, metadata.scale, metadata.shift)
        )
        stop = 0
        for k, (atoms, answer, _) in enumerate(together):
            start, stop = stop, stop + len(atoms)
            answer.put(
                {
                    "energy": float(evaluation.energy[k]),
                    "forces": evaluation.forces[start:stop].astype(float),
                    "stress": evaluation.stress[k].astype(float),
                }
            )


def _fits(graphs: list[GraphsTuple], shape: Shape) -> bool:
    n_node, n_edge = sum(len(g.nodes["species"]) for g in graphs), sum(len(g.senders) for g in graphs)
    return n_node < shape.n_node and n_edge <= shape.n_edge and len(graphs) < shape.n_graph


class BatchedCalculator(Calculator):
    implemented_properties = ["energy", "free_energy", "forces", "stress"]  # noqa: RUF012 (ASE's)

    def __init__(self, batches: Batches):
        super().__init__()
        self.batches = batches
        self.n_calls = 0

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        self.n_calls += 1
        self.results = self.batches.ask(self.atoms)
        self.results["free_energy"] = self.results["energy"]


def relax(atoms: Atoms, name: str, batches: Batches, fmax: float, max_calls: int, ends: list, k: int) -> None:
    """One crystal's thread: writes how it ended to ends[k]."""
    atoms = atoms.copy()
    atoms.calc = BatchedCalculator(batches)
    target = FrechetCellFilter(atoms)
    converged, message = False, None
    try:
        for _ in OPTIMIZERS[name](target).irun(fmax=0.0, steps=max_calls):
            converged = bool((target.get_forces() ** 2).sum(axis=1).max() < fmax**2)
            if converged or atoms.calc.n_calls >= max_calls:
                break
    except Exception as error:  # ASE's optimizers fail in ways of their own; each is counted
        message = f"{type(error).__name__}: {error}"
    energy = atoms.calc.results.get("energy", float("nan")) / len(atoms)
    ends[k] = {"converged": converged, "calls": atoms.calc.n_calls, "energy": energy, "message": message}
    batches.leave()


def run(structures: list[Atoms], name: str, potential: Potential, fmax: float, max_calls: int) -> list[dict[str, Any]]:
    batches, ends = Batches(potential), [{} for _ in structures]
    threads = [
        threading.Thread(target=relax, args=(atoms, name, batches, fmax, max_calls, ends, k), daemon=True)
        for k, atoms in enumerate(structures)
    ]
    for thread in threads:
        thread.start()
    batches.serve(len(threads))
    return ends


def run_fire(structures: list[Atoms], potential: Potential, fmax: float, max_calls: int) -> list[dict[str, Any]]:
    """The same of our own relaxations."""
    metadata = potential.metadata
    bare = potential.with_metadata(reference_energies=dict.fromkeys(metadata.reference_energies, 0.0))
    return [
        {
            "converged": result.converged,
            "calls": result.n_steps + 1,
            "energy": result.energy / len(result.atoms),
            "message": result.message or (result.reason if result.failed else None),
        }
        for result in mlip.relax(structures, bare, fmax=fmax, steps=max_calls - 1, progress=False)
    ]


def perturbed_crystals(path: Path, count: int) -> list[Atoms]:
    """The first crystals of a file, strained by 3 % a component and rattled by 0.1 A (standard deviations)."""
    text = gzip.decompress(path.read_bytes()).decode() if path.suffix == ".gz" else path.read_text()
    rng = np.random.default_rng(0)
    structures = []
    for found in ase.io.read(io.StringIO(text), f":{count}", format="extxyz"):
        atoms = Atoms(found.numbers, found.positions, cell=found.cell, pbc=found.pbc)
        strain = 0.03 * rng.normal(size=(3, 3))
        atoms.set_cell(atoms.cell.array @ (np.eye(3) + 0.5 * (strain + strain.T)), scale_atoms=True)
        atoms.positions += 0.1 * rng.normal(size=atoms.positions.shape)
        structures.append(atoms)
    return structures


def summary(ends: list[dict[str, Any]], reference: list[dict[str, Any]]) -> dict[str, Any]:
    """Calls where the reference converged too, and how the ends compare in energy."""
    both = [(end, other) for end, other in zip(ends, reference, strict=True) if end["converged"] and other["converged"]]
    counts = {
        "structures": len(ends),
        "converged": sum(end["converged"] for end in ends),
        "errors": sum(end["message"] is not None for end in ends),
        "mean_calls_of_all": float(np.mean([end["calls"] for end in ends])),
        "both_converged": len(both),
    }
    if not both:
        return counts
    calls, reference_calls = (np.array([pair[k]["calls"] for pair in both]) for k in (0, 1))
    energy = np.array([end["energy"] - other["energy"] for end, other in both])
    return counts | {
        "mean_calls": float(calls.mean()),
        "median_calls": float(np.median(calls)),
        "p90_calls": float(np.quantile(calls, 0.9)),
        "mean_calls_over_reference": float(calls.mean() / reference_calls.mean()),
        "ends_lower_by_5_meV_per_atom": int((energy < -0.005).sum()),
        "ends_higher_by_5_meV_per_atom": int((energy > 0.005).sum()),
    }


def ended(path: Path) -> dict[tuple[str, int], list[dict[str, Any]]]:
    """What a file has of earlier runs: by optimizer and first crystal of a hundred."""
    lines = path.read_text().splitlines() if path.exists() else []
    records = [json.loads(line) for line in lines]
    return {(record["optimizer"], record["first"]): record["ends"] for record in records}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("potential")
    parser.add_argument("structures", type=Path)
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--fmax", type=float, default=0.05)
    parser.add_argument("--max-calls", type=int, default=500)
    parser.add_argument("--only", nargs="*", choices=sorted(OPTIMIZERS), default=list(OPTIMIZERS))
    parser.add_argument("--out", type=Path, required=True, help="JSON lines, of one potential and one setting")
    arguments = parser.parse_args()

    potential = mlip.load(arguments.potential)
    structures = perturbed_crystals(arguments.structures, arguments.count)
    settings = potential, arguments.fmax, arguments.max_calls
    set_up_jax()
    names = ["FIRE", *arguments.only]
    for first in range(0, len(structures), _TOGETHER):
        together = structures[first : first + _TOGETHER]
        for name in names:
            if (name, first) not in ended(arguments.out):
                ends = run_fire(together, *settings) if name == "FIRE" else run(together, name, *settings)
                with arguments.out.open("a") as file:
                    file.write(json.dumps({"optimizer": name, "first": first, "ends": ends}) + "\n")
    found = ended(arguments.out)
    all_ends = {name: [end for key, ends in sorted(found.items()) if key[0] == name for end in ends] for name in names}
    for name in names:
        print(name, json.dumps(summary(all_ends[name], all_ends["FIRE"])), flush=True)


if __name__ == "__main__":
    main()
