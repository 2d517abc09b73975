"""Relaxations a second: ours, thousands at once, against ASE's FIRE with a peer's calculator one by one, and against
torch-sim, which batches too.

    python benchmarks/relax.py --data alexandria-random-1k.extxyz.gz --weights matgl.safetensors \\
        --peer matgl --peer-python peers/matgl/bin/python --peer-weights .../M3GNet-MP-2021.2.8-PES
    python benchmarks/relax.py --data alexandria-random-1k.extxyz.gz --weights mace.safetensors \\
        --peer torch_sim --peer-python peers/torch_sim/bin/python --peer-weights mace.model --atoms-at-once 64 128

The peers' environments (Python 3.11): `benchmarks/m3gnet.py` has matgl's;

    torch_sim:  pip install torch==2.13.0 (its CPU build)
                pip install torch-sim-atomistic==0.3.0 mace-torch==0.3.16

Crystals of the file are moved away from their minimum: every atom by 0.1 A in a random direction, the cell by a
symmetric strain with components between -3 and 3 %. All sides take the same, with FIRE and the Frechet cell: fmax
0.05 eV/A, 500 steps. A run is from atoms to relaxed atoms; each side has one before it that is not timed (ours, the
whole job, until nothing is left to compile: `first_seconds` is the first one, `compile_seconds` what was left).
`idle` is the share of the time in which none of our batches was on the device.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import ase.io
import numpy as np
from ase import Atoms
from rich.console import Console
from side_by_side import SIDES, Side, machine, pin

FMAX, STEPS = 0.05, 500
SAME_MINIMUM = 1e-3
"""eV/atom."""


def perturbed(atoms: Atoms, rng: np.random.Generator, length: float = 0.1, strain: float = 0.03) -> Atoms:
    """A copy whose atoms are `length` A off and whose cell is strained by up to `strain` in each component."""
    atoms = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
    components = rng.uniform(-strain, strain, size=(3, 3))
    deformation = np.eye(3) + (components + components.T) / 2
    atoms.set_cell(atoms.cell.array @ deformation, scale_atoms=True)
    directions = rng.normal(size=(len(atoms), 3))
    atoms.positions += length * directions / np.linalg.norm(directions, axis=1, keepdims=True)
    return atoms


def known_to_all(structures: list[Atoms], sides: list[Side]) -> list[Atoms]:
    elements = set.intersection(*(set(side.introduction["elements"]) for side in sides))
    return [atoms for atoms in structures if elements.issuperset(atoms.get_chemical_symbols())]


def summary(check: dict[str, Any], n_structures: int) -> dict[str, Any]:
    """What a side's run says, without its lists."""
    record = {
        "seconds": round(check["seconds"], 3),
        "relaxations_per_s": round(n_structures / check["seconds"], 3),
        "converged": int(np.sum(check["converged"])),
    }
    if "steps" in check:
        record["mean_steps"] = round(float(np.mean(check["steps"])), 1)
    return record | {
        key: round(check[key], 4)
        for key in ("first_seconds", "compile_seconds", "padded", "idle", "shapes")
        if key in check
    }


def agreement(mine: dict[str, Any], theirs: dict[str, Any], n_atoms: np.ndarray) -> dict[str, Any]:
    """Of the crystals that converged on both sides, how many ended at the same energy."""
    both = np.array(mine["converged"]) & np.array(theirs["converged"])
    gaps = np.abs(np.array(mine["energy"]) - np.array(theirs["energy"]))[both] / n_atoms[both]
    return {
        "converged_on_both": int(both.sum()),
        "same_energy": int((gaps < SAME_MINIMUM).sum()),
        "median_gap_ev_atom": float(f"{np.median(gaps):.2g}") if both.any() else None,
    }


