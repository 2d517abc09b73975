"""Published crystals and layers that the default potential's training set starts from, as they were relaxed by DFT.

Files are those of the data pack (its README names the repositories they are from): ALEXANDRIA's superconductors, binary
crystals of the elasticity and phonon benchmarks of MatCalc, crystals with hull labels, the layers of MC2D, and small
samples of the Materials Project, OQMD and JARVIS.
"""

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
from ase import Atoms
from parents import Parent, with_vacuum
from pymatgen.core import Structure

MOST_ATOMS = 20
"""Atoms of a cell: larger ones cost as much as several small ones, and show fewer environments."""
CRYSTALS = {
    "superconductors": "properties/alexandria_superconductors.json.gz",
    "elasticity": "properties/mp_binary_elasticity.json.gz",
    "phonons": "properties/alexandria_binary_phonon_cv.json.gz",
    "hull": "hull/alexandria_structures_with_hull_labels.json.gz",
}
SAMPLES = {
    "mp": "hull/materials_project_devset.json.gz",
    "alexandria": "alexandria/alexandria_pbe_devset.json.gz",
    "oqmd": "hull/oqmd_devset.json.gz",
    "lifeo": "hull/mp_Li-Fe-O_computed_structure_entries.json.gz",
    "tio2": "hull/pymatgen_TiO2_entries.json.gz",
    "jarvis": "properties/alignn_sample_bandgap.json.gz",
}
"""Fewer, but more of them oxides and salts, and larger."""
LAYERS = "lowdim/mc2d_2d_structures.json.gz"
HELD_OUT = {
    "alexandria-random-1k": "benchmarks/alexandria-random-1k.extxyz.gz",
    "mptrj-random-1k": "benchmarks/mptrj-random-1k.extxyz.gz",
    "mptrj-highest-stress-1k": "benchmarks/mptrj-highest-stress-1k.extxyz.gz",
    "wbm-random": "hull/wbm_random_equilibrium.json.gz",
    "dft-relaxations": "trajectories/pbe_relaxations.extxyz.gz",
    "dft-md": "trajectories/pbe_md.extxyz.gz",
    "layers-2d": "lowdim/pbe_2d_relaxations_mech2d.extxyz.gz",
}
"""Test sets of the default potential."""


def real_parents(data: Path) -> Iterator[Parent]:
    """Crystals and layers of the pack, each under the id of its file and its own."""
    yield from _crystals(data, CRYSTALS)
    for k, record in enumerate(_records(data / LAYERS)):
        atoms = Atoms(record["species"], record["positions"], cell=record["cell"], pbc=True)
        if len(atoms) <= MOST_ATOMS:
            yield Parent(f"mc2d-{k:04d}-{record['formula']}", with_vacuum(atoms, 2), "layer")


def sample_parents(data: Path) -> Iterator[Parent]:
    """Crystals of the samples."""
    return _crystals(data, SAMPLES)


def _crystals(data: Path, files: dict[str, str]) -> Iterator[Parent]:
    for source, name in files.items():
        for k, record in enumerate(_records(data / name)):
            atoms = _crystal(record)
            if len(atoms) <= MOST_ATOMS:
                identity = next((record[key] for key in ("mat_id", "mp_id", "entry_id", "jid") if key in record), k)
                yield Parent(f"{source}-{identity}", atoms, "crystal")


def held_out_structures(data: Path) -> Iterator[tuple[str, str, Atoms]]:
    """Test set, id in it and structure of all that training must not see; of a path, its first and last frames."""
    for test_set, name in HELD_OUT.items():
        if name.endswith(".json.gz"):
            for record in _records(data / name):
                yield test_set, record["material_id"], _crystal(record)
            continue
        with gzip.open(data / name, "rt") as file:
            frames = ase.io.read(file, ":", format="extxyz")
        paths: dict[str, list[Atoms]] = {}
        for k, atoms in enumerate(frames):
            keys = ("alexandria_id", "mptrj_snapshot_id", "run_id")
            identity = next((str(atoms.info[key]) for key in keys if key in atoms.info), str(k))
            paths.setdefault(identity, []).append(atoms)
        for identity, path in paths.items():
            yield test_set, identity, path[0]
            if len(path) > 1:
                yield test_set, identity, path[-1]


def _records(path: Path) -> list[dict[str, Any]]:
    with gzip.open(path, "rt") as file:
        return json.load(file)


def _crystal(record: dict[str, Any]) -> Atoms:
    if "structure" in record:
        return Structure.from_dict(record["structure"]).to_ase_atoms(msonable=False)
    species = record["species"] if "species" in record else record["atomic_numbers"]
    cell = record["lattice"] if "lattice" in record else record["cell"]
    return Atoms(species, scaled_positions=np.array(record["frac_coords"], dtype=float), cell=cell, pbc=True)
