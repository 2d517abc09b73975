"""A campaign with a surrogate in the place of DFT, from ALEXANDRIA's published hull labels: does each round find more?

python benchmarks/campaign.py DATA --potential m3gnet --surrogate nequix-oam-1 --out FOLDER
    [--rounds 3] [--at-most 600] [--random 600] [--max-atoms 14] [--report RESULTS.md] [--kills 5]

DATA holds hull/alexandria_structures_with_hull_labels.json.gz (crystals with formation energies and distances to the
hull) and hull/alexandria_pbe_phases.json.gz (phases of the hull; layers, agm2000..., are left out). The surrogate is
another potential than the one that relaxes before. Killed, the same command goes on. A small CGAT is trained anew from
the last one in each round; candidates by chance are calculated beside those that it proposes. With --kills the campaign
is repeated in FOLDER/killed, killed with signal 9 so many times at random moments, and compared with the first one.
"""

import argparse
import gzip
import json
import os
import platform
import subprocess
import sys
from collections import Counter
from datetime import date
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from omegaconf import OmegaConf
from roofline import measure_limits

from mlip.campaign.report.costs import (
    PAPER_CALCULATIONS,
    PAPER_CANDIDATES,
    STEPS,
    candidates_a_second,
    projected,
    step_seconds,
)
from mlip.campaign.report.rounds import Campaign, read_campaign
from mlip.campaign.report.statistics import NEAR, Rate, hit_rate, median
from mlip.data import Frame
from mlip.data.records import Trajectory
from mlip.data.split import assign_split
from mlip.data.writer import StoreWriter
from mlip.hull.growing import GrowingHull

ELEMENTS = [
    "Mo",
    "Nb",
    "Ta",
    "Zr",
    "Ti",
    "Hf",
    "Re",
    "Al",
    "Ru",
    "Cu",
    "Si",
    "Ni",
    "Y",
    "La",
    "Sc",
    "Ga",
    "Pt",
    "Ge",
    "Co",
    "Os",
    "Pd",
    "V",
    "Sn",
    "Au",
    "Mn",
    "Cr",
    "C",
    "B",
]
"""Those of the start's crystals."""
LAYERS = "agm2000"
H200_BANDWIDTH = 4.8e12
"""Bytes a second, from NVIDIA's data sheet."""
ON_DEVICE = (STEPS["screen"], STEPS["relax"], STEPS["dft"])
"""Steps that a GPU does."""
CGAT = {
    "data": {"store": "entries.h5", "workers": 0},
    "model": {
        "model": "cgat",
        "n_neighbors": 12,
        "features": 32,
        "shell_features": 64,
        "heads": 3,
        "n_steps": 3,
        "composition_steps": 2,
        "output_widths": [128, 128, 64],
        "element_features": 64,
    },
    "property": {"name": "e_above_hull", "largest": 4.0, "loss": "mae"},
    "train": {
        "epochs": 60,
        "batch_size": 32,
        "learning_rate": 1e-3,
        "optimizer": "adamw",
        "weight_decay": 1e-6,
        "schedule": {"kind": "cosine", "warmup_steps": 50, "final_fraction": 0.02},
        "ema_decay": None,
        "validate_every": 2,
    },
    "out": "run",
}


def read_json(path: Path) -> list[dict[str, Any]]:
    with gzip.open(path, "rt") as file:
        return json.load(file)


def write_start(structures: Path, out: Path) -> None:
    """The store of entries."""
    with StoreWriter(out, {"source": structures.name}) as store:
        for record in read_json(structures):
            atoms = Atoms(record["species"], scaled_positions=record["frac_coords"], cell=record["lattice"], pbc=True)
            frame = Frame(atoms.numbers.astype(np.int16), atoms.positions, atoms.cell.array, np.ones(3, bool))
            labels = {"e_form": record["e_form_pbe"], "e_above_hull": record["e_above_hull_pbe"]}
            split = assign_split(record["mat_id"], 0, (0.8, 0.1, 0.1))
            store.add(Trajectory(record["mat_id"], (frame,), "PBE", 3, labels), split)


def write_phases(phases: Path, out: Path) -> None:
    """The hull's references."""
    out.write_text(json.dumps([one for one in read_json(phases) if not one["mat_id"].startswith(LAYERS)]))