def faults(runs: list[dict[str, Any]]) -> list[str]:
    """Runs whose sides, with the same weights, ended in other minima. Single crystals may: the median must not."""
    found = []
    for run in runs:
        gap = run["agreement"]["median_gap_ev_atom"]
        if gap is None:
            found.append(f"{run['options']}: no crystal converged on both sides")
        elif not gap < SAME_MINIMUM:
            found.append(f"{run['options']}: energies differ by {gap} eV/atom in the median")
    return found


def measure(options: argparse.Namespace, console: Console) -> dict[str, Any]:
    pin(options.threads)
    peer_threads = options.peer_threads or options.threads
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ours = Side(
            "mlip",
            [sys.executable, SIDES / "mlip_relax_side.py", options.weights, "--threads", options.threads],
            options.threads,
            folder / "mlip.log",
        )
        script = {"matgl": "matgl_relax_side.py", "torch_sim": "torch_sim_side.py"}[options.peer]
        peer = Side(
            options.peer,
            [options.peer_python, SIDES / script, options.peer_weights, "--threads", peer_threads],
            peer_threads,
            folder / "peer.log",
        )
        with ours, peer:
            crystals = known_to_all(ase.io.read(options.data, ":"), [ours, peer])[: options.structures]
            crystals = [perturbed(atoms, rng) for atoms in crystals]
            path = folder / "crystals.extxyz"
            ase.io.write(path, crystals)
            n_atoms = np.array([len(atoms) for atoms in crystals])
            console.print(f"{len(crystals)} crystals, {n_atoms.sum()} atoms, {n_atoms.max()} in the largest")
            choices = [{"atoms_at_once": n} for n in options.atoms_at_once] if options.peer == "torch_sim" else [{}]
            runs = [
                race(ours, peer, path, n_atoms, choice, console) for _ in range(options.repeats) for choice in choices
            ]
        sides = {side.name: {k: v for k, v in side.introduction.items() if k != "elements"} for side in (ours, peer)}
    fastest = min(median(r["peer"]["seconds"] for r in runs if r["options"] == choice) for choice in choices)
    ratio = fastest / median(run["ours"]["seconds"] for run in runs)
    console.print(f"[bold]{ratio:.1f} times[/] {options.peer}, medians, its best choice")
    return {
        "threads": options.threads,
        "sides": sides,
        "structures": len(crystals),
        "ratio": round(ratio, 2),
        "runs": runs,
    }


def race(ours: Side, peer: Side, path: Path, n_atoms: np.ndarray, choice: dict[str, Any], console: Console) -> dict:
    """One run of each side."""
    task = {"fmax": FMAX, "steps": STEPS}
    checks = {}
    for key, side, extra in (("ours", ours, {}), ("peer", peer, choice)):
        request = {"do": "prepare", "job": key, "task": "relax", "structures": str(path)}
        checks[key] = side.ask(**request, options=task | extra)["check"]
    record = {key: summary(check, len(n_atoms)) for key, check in checks.items()}
    record |= {"options": choice, "agreement": agreement(checks["ours"], checks["peer"], n_atoms)}
    console.print_json(json.dumps(record))
    return record


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="crystals at their minimum, anything ASE reads")
    parser.add_argument("--weights", required=True, help="our potential")
    parser.add_argument("--peer", choices=["matgl", "torch_sim"], required=True)
    parser.add_argument("--peer-python", required=True)
    parser.add_argument("--peer-weights", required=True, help="the same weights as the peer reads them")
    parser.add_argument("--atoms-at-once", type=int, nargs="+", default=[128], help="torch-sim's batch; all are tried")
    parser.add_argument("--structures", type=int, default=256)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--peer-threads", type=int, help="where the peer is faster with fewer; default: as ours")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--out", type=Path, help="write the results here as JSON")
    options = parser.parse_args()
    report = machine() | {"data": options.data.name, "fmax": FMAX, "steps": STEPS}
    report |= measure(options, Console(width=120))
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(report, indent=1) + "\n")
    found = faults(report["runs"])
    for fault in found:
        print(f"FAULT {fault}")
    return int(bool(found))


if __name__ == "__main__":
    raise SystemExit(main())
