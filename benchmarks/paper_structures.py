"""The materials of paper_protocol.py, of each set one list: DFT-relaxed crystals, layers and relaxation paths from the
data pack's files, and chains built by hand.
"""

import gzip
import io
import json
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import read

LARGEST_STRESS = 5.0
"""kbar, at the end of a path that is taken for relaxed; smaller ones are what Pulay stress leaves."""
LARGEST_FORCE = 0.1
"""eV/A, likewise."""
SMALLEST_CUTOFF = 400.0
"""eV, of the plane waves of a path; the pack has tests of 240 eV too."""
VACUUM = 15.0
"""A around a chain, as in ALEXANDRIA."""

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
            return [_wbm(record) for record in _json(data / "hull" / "wbm_random_equilibrium.json.gz")]
        case "layers":
            layers = enumerate(_json(data / "lowdim" / "mc2d_2d_structures.json.gz"))
            return [_mc2d(k, record) for k, record in layers] + _mech2d(data)
        case "paths":
            return _relaxed_paths(data / "trajectories" / "pbe_relaxations.extxyz.gz")
        case "pbesol-paths":
            return _relaxed_paths(data / "trajectories" / "pbesol_relaxations.extxyz.gz")
        case "chains":
            return [chain.atoms() for chain in CHAINS]
    raise ValueError(name)


def _json(path: Path) -> Any:
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


class Chain(NamedTuple):
    """A chain along x, as it is in a crystal of chains."""

    name: str
    repeat: float
    """A, by experiment, of the crystal."""
    symbols: list[str]
    sites: list[tuple[float, float, float]]
    """Fraction of the repeat along the chain, and A across."""

    def atoms(self) -> Atoms:
        width = np.ptp(np.array(self.sites)[:, 1:], axis=0) + VACUUM
        positions = np.array(self.sites) * [self.repeat, 1, 1] + [0, *(width / 2)]
        atoms = Atoms(self.symbols, positions, cell=[self.repeat, *width], pbc=True)
        atoms.info = {"material_id": f"chain-{self.name}", "functional": "experiment", "dimensionality": "1D"}
        return atoms


def _helix(name: str, element: str, repeat: float, radius: float) -> Chain:
    """Three atoms a turn."""
    sites = [(k / 3, radius * np.cos(2 * np.pi * k / 3), radius * np.sin(2 * np.pi * k / 3)) for k in range(3)]
    return Chain(name, repeat, [element] * 3, sites)


def _tetrahedra(name: str, metal: str, anion: str, repeat: float, bond: float) -> Chain:
    """Tetrahedra that share edges, in turn across y and z."""
    h = (bond**2 - (repeat / 4) ** 2) ** 0.5
    sites = [(0, 0, 0), (0.5, 0, 0), (0.25, h, 0), (0.25, -h, 0), (0.75, 0, h), (0.75, 0, -h)]
    return Chain(name, repeat, [metal] * 2 + [anion] * 4, sites)


def _squares(name: str, metal: str, anion: str, repeat: float, bond: float) -> Chain:
    """Squares that share edges: a ribbon."""
    h = (bond**2 - (repeat / 2) ** 2) ** 0.5
    return Chain(name, repeat, [metal] + [anion] * 2, [(0, 0, 0), (0.5, h, 0), (0.5, -h, 0)])


CHAINS = (
    _helix("Se", "Se", 4.954, 0.984),
    _helix("Te", "Te", 5.927, 1.173),
    _tetrahedra("SiS2", "Si", "S", 5.547, 2.14),
    _tetrahedra("BeCl2", "Be", "Cl", 5.26, 2.02),
    _squares("PdCl2", "Pd", "Cl", 3.34, 2.31),
    _squares("CuCl2", "Cu", "Cl", 3.30, 2.263),
    Chain(
        "polyethylene",
        2.534,
        ["C"] * 2 + ["H"] * 4,
        [(0, 0.43, 0), (0.5, -0.43, 0), (0, 1.06, 0.89), (0, 1.06, -0.89), (0.5, -1.06, 0.89), (0.5, -1.06, -0.89)],
    ),
    Chain(
        "trans-polyacetylene",
        2.455,
        ["C", "C", "H", "H"],
        [(0, 0.33, 0), (0.53, -0.33, 0), (-0.01, 1.42, 0), (0.54, -1.42, 0)],
    ),
    Chain("HF", 4.26, ["F", "F", "H", "H"], [(0, 0.65, 0), (0.5, -0.65, 0), (0.19, 0.16, 0), (0.69, -0.16, 0)]),
)
"""Repeats of the crystals: Se, Te (trigonal, c), SiS2, BeCl2 (Ibam, c), PdCl2 (Pnnm, b), CuCl2 (C2/m, b), orthorhombic
polyethylene (c), trans-polyacetylene (c), HF (Cmc2_1, b). Sites across the chain are rough."""