def recipe(options: argparse.Namespace, folder: Path, out: str) -> dict[str, Any]:
    return {
        "start": {
            "entries": str(folder / "start.h5"),
            "hull": [str(folder / "alexandria_pbe_phases.json")],
            "elements": "calculate",
            "check": options.check,
        },
        "prototypes": {"further": ["aflow"], "sites": [2, 3], "max_atoms": options.max_atoms},
        "elements": {"among": options.elements},
        "model": {"recipe": str(folder / "cgat.yaml"), "retrain_after": 100},
        "keep": {"below": {2: 0.2, 3: 0.1}, "at_most": options.at_most},
        "random": options.random,
        "relax": {"potential": options.potential},
        "dft": {"kind": "ase", "calculator": options.surrogate},
        "rounds": options.rounds,
        "seed": options.seed,
        "out": str(folder / out),
    }


def prepare(options: argparse.Namespace, folder: Path, out: str = "campaign") -> Path:
    """Start, hull and recipes in a folder, if they are not there; the recipe of the campaign in its subfolder `out`."""
    folder.mkdir(parents=True, exist_ok=True)
    hull = options.data / "hull"
    if not (folder / "start.h5").exists():
        write_start(hull / "alexandria_structures_with_hull_labels.json.gz", folder / "start.h5")
    if not (folder / "alexandria_pbe_phases.json").exists():
        write_phases(hull / "alexandria_pbe_phases.json.gz", folder / "alexandria_pbe_phases.json")
    training = CGAT | {"train": CGAT["train"] | {"epochs": options.epochs}}
    (folder / "cgat.yaml").write_text(OmegaConf.to_yaml(OmegaConf.create(training)))
    path = folder / f"{out}.yaml"
    path.write_text(OmegaConf.to_yaml(OmegaConf.create(recipe(options, folder, out))))
    return path


def run_killed(path: Path, kills: int, seconds: float, rng: np.random.Generator) -> list[float]:
    """Run a campaign to its end, with kills after random times; the times.

    Args:
        seconds: about what the campaign takes.
    """
    command, moments = [sys.executable, "-m", "mlip", "campaign", str(path), "--json"], []
    while len(moments) < kills:
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            moments.append(round(float(rng.uniform(5, 2 * seconds / (kills + 1))), 1))
            try:
                process.wait(moments[-1])
                break  # it was done before
            except subprocess.TimeoutExpired:
                process.kill()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return moments


def differences(first: Path, second: Path) -> list[str]:
    """Where two campaigns are not the same, times apart."""
    found = []
    for summary in sorted(first.glob("rounds/*/summary.json")):
        other = second / summary.relative_to(first)
        mine, theirs = (json.loads(path.read_text()) for path in (summary, other))
        found += [
            f"{summary.parent.name}: {key}"
            for key in mine
            if key not in ("seconds", "model") and mine[key] != theirs.get(key)
        ]
        for name in ("proposals.json", "outcomes.json"):
            if (summary.with_name(name)).read_text() != other.with_name(name).read_text():
                found.append(f"{summary.parent.name}: {name}")
    hulls = [GrowingHull.load(path / "hull.npz") for path in (first, second)]
    if hulls[0].ids != hulls[1].ids or (hulls[0].distances != hulls[1].distances).any():
        found.append("hull")
    return found


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("data", type=Path)
    made.add_argument("--potential", default="m3gnet", help="relaxes before the surrogate")
    made.add_argument("--surrogate", default="nequix-oam-1", help="in the place of DFT")
    made.add_argument("--rounds", type=int, default=3)
    made.add_argument("--at-most", type=int, default=600, help="candidates of the model, each round")
    made.add_argument("--random", type=int, default=600, help="candidates by chance, each round")
    made.add_argument("--max-atoms", type=int, default=14, help="of a prototype")
    made.add_argument("--elements", nargs="+", default=ELEMENTS)
    made.add_argument("--check", type=int, default=60, help="entries of the start that the surrogate calculates again")
    made.add_argument("--epochs", type=int, default=60, help="of each training")
    made.add_argument("--seed", type=int, default=0)
    made.add_argument("--out", type=Path, required=True)
    made.add_argument("--kills", type=int, default=0, help="repeat the campaign, and kill it so many times")
    made.add_argument("--report", type=Path, help="Markdown file of the results")
    return made


