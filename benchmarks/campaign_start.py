"""A start for campaigns from ALEXANDRIA's published crystals with hull labels, as a store of entries.

python benchmarks/campaign_start.py STRUCTURES.json[.gz] --out entries.h5

STRUCTURES is a list of {mat_id, lattice, species, frac_coords, e_form_pbe, e_above_hull_pbe}.
"""

import argparse
import gzip
import json
from pathlib import Path

import numpy as np
from ase import Atoms

from mlip.data import Frame
from mlip.data.records import Trajectory
from mlip.data.split import assign_split
from mlip.data.writer import StoreWriter


def write_start(structures: Path, out: Path) -> int:
    """The store of the crystals; returns how many."""
    opener = gzip.open if structures.suffix == ".gz" else open
    with opener(structures, "rt") as file:
        records = json.load(file)
    with StoreWriter(out, {"source": structures.name}) as store:
        for record in records:
            atoms = Atoms(record["species"], scaled_positions=record["frac_coords"], cell=record["lattice"], pbc=True)
            frame = Frame(atoms.numbers.astype(np.int16), atoms.positions, atoms.cell.array, np.ones(3, bool))
            labels = {"e_form": record["e_form_pbe"], "e_above_hull": record["e_above_hull_pbe"]}
            split = assign_split(record["mat_id"], 0, (0.8, 0.1, 0.1))
            store.add(Trajectory(record["mat_id"], (frame,), "PBE", 3, labels), split)
    return len(records)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("structures", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    print(f"{write_start(options.structures, options.out)} entries in {options.out}")
