"""A small world of alloys on ASE's EMT surface: a start of binary crystals, their hull, recipes that take seconds."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.filters import FrechetCellFilter
from ase.optimize import FIRE
from omegaconf import OmegaConf

from mlip.campaign.campaign_recipe import CampaignRecipe
from mlip.data import Frame, StoreWriter, Trajectory

SYMBOLS = ("Al", "Cu", "Ni", "Pd")
SURROGATE = "ase:ase.calculators.emt:EMT"
TRAINING = {
    "data": {"store": "entries.h5", "workers": 0},
    "model": {
        "model": "cgat",
        "features": 8,
        "shell_features": 8,
        "heads": 2,
        "n_steps": 2,
        "composition_steps": 1,
        "output_widths": [8],
        "rezero": False,
        "element_features": 8,
    },
    "property": {"name": "e_above_hull", "loss": "mae"},
    "train": {"epochs": 2, "batch_size": 8, "learning_rate": 0.001, "ema_decay": None, "checkpoint_every": 1},
    "out": "run",
}


def cesium_chloride(first: str, second: str, a: float = 2.9) -> Atoms:
    return Atoms([first, second], scaled_positions=[[0, 0, 0], [0.5] * 3], cell=a * np.eye(3), pbc=True)


def auricupride(first: str, second: str, a: float = 3.8) -> Atoms:
    faces = [[0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]
    return Atoms([first, second, second, second], scaled_positions=[[0, 0, 0], *faces], cell=a * np.eye(3), pbc=True)


def relaxed(atoms: Atoms) -> tuple[Frame, float]:
    """The crystal relaxed on EMT's surface, and its energy, eV/atom."""
    atoms = atoms.copy()
    atoms.calc = EMT()
    FIRE(FrechetCellFilter(atoms), logfile=None).run(fmax=0.02, steps=200)
    energy = atoms.get_potential_energy()
    frame = Frame(atoms.numbers.astype(np.int16), atoms.positions, atoms.cell.array, np.ones(3, bool), energy)
    return frame, energy / len(atoms)


def write_world(folder: Path, model: Path, potential: Path) -> dict[str, Any]:
    """Start, hull and elements in a folder; a recipe's values without `out`."""
    elements = {symbol: relaxed(bulk(symbol, "fcc", cubic=False))[1] for symbol in SYMBOLS}
    pairs = [("Al", "Cu"), ("Al", "Ni"), ("Cu", "Pd"), ("Ni", "Pd")]
    phases = [{"mat_id": f"element-{symbol}", "composition": {symbol: 1}, "e_form": 0.0} for symbol in SYMBOLS]
    with StoreWriter(folder / "start.h5") as store:
        for number, (first, second) in enumerate([*pairs, *((b, a) for a, b in pairs)]):
            crystal = cesium_chloride(first, second) if number < len(pairs) else auricupride(first, second)
            frame, energy = relaxed(crystal)
            fractions = {symbol: list(crystal.symbols).count(symbol) for symbol in (first, second)}
            mixed = sum(n * elements[symbol] for symbol, n in fractions.items()) / len(crystal)
            labels = {"e_form": energy - mixed, "e_above_hull": 0.0}
            store.add(Trajectory(f"start-{number}", (frame,), "PBE", 3, labels), "train")
            if number % 2:
                phases.append({"mat_id": f"start-{number}", "composition": fractions, "e_form": energy - mixed})
    (folder / "phases.json").write_text(json.dumps(phases))
    (folder / "elements.json").write_text(json.dumps(elements))
    (folder / "training.yaml").write_text(OmegaConf.to_yaml(OmegaConf.create(TRAINING)))
    return {
        "start": {
            "entries": str(folder / "start.h5"),
            "hull": [str(folder / "phases.json")],
            "elements": str(folder / "elements.json"),
            "check": 2,
        },
        "prototypes": {"sites": [2], "max_atoms": 8},
        "elements": {"among": list(SYMBOLS)},
        "model": {"recipe": str(folder / "training.yaml"), "start": str(model), "retrain_after": 1},
        "keep": {"below": {2: 1e6}, "at_most": 3},
        "random": 2,
        "relax": {"potential": str(potential), "steps": 1, "symmetry": False},
        "dft": {"kind": "ase", "calculator": SURROGATE, "steps": 60},
        "lowest": -5.0,
        "split": [0.6, 0.2, 0.2],
        "rounds": 2,
    }


def recipe_of(values: dict[str, Any], out: Path, **changes: Any) -> CampaignRecipe:
    return CampaignRecipe.model_validate({**values, **changes, "out": str(out)})