def main() -> None:
    options = parser().parse_args()
    path = prepare(options, options.out.absolute())
    subprocess.run([sys.executable, "-m", "mlip", "campaign", str(path)], check=True)
    text = described(options.out / "campaign")
    if options.kills:
        killed = prepare(options, options.out.absolute(), "killed")
        campaign = read_campaign(options.out / "campaign")
        took = sum(one.seconds for one in campaign.rounds)
        moments = run_killed(killed, options.kills, took, np.random.default_rng(options.seed))
        differing = differences(options.out / "campaign", options.out / "killed")
        same = (
            f"not the same: {', '.join(differing)}" if differing else "the same candidates, outcomes, energies and hull"
        )
        text += f"\nRepeated and killed with signal 9 after {', '.join(map(str, moments))} s: {same}.\n"
    if options.report:
        options.report.write_text(text)
    print(text)


def described(folder: Path) -> str:
    """The tables of a campaign, as Markdown."""
    campaign = read_campaign(folder)
    references = json.loads((folder / "references" / "elements.json").read_text())
    entries = sum(one.count("outcomes", "finished") for one in campaign.rounds)
    lines = [
        "# A campaign with a surrogate in the place of DFT",
        "",
        f"{date.today().isoformat()}, {machine()}, `benchmarks/campaign.py`. {len(campaign.rounds)} rounds, "
        f"{entries:.0f} calculations finished.",
        *campaign.notes,
        f"Entries of the start, calculated again: {references['check']}.",
        "",
        "Distances to the hull as it was before the round, eV/atom; intervals of 95 % (Wilson, bootstrap).",
        "",
        "| round | candidates | chosen by | calculated | on or below the hull, per 1000 | within 50 meV/atom, per 1000 "
        "| median | new on the hull | MAE of the model |",
        "| ---: | ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for one in campaign.rounds:
        for way, name in (("proposed", "model"), ("random", "chance")):
            distances = one.distances(way)
            hits, near, middle = hit_rate(distances), hit_rate(distances, NEAR), median(distances)
            lines.append(
                f"| {one.number} | {one.count('candidates'):,.0f} | {name} | {len(distances)} | {_rate(hits)} | "
                f"{_rate(near)} | {middle.value:.3f} ({middle.interval.low:.3f}-{middle.interval.high:.3f}) | "
                f"{one.count('hull', 'new_vertices'):.0f} | {one.count('model', 'test_mae'):.3f} |"
            )
    lines += ["", "| step | seconds, all rounds |", "| --- | ---: |"]
    lines += [f"| {step} | {seconds:,.0f} |" for step, seconds in step_seconds(campaign.rounds).items()]
    rates = ", ".join(f"{candidates_a_second(one):,.0f}" for one in campaign.rounds)
    lines += ["", f"Candidates a second, end to end, by round: {rates}.", ""]
    lines += _projection(campaign)
    lines += ["", "| what became of candidates | by model | by chance |", "| --- | ---: | ---: |"]
    reasons = Counter({}), Counter({})
    for one in campaign.rounds:
        for counter, way in zip(reasons, ("proposed", "random"), strict=True):
            counter.update(one.record["outcomes_of"][way])
    lines += [
        f"| {reason} | {reasons[0][reason]} | {reasons[1][reason]} |" for reason in dict.fromkeys(chain(*reasons))
    ]
    return "\n".join(lines) + "\n"


def _projection(campaign: Campaign) -> list[str]:
    """What as much as the paper's would take on this machine, and on a GPU that reaches the same share of its memory's
    bandwidth."""
    bandwidth = measure_limits().bytes
    faster = H200_BANDWIDTH / bandwidth
    lines = [
        f"{PAPER_CANDIDATES:.1e} candidates and {PAPER_CALCULATIONS:.1e} calculations, as many as the paper's, at "
        "these rates. GPU hours: of an H200 if its programs reach the same share of the memory's bandwidth as here "
        f"({bandwidth / 1e9:.0f} GB/s measured by copies, {H200_BANDWIDTH / 1e12:.1f} TB/s on its data sheet: "
        f"{faster:.0f} times); none was measured. With real DFT the calculations cost what VASP costs.",
        "",
        "| step | rate | of | hours of this machine | GPU hours, estimated |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for cost in projected(campaign):
        on_gpu = f"{cost.hours / faster:,.0f}" if cost.step in ON_DEVICE else "-"
        lines.append(
            f"| {cost.step} | {cost.rate:,.1f} {cost.units} a second | {cost.n:.2g} | {cost.hours:,.0f} | {on_gpu} |"
        )
    return lines


def _rate(rate: Rate) -> str:
    return f"{rate.per_thousand:.0f} ({rate.interval.low:.0f}-{rate.interval.high:.0f})"


def machine() -> str:
    return f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores"


if __name__ == "__main__":
    main()
