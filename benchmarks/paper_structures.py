"""The materials of paper_protocol.py, of each set one list: DFT-relaxed crystals, layers and relaxation paths from the
data pack's files, and chains built by hand.
"""

import gzip
import io
import json
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import read

from mlip.benchmark.suites.chains import CHAINS

LARGEST_STRESS = 5.0
"""kbar, at the end of a path that is taken for relaxed; smaller ones are what Pulay stress leaves."""
LARGEST_FORCE = 0.1
"""eV/A, likewise."""
SMALLEST_CUTOFF = 400.0
"""eV, of the plane waves of a path; the pack has tests of 240 eV too."""

SETS = ("alexandria-random-1k", "wbm", "layers", "paths", "pbesol-paths", "chains")


def structures(name: str, data: Path) -> list[Atoms]:
    """Of a set of `SETS`, steps of a path one after the other; `data` is the pack's folder."""
    match name:
        case "alexandria-random-1k":
            crystals = _frames(data / "benchmarks" / "alexandria-random-1k.extxyz.gz")
            for atoms in crystals:
                atoms.info["functional"] = "PBE"
            return crystals
        case "wbm":
            return [_wbm(record) for record in read_json(data / "hull" / "wbm_random_equilibrium.json.gz")]
        case "layers":
            layers = enumerate(read_json(data / "lowdim" / "mc2d_2d_structures.json.gz"))
            return [_mc2d(k, record) for k, record in layers] + _mech2d(data)
        case "paths":
            return _relaxed_paths(data / "trajectories" / "pbe_relaxations.extxyz.gz")
        case "pbesol-paths":
            return _relaxed_paths(data / "trajectories" / "pbesol_relaxations.extxyz.gz")
        case "chains":
            return [chain.atoms() for chain in CHAINS]
    raise ValueError(name)


def read_json(path: Path) -> Any:
    with gzip.open(path) as file:
        return json.load(file)


def _frames(path: Path) -> list[Atoms]:
    return read(io.StringIO(gzip.decompress(path.read_bytes()).decode()), ":", format="extxyz")


def _wbm(record: dict[str, Any]) -> Atoms:
    """With VASP's energy, not MP's corrected one: potentials of MP's data are trained on the former."""
    atoms = Atoms(record["species"], scaled_positions=record["frac_coords"], cell=record["lattice"], pbc=True)
    atoms.info = {"material_id": record["material_id"], "functional": "PBE"}
    atoms.calc = SinglePointCalculator(atoms, energy=record["energy"])
    return atoms


def _mc2d(k: int, record: dict[str, Any]) -> Atoms:
    """No total energy is published; the vacuum is along c in all of them."""
    atoms = Atoms(record["species"], record["positions"], cell=record["cell"], pbc=True)
    atoms.info = {"material_id": f"mc2d-{k}-{record['formula']}", "functional": "PBE", "dimensionality": "2D"}
    return atoms


def _mech2d(data: Path) -> list[Atoms]:
    """One unstrained layer of each of the three materials; the other runs hold a strain."""
    unstrained = ("graphene_opt", "alpha-P-R_opt", "GeSe-RC_elc_energy_Def_1_Def_1_005")
    frames = _frames(data / "lowdim" / "pbe_2d_relaxations_mech2d.extxyz.gz")
    return [frame for frame in frames if frame.info["run_id"].removeprefix("mech2d:") in unstrained]


def _relaxed_paths(path: Path) -> list[Atoms]:
    """Those in which the cell relaxes too (ISIF 3) and which end relaxed."""
    chosen = []
    for _, members in groupby(_frames(path), key=lambda atoms: atoms.info["run_id"]):
        frames = list(members)
        last = frames[-1]
        stress = np.abs(last.get_stress()).max() * 1602.1766
        force = np.linalg.norm(last.get_forces(), axis=1).max()
        is_relaxed = stress < LARGEST_STRESS and force < LARGEST_FORCE
        if last.info["isif"] == 3 and last.info["encut"] >= SMALLEST_CUTOFF and is_relaxed:
            chosen += frames
    return chosen
